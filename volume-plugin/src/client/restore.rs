//! `docker pgvol restore VOLUME@SNAPSHOT`.

use plugin_sdk::cli::{Failure, Session};

use super::snapshot::is_one;
use crate::api::snapshots::{self, Restored};

/// To which snapshot, and what becomes of what there is now.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// Name of a snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// What the snapshot of the present state shall be called, without the volume [default: by the time]
    #[arg(long, value_name = "NAME")]
    keep_as: Option<String>,
}

impl Restore {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { snapshot: name, keep_as } = self;
        is_one(&name)?;
        let asked = snapshots::Restore { name, keep: keep_as.unwrap_or_default() };
        session.show(session.call("/Pgvol.Restore", &asked)?, |restored: Restored| {
            format!("{}\n", restored.kept)
        })
    }
}
