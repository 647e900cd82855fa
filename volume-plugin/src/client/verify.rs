//! `docker pgvol verify NAME [--pages] [--start]`.

use plugin_sdk::cli::{Failure, Session, text};
use serde_json::{Value, json};

use super::trial::{Task, Trial};
use crate::api::snapshots::{self, Passed};
use crate::api::trials::Tried;

/// Which, and how closely.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Name of a snapshot; with --start of a volume, too, as it is now
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// Look at every page: its checksum, and that the WAL reaches as far as what wrote it
    #[arg(long)]
    pages: bool,
    /// Start a server on a clone that is thrown away, and have it search for damage
    #[arg(long)]
    start: bool,
    /// The image of that server [default: that of the container that has or had the volume]
    #[arg(long, value_name = "IMAGE", requires = "start")]
    image: Option<String>,
}

impl Verify {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { snapshot: name, pages, start, image } = self;
        let is_snapshot = name.contains('@');
        if !is_snapshot && (pages || !start) {
            return Err(Failure::Refused(format!(
                "`{name}` is no name of a snapshot, VOLUME@SNAPSHOT: a volume is looked at by --start alone"
            )));
        }
        // Of a volume there is nothing to look at before there is a copy, which is looked at then.
        let mut answer = if is_snapshot {
            session.call("/Pgvol.Verify", &snapshots::Verify { name: name.clone(), pages })?
        } else {
            json!({"name": name, "checks": []})
        };
        let mut unpassed = Vec::new();
        if start {
            let trial = Trial::begin(session, &name)?;
            let checks = trial.run(Task::Verify, image.as_deref())?;
            let failed = checks.iter().filter(|check| !check.outcome.is_passed());
            unpassed = failed.map(|check| format!("{} {}", check.name, check.outcome)).collect();
            if let Some(all) = answer.get_mut("checks").and_then(Value::as_array_mut) {
                all.extend(checks.iter().map(|check| json!(check)));
            }
            if is_snapshot {
                let tried = Tried { name: name.clone(), clone: trial.clone().to_owned(), checks };
                session.call("/Pgvol.Tried", &tried)?;
            }
            trial.end()?;
        }
        session.show(answer, render)?;
        if unpassed.is_empty() {
            return Ok(());
        }
        Err(Failure::Refused(format!("{name} did not pass all: {}", unpassed.join(", "))))
    }
}

fn render(passed: Passed) -> String {
    let row = |check: crate::snapshot::Check| [check.name, check.outcome.to_string(), check.found];
    text::table(["CHECK", "OUTCOME", "FOUND"], passed.checks.into_iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_possible_is_not_shown_as_passed() {
        let checks = json!([
            {"name": "control", "found": "version 17"},
            {"name": "amcheck", "outcome": "not-possible", "found": "no extension"},
        ]);
        let passed = serde_json::from_value(json!({"name": "a@s", "checks": checks})).unwrap();
        assert_eq!(
            render(passed),
            "CHECK     OUTCOME        FOUND\n\
             control   passed         version 17\n\
             amcheck   not possible   no extension\n"
        );
    }
}
