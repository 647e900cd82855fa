//! The table of what survived, printed at the end of a run and shown in README.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};

use crate::events::{Containers, EVENTS, Event, Follower, Lines, Survival};
use crate::survival::Counts;

const README: &str = include_str!("../../README.md");

const HEAD: &str = "| event | containers | acknowledged commits | log lines | \
    an open `docker logs --follow` | volumes, labels | afterwards |\n|---|---|---|---|---|---|---|\n";

/// The rows of this run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(Arc<Mutex<Vec<(String, Counts)>>>);

impl Table {
    /// Adds an event that has passed: all that it is expected to leave was there.
    pub(crate) fn add(&self, event: &Event, counts: Counts) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.push((row(event.title, event.survives), counts));
    }

    /// Prints it, with what was counted.
    #[expect(clippy::print_stdout, reason = "this is what the run is for")]
    pub(crate) fn print(&self) {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.is_empty() {
            return;
        }
        let all = rows.iter().fold(Counts::default(), |all, (_, counts)| all.and(*counts));
        let rows: String = rows.iter().map(|(row, _)| row.as_str()).collect();
        let Counts { commits, lines, missing } = all;
        println!(
            "\n{HEAD}{rows}\ncompared: {commits} commits, {lines} log lines; {missing} lines were \
             in the engine or in the pipe"
        );
    }
}

/// README's table is the one that the events expect, which each of them is held to.
pub(crate) fn in_readme() -> Result<()> {
    let rows: String = EVENTS.iter().map(|event| row(event.title, event.survives)).collect();
    let table = format!("{HEAD}{rows}\n");
    ensure!(README.contains(&table), "README does not have this table:\n{table}");
    Ok(())
}

fn row(title: &str, survival: Survival) -> String {
    let containers = match survival.containers {
        Containers::RunOn => "run on",
        Containers::Restarted | Containers::Killed => "started again",
    };
    let lines = match survival.lines {
        Lines::All => "all, once, in order",
        Lines::NotInTheEngine => "once, in order; without what the engine held",
        Lines::NotInThePipe => "once, in order; without what the engine and the pipe held",
    };
    let follower = match survival.follower {
        Follower::GoesOn => "goes on",
        Follower::Ends => "ends",
    };
    // The rest is the same for every event: a row is only there when all of it was checked.
    format!("| {title} | {containers} | all | {lines} | {follower} | as before | as before |\n")
}
