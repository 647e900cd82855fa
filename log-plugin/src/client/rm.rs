//! `docker pglog rm CONTAINER...`: deletes stored logs.

use plugin_sdk::cli::{Failure, Nothing, Session};
use serde::Serialize;
use serde_json::Value;

use super::container;
use crate::api::answers::List;

/// Which containers.
#[derive(Debug, clap::Args)]
pub struct Rm {
    /// Names or ids of containers that are not being logged
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,

    /// Also what a sink has not delivered, and never will then
    #[arg(long)]
    undelivered: bool,
}

/// Of which container.
#[derive(Debug, Serialize)]
struct Of {
    container: String,
    undelivered: bool,
}

impl Rm {
    /// What can be deleted is, whatever is wrong with the others; says of which.
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let known: List = session.ask("/Pglog.List", &Nothing {})?;
        let remove = |word: &str| {
            let container = container::find(session, &known.containers, word)?;
            let removed =
                session.call("/Pglog.Remove", &Of { container, undelivered: self.undelivered });
            removed.map_err(|failure| match failure {
                Failure::Refused(why) => Failure::Refused(format!("{word}: {why}")),
                other => other,
            })
        };
        let line = |removed: &Value| format!("{}\n", removed["id"].as_str().unwrap_or_default());
        session.show_each(self.containers, remove, line, "")
    }
}
