//! `docker pgvol move VOLUME ROLE POOL`.

use plugin_sdk::cli::{Failure, Session};

use crate::api::change;

/// What is to be moved, and where to.
#[derive(Debug, clap::Args)]
pub struct Move {
    /// Name of a volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// What of it: `wal`
    #[arg(id = "moved", value_name = "ROLE")]
    role: String,
    /// Name of a pool
    #[arg(value_name = "POOL")]
    pool: String,
}

impl Move {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { volume: name, role, pool } = self;
        let answer = session.call("/Pgvol.Move", &change::Move { name, role, pool })?;
        session.show(answer, super::done)
    }
}
