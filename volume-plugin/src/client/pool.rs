//! `docker pgvol pool shrink POOL`.

use clap::Subcommand;
use plugin_sdk::cli::{Failure, Session, text};

use crate::api::pools::{GiveBack, GivenBack};

/// What is to be done with a pool.
#[derive(Debug, clap::Args)]
pub struct Pool {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Give the host back what the pool does not need ahead of use
    Shrink {
        /// Name of a pool
        #[arg(value_name = "POOL", default_value = "default")]
        pool: String,
    },
}

impl Pool {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Deed::Shrink { pool } = self.deed;
        let answer = session.call("/Pgvol.GiveBack", &GiveBack { pool })?;
        session.show(answer, |done: GivenBack| {
            format!("{}: {} given back\n", done.pool, text::bytes(done.given))
        })
    }
}
