//! How far a sink has come, on disk: what it goes on from after a kill.
//!
//! Two slots of one file are written in turn, in place, so that a full disk is no obstacle and
//! that one of them is whole whatever happens. What was in neither is done again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use plugin_sdk::record;
use serde::{Deserialize, Serialize};

use super::file::Receipt;
use crate::journal::{Dropped, Position};

pub(crate) const KIND: &str = "pglog-cursor";
pub(crate) const VERSION: u32 = 1;

/// Room for one state: a page.
const SLOT: usize = 4096;

/// What is known of a sink's work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Counts the writes; the slot with the higher one is newer.
    turn: u64,
    /// All before this is delivered, or counted in what follows.
    pub(super) position: Position,
    /// Lines that retention removed before they were delivered, ever.
    pub(super) dropped: u64,
    /// Whether there were more, not counted.
    pub(super) uncounted: bool,
    /// Of these, lines that the stream does not speak of yet.
    pub(super) unsaid: u64,
    /// Likewise, not counted.
    pub(super) unsaid_uncounted: bool,
    /// Lines in memory only; dropped if the process is killed.
    pub(super) at_risk: u64,
    /// Lines delivered, ever.
    pub(super) lines: u64,
    /// Bytes of them in the journal, ever.
    pub(super) bytes: u64,
    /// What a file holds of them.
    #[serde(default)]
    pub(super) receipt: Receipt,
}

impl State {
    /// Adds to what was dropped, and to what is to be said of it.
    pub(super) fn drop_lines(&mut self, dropped: Dropped) {
        self.dropped += dropped.lines;
        self.uncounted |= dropped.uncounted;
        self.unsaid += dropped.lines;
        self.unsaid_uncounted |= dropped.uncounted;
    }

    /// What the stream does not speak of yet.
    pub(super) fn unsaid(&self) -> Dropped {
        Dropped { lines: self.unsaid, uncounted: self.unsaid_uncounted }
    }

    /// The stream now speaks of `said`.
    pub(super) fn say(&mut self, said: Dropped) {
        self.unsaid = self.unsaid.saturating_sub(said.lines);
        self.unsaid_uncounted &= !said.uncounted;
    }
}

/// The file that keeps a sink's [`State`].
#[derive(Debug)]
pub(super) struct Ledger {
    file: File,
    /// As it is in memory; [`Ledger::keep`] writes it.
    pub(super) state: State,
    /// The position is after the batch that is being delivered.
    passed: bool,
}

impl Ledger {
    /// Opens the file at `path`; a new one, or one that says nothing, is a sink's beginning.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let newest = (0..2).filter_map(|slot| read(&file, slot)).max_by_key(|state| state.turn);
        let mut ledger = Self { file, state: newest.unwrap_or_default(), passed: false };
        if ledger.file.metadata()?.len() < 2 * SLOT as u64 {
            // All of its room at once, while there is some.
            ledger.file.write_all_at(&[0; 2 * SLOT], 0)?;
            ledger.keep()?;
        }
        let lost = std::mem::take(&mut ledger.state.at_risk);
        ledger.state.drop_lines(Dropped { lines: lost, uncounted: false });
        Ok(ledger)
    }

    /// Retention has removed what was `dropped` up to `position`, while before it so many lines
    /// `at_risk` are in memory only.
    pub(super) fn pass(&mut self, dropped: Dropped, position: Position, at_risk: u64) {
        self.state.drop_lines(dropped);
        (self.state.position, self.state.at_risk) = (position, at_risk);
        self.state.receipt.pass();
        self.passed = true;
    }

    /// Notes what a file holds in the middle of a batch.
    pub(super) fn note(&mut self, receipt: Receipt) {
        self.state.receipt = receipt;
        if self.passed {
            self.state.receipt.pass();
        }
    }

    /// Notes what a file holds after a batch.
    pub(super) fn note_whole(&mut self, receipt: Receipt) {
        self.state.receipt = receipt;
        self.passed = false;
    }

    /// Writes the state. A kill afterwards finds it; a power cut may find an older one.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        self.state.turn += 1;
        let mut bytes = record::encode(KIND, VERSION, &self.state).map_err(io::Error::other)?;
        if bytes.len() > SLOT {
            return Err(io::Error::other("a position in too many segments"));
        }
        bytes.resize(SLOT, 0);
        self.file.write_all_at(&bytes, offset(self.state.turn % 2))
    }
}

fn offset(slot: u64) -> u64 {
    slot * SLOT as u64
}

fn read(file: &File, slot: u64) -> Option<State> {
    let mut bytes = vec![0; SLOT];
    file.read_exact_at(&mut bytes, offset(slot)).ok()?;
    let end = bytes.iter().rposition(|&byte| byte != 0)? + 1;
    record::decode(KIND, VERSION, &bytes[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_state_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let mut ledger = Ledger::open(&path).unwrap();
        for lines in 1..=3 {
            ledger.state.lines = lines;
            ledger.keep().unwrap();
        }
        let (turn, file) = (ledger.state.turn, ledger.file.try_clone().unwrap());
        assert_eq!(Ledger::open(&path).unwrap().state, ledger.state);
        file.write_all_at(b"x", offset(turn % 2) + 30).unwrap();
        assert_eq!(Ledger::open(&path).unwrap().state.lines, 2);
        file.write_all_at(&[0; 2 * SLOT], 0).unwrap();
        assert_eq!(Ledger::open(&path).unwrap().state.lines, 0);
    }

    #[test]
    fn what_was_only_in_memory_is_dropped_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.state.drop_lines(Dropped { lines: 5, uncounted: false });
        ledger.state.at_risk = 2;
        ledger.keep().unwrap();
        let mut state = Ledger::open(&path).unwrap().state;
        assert_eq!((state.dropped, state.at_risk), (7, 0));
        assert_eq!(state.unsaid(), Dropped { lines: 7, uncounted: false });
        state.say(Dropped { lines: 7, uncounted: false });
        assert!(!state.unsaid().any());
    }

    #[test]
    fn a_state_that_does_not_fit_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&dir.path().join("cursor")).unwrap();
        ledger.state.position.open = (0..1000).map(|sequence| (sequence, sequence)).collect();
        assert!(ledger.keep().is_err());
    }
}
