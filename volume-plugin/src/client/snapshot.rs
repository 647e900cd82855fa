//! `docker pgvol snapshot create|ls|rm|protect`.

use clap::Subcommand;
use jiff::Timestamp;
use plugin_sdk::cli::{Failure, Session, text};
use serde_json::Value;

use super::{done, making};
use crate::api::snapshots::{Make, Of, Protect, Snapshot, Snapshots};
use crate::snapshot::Check;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Snapshotting {
    /// Take a snapshot
    Create(Create),
    /// List snapshots
    Ls(Ls),
    /// Remove snapshots
    Rm(Rm),
    /// Keep a snapshot, and its volume, whatever happens
    Protect(Protecting),
}

/// Which, and how.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// What it shall be called: VOLUME@SNAPSHOT
    #[arg(value_name = "SNAPSHOT")]
    name: String,
    /// How consistent: auto, offline, atomic, ordered, barrier or backup
    #[arg(long, value_name = "LEVEL")]
    consistency: Option<String>,
    /// Do not wait for it
    #[arg(long)]
    detach: bool,
}

/// Whose.
#[derive(Debug, clap::Args)]
pub struct Ls {
    /// Name of a volume; all without one
    #[arg(value_name = "VOLUME")]
    volume: Option<String>,
}

/// Which.
#[derive(Debug, clap::Args)]
pub struct Rm {
    /// Names of snapshots
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
}

/// Which, and whether.
#[derive(Debug, clap::Args)]
pub struct Protecting {
    /// Name of a snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// No longer
    #[arg(long)]
    off: bool,
}

impl Snapshotting {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create(Create { name, consistency, detach }) => {
                is_one(&name)?;
                let mut make = Make { name, ..Make::default() };
                make.options.insert("snapshot".to_owned(), "now".to_owned());
                make.options.extend(consistency.map(|level| ("consistency".to_owned(), level)));
                making::make(make, detach, session)
            }
            Self::Ls(Ls { volume }) => {
                let of = Of { name: volume.unwrap_or_default() };
                let now = Timestamp::now();
                session.show(session.call("/Pgvol.Snapshots", &of)?, |list| render(list, now))
            }
            // What can be removed is, whatever is wrong with the others.
            Self::Rm(Rm { snapshots }) => {
                let remove =
                    |name: &str| session.call("/Pgvol.Drop", &Of { name: name.to_owned() });
                let line =
                    |removed: &Value| format!("{}\n", removed["name"].as_str().unwrap_or_default());
                session.show_each(snapshots, remove, line, "")
            }
            Self::Protect(Protecting { snapshot: name, off }) => {
                is_one(&name)?;
                let asked = Protect { name, protected: !off };
                session.show(session.call("/Pgvol.Protect", &asked)?, done)
            }
        }
    }
}

/// Refuses what is called otherwise than snapshots are.
pub(super) fn is_one(name: &str) -> Result<(), Failure> {
    if name.contains('@') {
        return Ok(());
    }
    Err(Failure::Refused(format!("`{name}` is no name of a snapshot: allowed is VOLUME@SNAPSHOT")))
}

fn render(list: Snapshots, now: Timestamp) -> String {
    let row = |snapshot: Snapshot| {
        let Snapshot { name, created, taken } = snapshot;
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let cluster = taken.as_ref().and_then(|taken| taken.clusters.first());
        [
            name,
            or_dash(created),
            or_dash(taken.as_ref().map(|taken| taken.consistency.to_string())),
            or_dash(taken.as_ref().and_then(|taken| Some(format!("{} ms", taken.stall_ms?)))),
            or_dash(cluster.map(|cluster| cluster.redo.clone())),
            or_dash(taken.as_ref().map(|taken| checks(&taken.checks, now))),
            if taken.is_some_and(|taken| taken.protected) { "yes" } else { "no" }.to_owned(),
        ]
    };
    text::table(
        ["NAME", "CREATED", "CONSISTENCY", "STALL", "REDO", "CHECKS", "PROTECTED"],
        list.snapshots.into_iter().map(row),
    )
}

/// Checks, with what is wrong, and of those behind each other that were made as long ago after the snapshot
/// how long that is.
fn checks(checks: &[Check], now: Timestamp) -> String {
    let ago = |check: &Check| check.at.map(|at| text::age(now.duration_since(at).as_secs()));
    let made_together = checks.chunk_by(|one, next| ago(one) == ago(next));
    let shown = made_together.map(|checks| {
        let names: Vec<_> = checks.iter().map(shown).collect();
        let ago = ago(&checks[0]).map(|ago| format!(" ({ago} ago)")).unwrap_or_default();
        names.join(", ") + &ago
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn shown(check: &Check) -> String {
    if check.outcome.is_passed() {
        return check.name.clone();
    }
    format!("{} {}", check.name, check.outcome.to_string().to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Level, Outcome, Taken};

    #[test]
    fn a_snapshot_is_a_line_whatever_is_known_of_it() {
        let check = Check::passed("wal", "x".into());
        let now: Timestamp = "2026-11-27T07:10:00Z".parse().unwrap();
        let at = Some("2026-11-27T05:00:00Z".parse().unwrap());
        let start = Check { at, ..Check::passed("start", "x".into()) };
        let amcheck =
            Check { outcome: Outcome::Failed, at, ..Check::passed("amcheck", "x".into()) };
        let taken = Taken {
            consistency: Level::Barrier,
            took_ms: 7,
            retries: 0,
            stall_ms: Some(3),
            stall: None,
            checkpoint: None,
            backup: None,
            clusters: Vec::new(),
            checks: vec![check, start, amcheck],
            protected: true,
            scheduled: false,
            prepared: None,
        };
        let created = Some("2026-11-27T05:00:00Z".to_owned());
        let known = Snapshot { name: "a@s".into(), created, taken: Some(taken) };
        let unknown = Snapshot { name: "a@t".into(), created: None, taken: None };
        assert_eq!(
            render(Snapshots { snapshots: vec![known, unknown] }, now),
            "NAME   CREATED                CONSISTENCY   STALL   REDO   CHECKS                                PROTECTED\n\
             a@s    2026-11-27T05:00:00Z   barrier       3 ms    -      wal, start, amcheck FAILED (2h ago)   yes\n\
             a@t    -                      -             -       -      -                                     no\n"
        );
    }
}
