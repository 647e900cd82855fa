//! `docker pgvol purge REMOVED...`.

use plugin_sdk::cli::{Failure, Session};

use crate::api::trash;

/// What is to be deleted for good.
#[derive(Debug, clap::Args)]
pub struct Purge {
    /// Names of removed volumes, for all of that name, or ids of `docker pgvol trash`
    #[arg(value_name = "REMOVED", required_unless_present = "all", conflicts_with = "all")]
    removed: Vec<String>,
    /// Everything that was removed
    #[arg(long)]
    all: bool,
}

impl Purge {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { removed: names, all } = self;
        let answer = session.call("/Pgvol.Purge", &trash::Purge { names, all })?;
        session.show(answer, |purged: trash::Purged| {
            purged.ids.into_iter().map(|id| id + "\n").collect()
        })
    }
}
