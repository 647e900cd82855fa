//! `docker pgvol inspect VOLUME...`.

use plugin_sdk::cli::{Failure, Session, text};
use serde_json::json;

/// Which volumes.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// Names of volumes
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

impl Inspect {
    /// All that can be shown is shown, whatever is wrong with the others.
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let get = |name: &str| session.call("/Pgvol.Inspect", &json!({"name": name}));
        session.show_each(self.volumes, get, text::outline, "\n")
    }
}
