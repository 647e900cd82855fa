//! `docker pglog`: the plugin's answers to people and scripts on the engine's host.
//!
//! A command is a file here: a struct of its arguments, whose `run` calls the plugin and shows the answer;
//! a new one is one more file, variant and arm.

mod cat;
mod container;
mod inspect;
mod ls;
mod moment;
mod rm;
mod status;

use clap::Subcommand;
use plugin_sdk::cli::{Commands, Failure, Identity, Nothing, Session};

use crate::api::answers::List;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Pglog {
    /// List the logs, those of removed containers too
    Ls(ls::Ls),
    /// Show all that is known of containers' logs
    Inspect(inspect::Inspect),
    /// Show a stored log, that of a removed container too
    Cat(cat::Cat),
    /// Delete stored logs
    Rm(rm::Rm),
    /// Show the plugin, its settings, and what was dropped
    Status(status::Status),
}

impl Commands for Pglog {
    const IDENTITY: Identity =
        Identity { name: "pglog", about: "Logs of containers", version: env!("CARGO_PKG_VERSION") };

    fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session),
            Self::Inspect(inspect) => inspect.run(session),
            Self::Cat(cat) => cat.run(session),
            Self::Rm(rm) => rm.run(session),
            Self::Status(status) => status.run(session),
        }
    }

    fn candidates(argument: &str, session: &Session) -> Result<Vec<String>, Failure> {
        match argument {
            "container" | "containers" => {
                let list: List = session.ask("/Pglog.List", &Nothing {})?;
                Ok(list.containers.into_iter().map(container::shown).collect())
            }
            _ => Ok(Vec::new()),
        }
    }
}
