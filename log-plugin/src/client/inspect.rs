//! `docker pglog inspect CONTAINER...`.

use plugin_sdk::cli::{Failure, Nothing, Session, text};
use serde::Serialize;

use super::container;
use crate::api::answers::List;

/// Which containers.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Of which container.
#[derive(Debug, Serialize)]
struct Of {
    container: String,
}

impl Inspect {
    /// All that can be shown is shown, whatever is wrong with the others.
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let known: List = session.ask("/Pglog.List", &Nothing {})?;
        let get = |word: &str| {
            let container = container::find(session, &known.containers, word)?;
            session.call("/Pglog.Inspect", &Of { container })
        };
        session.show_each(self.containers, get, text::outline, "\n")
    }
}
