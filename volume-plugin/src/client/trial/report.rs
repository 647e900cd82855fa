//! What `server.sh` prints, line by line, into what came of it. It runs in a container of any image, on
//! content of anybody: whatever it prints is no more than text.

use std::time::Instant;

use crate::api::trials::Found;
use crate::snapshot::Outcome;

/// What is known of a server so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    checks: Vec<Found>,
    begun: Option<Instant>,
    answered: Option<String>,
    stopped: bool,
    trouble: Option<Trouble>,
}

/// Why no server was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The image has PostgreSQL of this major version, or none.
    Program(Option<String>),
    /// There is no cluster at this place.
    Absent(String),
}

/// What came of a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It ran or was to run.
    Checks(Vec<Found>),
    /// It could not be tried.
    Trouble(Trouble),
    /// The container ended early.
    Nothing,
}

impl Report {
    /// Takes a line.
    pub(super) fn take(&mut self, line: &str) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "starting" => self.begun = Some(Instant::now()),
            "answered" => {
                let time = self.begun.map(|begun| begun.elapsed().as_secs_f32());
                self.answered =
                    time.map(|time| format!("recovered and answered after {time:.1} s"));
            }
            "stopped" => self.stopped = true,
            "program" => {
                let found = Some(rest.to_owned()).filter(|found| found != "none");
                self.trouble = Some(Trouble::Program(found));
            }
            "absent" => self.trouble = Some(Trouble::Absent(rest.to_owned())),
            "passed" => self.check(Outcome::Passed, rest),
            "failed" => self.check(Outcome::Failed, rest),
            "not-possible" => self.check(Outcome::NotPossible, rest),
            // Of a shell, or of an image's own.
            _ => {}
        }
    }

    fn check(&mut self, outcome: Outcome, rest: &str) {
        let (name, found) = rest.split_once(' ').unwrap_or((rest, ""));
        if ["start", "amcheck", "log"].contains(&name) {
            self.checks.push(Found { name: name.to_owned(), outcome, found: found.to_owned() });
        }
    }

    /// All of it.
    pub(super) fn end(self) -> Came {
        let Self { mut checks, answered, stopped, trouble, .. } = self;
        if let Some(trouble) = trouble {
            return Came::Trouble(trouble);
        }
        match answered {
            Some(found) if stopped => {
                let found = format!("{found}, and stopped cleanly");
                let start = Found { name: "start".to_owned(), outcome: Outcome::Passed, found };
                checks.insert(0, start);
                Came::Checks(checks)
            }
            _ if checks.iter().any(|check| check.name == "start") => Came::Checks(checks),
            _ => Came::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(lines: &[&str]) -> Came {
        let mut report = Report::default();
        for line in lines {
            report.take(line);
        }
        report.end()
    }

    fn shown(came: Came) -> Vec<String> {
        let Came::Checks(checks) = came else { panic!("{came:?}") };
        let show = |check: Found| format!("{} {}: {}", check.name, check.outcome, check.found);
        checks.into_iter().map(show).collect()
    }

    #[test]
    fn a_server_that_was_stopped_has_started() {
        let amcheck = "passed amcheck nothing in 3 databases";
        let all = ["starting", "answered", amcheck, "noise", "stopped", "failed log ERROR:  x"];
        assert_eq!(
            shown(came(&all)),
            [
                "start passed: recovered and answered after 0.0 s, and stopped cleanly",
                "amcheck passed: nothing in 3 databases",
                "log failed: ERROR:  x",
            ]
        );
        assert_eq!(
            shown(came(&["starting", "failed start PANIC:  y"])),
            ["start failed: PANIC:  y"]
        );
        assert_eq!(shown(came(&["answered", "not-possible amcheck z", "failed start s"])).len(), 2);
    }

    #[test]
    fn what_ended_early_has_shown_nothing() {
        for lines in [
            &[][..],
            &["starting", "answered", "passed amcheck x"],
            &["stopped", "passed log no errors"],
            &["starting", "stopped"],
            &["passed pages all", "passed"],
        ] {
            assert_eq!(came(lines), Came::Nothing, "{lines:?}");
        }
    }

    #[test]
    fn an_image_that_is_not_right_is_told() {
        let program = |found: &str| came(&[&format!("program {found}")]);
        assert_eq!(program("16"), Came::Trouble(Trouble::Program(Some("16".into()))));
        assert_eq!(program("none"), Came::Trouble(Trouble::Program(None)));
        assert_eq!(came(&["absent /pg/data"]), Came::Trouble(Trouble::Absent("/pg/data".into())));
    }
}
