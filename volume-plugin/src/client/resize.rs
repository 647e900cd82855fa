//! `docker pgvol resize VOLUME SIZE`.

use plugin_sdk::cli::{Failure, Session};

use crate::api::change;

/// What shall hold how much.
#[derive(Debug, clap::Args)]
pub struct Resize {
    /// Name of a volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// What it may hold from here on, such as 40G; none for as much as there is
    #[arg(value_name = "SIZE")]
    size: String,
}

impl Resize {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { volume: name, size } = self;
        let set = [("size".to_owned(), size)].into();
        let answer = session.call("/Pgvol.Set", &change::Set { name, set, unset: Vec::new() })?;
        session.show(answer, |done: change::Done| format!("{}\n", done.name))
    }
}
