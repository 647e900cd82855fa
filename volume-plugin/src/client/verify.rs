//! `docker pgvol verify SNAPSHOT [--pages]`.

use plugin_sdk::cli::{Failure, Session, text};

use crate::api::snapshots::{self, Passed};

/// Which, and how closely.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Name of a snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// Look at every page: its checksum, and that the WAL reaches as far as what wrote it
    #[arg(long)]
    pages: bool,
}

impl Verify {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { snapshot: name, pages } = self;
        let answer = session.call("/Pgvol.Verify", &snapshots::Verify { name, pages })?;
        session.show(answer, render)
    }
}

fn render(passed: Passed) -> String {
    let rows = passed.checks.into_iter().map(|check| [check.name, check.found]);
    text::table(["CHECK", "FOUND"], rows)
}
