//! `docker pgvol prepare SNAPSHOT`.

use plugin_sdk::cli::{Failure, Session};

use super::done;
use super::snapshot::is_one;
use super::trial::{Task, Trial};
use crate::api::trials;

/// Which, and by what.
#[derive(Debug, clap::Args)]
pub struct Prepare {
    /// Name of a snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// The image of the server [default: that of the container that has or had the volume]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
}

impl Prepare {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { snapshot: name, image } = self;
        is_one(&name)?;
        let trial = Trial::begin(session, &name)?;
        let checks = trial.run(Task::Prepare, image.as_deref())?;
        if let Some(failed) = checks.iter().find(|check| !check.outcome.is_passed()) {
            let words = format!("{name} is not prepared: {}: {}", failed.name, failed.found);
            return Err(Failure::Refused(words));
        }
        let asked = trials::Prepare { name, clone: trial.clone().to_owned() };
        let answer = session.call("/Pgvol.Prepare", &asked)?;
        trial.end()?;
        session.show(answer, done)
    }
}
