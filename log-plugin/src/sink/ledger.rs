//! How far a sink has come, on disk: what it goes on from after a kill. What it does not say is
//! done again.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use plugin_sdk::record;
use serde::{Deserialize, Serialize};

use super::file::Receipt;
use crate::journal::{Dropped, Position};
use crate::slots::{Slots, Turned};

pub(crate) const KIND: &str = "pglog-cursor";
pub(crate) const VERSION: u32 = 1;

/// What is known of a sink's work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    turn: u64,
    /// All before this is delivered, or counted in what follows.
    pub(super) position: Position,
    /// Lines that retention removed before they were delivered, ever.
    pub(super) dropped: u64,
    /// So many more may be missing, ever.
    #[serde(default)]
    pub(super) doubtful: u64,
    /// Whether there were more, not counted.
    pub(super) uncounted: bool,
    /// Of these, lines that the stream does not speak of yet.
    pub(super) unsaid: u64,
    /// Likewise, of those that may be missing.
    #[serde(default)]
    pub(super) unsaid_doubtful: u64,
    /// Likewise, not counted.
    pub(super) unsaid_uncounted: bool,
    /// So many lines after the position may have been sent: where they are gone when the next
    /// life looks for them, nobody knows whether they have arrived.
    #[serde(default)]
    pub(super) sent: u64,
    /// Lines in memory only, of which nothing was sent; dropped if the process is killed.
    pub(super) at_risk: u64,
    /// Lines in memory only that are on their way; if the process is killed nobody knows whether
    /// they have arrived.
    #[serde(default)]
    pub(super) on_the_way: u64,
    /// Lines delivered, ever.
    pub(super) lines: u64,
    /// Bytes of them in the journal, ever.
    pub(super) bytes: u64,
    /// What a file holds of them.
    #[serde(default)]
    pub(super) receipt: Receipt,
}

impl Turned for State {
    const FORMAT: record::Format = (KIND, VERSION);

    fn turn(&self) -> u64 {
        self.turn
    }

    fn set_turn(&mut self, turn: u64) {
        self.turn = turn;
    }
}

impl State {
    /// Adds to what was dropped, and to what is to be said of it.
    pub(super) fn drop_lines(&mut self, dropped: Dropped) {
        self.dropped += dropped.lines;
        self.doubtful += dropped.doubtful;
        self.uncounted |= dropped.uncounted;
        let mut unsaid = self.unsaid();
        unsaid.add(dropped);
        self.set_unsaid(unsaid);
    }

    /// What the stream does not speak of yet.
    pub(super) fn unsaid(&self) -> Dropped {
        Dropped {
            lines: self.unsaid,
            doubtful: self.unsaid_doubtful,
            uncounted: self.unsaid_uncounted,
        }
    }

    /// The stream now speaks of `said`.
    pub(super) fn say(&mut self, said: Dropped) {
        let mut unsaid = self.unsaid();
        unsaid.subtract(said);
        self.set_unsaid(unsaid);
    }

    /// So many lines have arrived.
    pub(super) fn arrive(&mut self, lines: u64) {
        let before = self.at_risk.saturating_sub(lines.saturating_sub(self.on_the_way));
        (self.on_the_way, self.at_risk) = (self.on_the_way.saturating_sub(lines), before);
        self.lines += lines;
    }

    fn set_unsaid(&mut self, unsaid: Dropped) {
        (self.unsaid, self.unsaid_doubtful) = (unsaid.lines, unsaid.doubtful);
        self.unsaid_uncounted = unsaid.uncounted;
    }
}

/// The file that keeps a sink's [`State`].
#[derive(Debug)]
pub(super) struct Ledger {
    slots: Slots,
    /// As it is in memory; [`Ledger::keep`] writes it.
    pub(super) state: State,
    /// The position is after the batch that is being delivered.
    passed: bool,
    /// Some of that batch may have been sent.
    sending: bool,
    /// How many lines after the position there are with it.
    ahead: u64,
}

impl Ledger {
    /// Opens the file at `path`; a new one, or one that says nothing, is a sink's beginning.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (slots, state) = Slots::open(path)?;
        let mut ledger = Self { slots, state, passed: false, sending: false, ahead: 0 };
        let lines = std::mem::take(&mut ledger.state.at_risk);
        let doubtful = std::mem::take(&mut ledger.state.on_the_way);
        ledger.state.drop_lines(Dropped { lines, doubtful, uncounted: false });
        Ok(ledger)
    }

    /// A batch is about to be delivered, which ends so many lines after the position.
    pub(super) fn accept(&mut self, ahead: u64) {
        (self.sending, self.ahead) = (false, ahead);
    }

    /// Something of the batch is about to be sent.
    pub(super) fn send(&mut self) -> io::Result<()> {
        self.sending = true;
        let at_risk = std::mem::take(&mut self.state.at_risk);
        self.state.on_the_way += at_risk;
        let more = self.ahead > self.state.sent;
        self.state.sent = self.state.sent.max(self.ahead);
        if at_risk > 0 || more { self.keep() } else { Ok(()) }
    }

    /// Retention has removed what was `dropped` up to `position`, while before it so many `lines`
    /// of the batch that is being delivered are in memory only, and so many that are `sent`.
    pub(super) fn pass(&mut self, dropped: Dropped, position: Position, lines: u64, sent: u64) {
        self.state.drop_lines(dropped);
        (self.state.position, self.state.sent, self.ahead) = (position, 0, 0);
        (self.state.at_risk, self.state.on_the_way) =
            if self.sending { (0, lines + sent) } else { (lines, sent) };
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
        self.slots.write(&mut self.state)
    }
}

/// Something of the batch that is being delivered is about to be sent.
pub(super) fn send(ledger: &Mutex<Ledger>) {
    let sent = ledger.lock().unwrap_or_else(PoisonError::into_inner).send();
    if let Err(error) = sent {
        tracing::warn!(%error, "keep that lines are on their way");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_only_in_memory_is_dropped_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.state.drop_lines(Dropped { lines: 5, ..Dropped::default() });
        (ledger.state.at_risk, ledger.state.on_the_way) = (3, 2);
        ledger.keep().unwrap();
        let mut state = Ledger::open(&path).unwrap().state;
        assert_eq!((state.dropped, state.doubtful), (8, 2));
        assert_eq!((state.at_risk, state.on_the_way), (0, 0));
        let unsaid = Dropped { lines: 8, doubtful: 2, uncounted: false };
        assert_eq!(state.unsaid(), unsaid);
        state.say(unsaid);
        assert!(!state.unsaid().any());
    }

    #[test]
    fn what_is_sent_is_doubtful_until_it_has_arrived() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&dir.path().join("cursor")).unwrap();
        ledger.accept(14);
        ledger.pass(Dropped::default(), Position::default(), 10, 4);
        assert_eq!((ledger.state.at_risk, ledger.state.on_the_way), (10, 4));
        ledger.state.arrive(4);
        assert_eq!((ledger.state.at_risk, ledger.state.on_the_way), (10, 0));
        ledger.send().unwrap();
        assert_eq!((ledger.state.at_risk, ledger.state.on_the_way), (0, 10));
        let state = Ledger::open(&dir.path().join("cursor")).unwrap().state;
        assert_eq!((state.dropped, state.doubtful), (0, 10));
        ledger.pass(Dropped::default(), Position::default(), 10, 0);
        assert_eq!((ledger.state.at_risk, ledger.state.on_the_way), (0, 10));
        ledger.state.arrive(10);
        assert_eq!((ledger.state.on_the_way, ledger.state.lines), (0, 14));
    }

    #[test]
    fn a_state_that_does_not_fit_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&dir.path().join("cursor")).unwrap();
        ledger.state.position.open = (0..1000).map(|sequence| (sequence, sequence)).collect();
        assert!(ledger.keep().is_err());
    }
}
