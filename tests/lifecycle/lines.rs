//! What the busy container has printed, compared with its log.

use anyhow::{Context, Result, ensure};
use harness::numbered::{Run, runs};

use crate::events::{Containers, Lines, Survival};
use crate::world::World;

/// What dockerd may hold of a container's log in memory: it goes on reading below 1 MB, and then
/// has at most as much again.
const ENGINE_BYTES: usize = 2_000_000;
/// What a pipe between dockerd and the plugin holds at most.
const PIPE_BYTES: usize = 1 << 20;
/// What a line takes there at least.
const LINE_BYTES: usize = 5;
const FRAME_BYTES: usize = 32;

/// How much of the log is compared.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    /// Runs of earlier rounds.
    runs: usize,
    /// Ends that the container itself has told in earlier rounds.
    ends: usize,
    /// The last line that was in the log before the event.
    journal: usize,
    lines: usize,
    missing: usize,
}

impl Printed {
    /// How many lines were there, and how many were missing although that is allowed.
    pub(crate) fn found(&self) -> (usize, usize) {
        (self.lines, self.missing)
    }

    /// Notes what must be in the log whatever happens.
    pub(crate) fn note_journal(&mut self, world: &World) -> Result<()> {
        let (runs, _) = read(world)?;
        self.journal = runs.last().context("no line before the event")?.last;
        Ok(())
    }

    /// Compares the whole log of the stopped container with what it says to have printed.
    pub(crate) fn check(&mut self, world: &World, survives: Survival) -> Result<()> {
        let (runs, ends) = read(world)?;
        let (new_runs, new_ends) = (&runs[self.runs..], &ends[self.ends..]);
        let restarted = usize::from(survives.containers != Containers::RunOn);
        ensure!(new_runs.len() == 1 + restarted, "the runs of this round are {new_runs:?}");
        ensure!(new_runs[0].last >= self.journal, "{} lines were there: {runs:?}", self.journal);
        let most_missing = match survives.lines {
            Lines::All => 0,
            Lines::NotInTheEngine => ENGINE_BYTES / LINE_BYTES,
            Lines::NotInThePipe => ENGINE_BYTES / LINE_BYTES + PIPE_BYTES / FRAME_BYTES,
        };
        // A container that died with the machine could not say how far it had come.
        let silenced = usize::from(survives.containers == Containers::Killed);
        let ended = new_runs.iter().skip(silenced).map(|run| run.last);
        ensure!(ended.eq(new_ends.iter().copied()), "{new_runs:?} ended at {new_ends:?}");
        let gaps: usize = new_runs.iter().map(|run| run.gaps).sum();
        let missing: usize = new_runs.iter().map(|run| run.missing).sum();
        ensure!(gaps <= 1 && missing <= most_missing, "gaps in {new_runs:?}");
        self.missing += missing;
        self.lines = runs.iter().map(|run| run.last - run.missing).sum();
        (self.runs, self.ends) = (runs.len(), ends.len());
        Ok(())
    }
}

/// The runs in the log, and how far the container says to have come in those that it could end.
fn read(world: &World) -> Result<(Vec<Run>, Vec<usize>)> {
    let logs = world.busy_logs()?;
    let ends = String::from_utf8(logs.stderr)?;
    let ends = ends.lines().map(str::parse).collect::<Result<_, _>>()?;
    Ok((runs(&logs.stdout)?, ends))
}
