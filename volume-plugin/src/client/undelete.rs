//! `docker pgvol undelete VOLUME [--as NAME]`.

use plugin_sdk::cli::{Failure, Session};

use crate::api::trash;

/// Which, and what it shall be called.
#[derive(Debug, clap::Args)]
pub struct Undelete {
    /// Name of a removed volume, for the last removed of that name, or an id of `docker pgvol trash`
    #[arg(value_name = "REMOVED")]
    removed: String,
    /// What it is called from now on
    #[arg(long = "as", value_name = "NAME")]
    new_name: Option<String>,
}

impl Undelete {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { removed: name, new_name } = self;
        let answer = session.call("/Pgvol.Undelete", &trash::Undelete { name, new_name })?;
        session.show(answer, |done: trash::Undeleted| format!("{}\n", done.name))
    }
}
