//! `docker pgvol release-reserve VOLUME`.

use plugin_sdk::cli::{Failure, Session};

use crate::api::change;

/// Of what.
#[derive(Debug, clap::Args)]
pub struct ReleaseReserve {
    /// Name of a volume
    #[arg(value_name = "VOLUME")]
    volume: String,
}

impl ReleaseReserve {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let name = self.volume;
        let answer = session.call("/Pgvol.ReleaseReserve", &change::ReleaseReserve { name })?;
        session.show(answer, super::done)
    }
}
