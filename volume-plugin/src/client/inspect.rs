//! `docker pgvol inspect VOLUME...`.

use plugin_sdk::cli::{Failure, Session, text};
use serde_json::{Value, json};

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
        session.show_each(
            self.volumes,
            |name| session.call("/Pgvol.Inspect", &json!({"name": name})),
            render,
        )
    }
}

fn render(volume: &Value) -> String {
    text::outline(volume)
}
