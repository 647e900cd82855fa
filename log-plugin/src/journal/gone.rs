//! What of a container's log is nowhere any more: messages that no disk would take, those that made
//! room for others on a full one, and the lines of segments that were removed. On disk beside the segments, so that the account holds over
//! kills.
//!
//! Invariants:
//! - It is written before anything goes. A kill in between leaves a note of a segment that is
//!   still there, which its next removal writes anew, or of bytes that are still in the pipe,
//!   which the next life of the process knows by their checksum and takes out.
//! - It has its room on the disk before the first segment, so that a full disk takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plugin_sdk::record;
use serde::{Deserialize, Serialize};

use super::removal::missing_is_fine;
use super::{Dropped, Journal, Journals};
use crate::names::ContainerId;
use crate::slots::{Slots, Turned};

pub(crate) const KIND: &str = "pglog-gone";
/// 2: what made room on a full disk. A program that does not know it would forget it.
pub(crate) const VERSION: u32 = 2;

/// Name of the file; no segment's has this form.
const FILE: &str = "gone";

/// So many removed segments are remembered. A sink that was further behind when the process was
/// killed knows only that lines are missing.
const REMEMBERED: usize = 100;

/// Messages that a full disk has cost, and what was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many it did not take.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many more were stored, and went before their time to make room.
    #[serde(default)]
    pub removed: u64,
    /// Bytes of streams that were no part of a message.
    #[serde(default)]
    pub garbled: u64,
}

/// A segment that makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Freed {
    sequence: u64,
    messages: u64,
}

/// What is taken out of a stream's pipe to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taking {
    /// Bytes at the head of the pipe,
    pub(super) length: usize,
    /// and their CRC-32C.
    pub(super) checksum: u32,
    /// Where the segment ends when the half frame is cut off whose rest is among them.
    pub(super) cut: Option<u64>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    turn: u64,
    lost: Lost,
    /// The last segment that was to make room; counted already, though a kill may have left it.
    #[serde(default)]
    freed: Option<Freed>,
    /// Lines of the segments that were removed last, by sequence.
    removed: BTreeMap<u64, u64>,
    /// By the tag of the stream.
    taking: BTreeMap<String, Taking>,
}

impl Turned for Noted {
    const FORMAT: record::Format = (KIND, VERSION);

    fn turn(&self) -> u64 {
        self.turn
    }

    fn set_turn(&mut self, turn: u64) {
        self.turn = turn;
    }
}

/// Why a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The options say so.
    Retention,
    /// The disk has no room for what comes.
    FullDisk,
}

/// The account of one journal.
#[derive(Debug)]
pub(super) struct Gone {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Read when it is first asked for.
    noted: Option<Noted>,
    slots: Option<Slots>,
    /// The disk does not have it.
    unkept: bool,
}

impl State {
    fn noted(&mut self, path: &Path) -> &mut Noted {
        self.noted.get_or_insert_with(|| Slots::read(path).unwrap_or_default())
    }

    fn keep(&mut self, path: &Path) {
        let noted = self.noted.get_or_insert_default();
        let opened = match self.slots.take() {
            Some(slots) => Ok(slots),
            None => Slots::open::<Noted>(path).map(|(slots, _)| slots),
        };
        let written = opened.and_then(|slots| self.slots.insert(slots).write(noted));
        // Said once, however much is lost until the disk has it again.
        let known = std::mem::replace(&mut self.unkept, written.is_err());
        if let Err(error) = written
            && !known
        {
            tracing::warn!(%error, path = %path.display(), "what is gone cannot be noted");
        }
    }
}

impl Gone {
    pub(super) fn of(dir: &Path) -> Self {
        Self { path: dir.join(FILE), state: Mutex::default() }
    }

    /// Takes the room that it needs on the disk, if it can be had.
    pub(super) fn prepare(&self) {
        let mut state = self.lock();
        if state.slots.is_none() && !self.path.exists() {
            state.noted(&self.path);
            state.keep(&self.path);
            // Most never need it again.
            state.slots = None;
        }
    }

    /// What was lost, and the last of it that may still be there.
    fn lost(&self) -> (Lost, Option<Freed>) {
        let mut state = self.lock();
        let noted = state.noted(&self.path);
        (noted.lost, noted.freed)
    }

    /// The highest number of a segment that is remembered to have been removed.
    pub(super) fn last_removed(&self) -> u64 {
        let mut state = self.lock();
        let noted = state.noted(&self.path);
        noted.removed.last_key_value().map_or(0, |(&sequence, _)| sequence)
    }

    /// A segment of so many `lines` is about to be removed, to make room if it is `freed`.
    fn note_removal(&self, sequence: u64, lines: u64, freed: Option<Freed>) {
        let mut state = self.lock();
        let noted = state.noted(&self.path);
        // Noted before, and a kill left it.
        if let Some(again) = noted.freed.take_if(|before| before.sequence == sequence) {
            noted.lost.removed = noted.lost.removed.saturating_sub(again.messages);
        }
        if let Some(freed) = freed {
            noted.lost.removed += freed.messages;
            noted.freed = Some(freed);
        }
        noted.removed.insert(sequence, lines);
        while noted.removed.len() > REMEMBERED {
            noted.removed.pop_first();
        }
        state.keep(&self.path);
    }

    /// `lost` is about to be taken out of the pipe of the stream `tag`.
    pub(super) fn note_taking(&self, tag: &str, taking: Taking, lost: Lost) {
        let mut state = self.lock();
        let noted = state.noted(&self.path);
        noted.lost.messages += lost.messages;
        noted.lost.bytes += lost.bytes;
        noted.taking.insert(tag.to_owned(), taking);
        state.keep(&self.path);
    }

    /// So many bytes that were stored are no part of a message.
    pub(super) fn note_garbled(&self, bytes: u64) {
        let mut state = self.lock();
        state.noted(&self.path).lost.garbled += bytes;
        state.keep(&self.path);
    }

    /// What was about to be taken out of the pipe of the stream `tag` when that was last noted.
    pub(super) fn taking(&self, tag: &str) -> Option<Taking> {
        self.lock().noted(&self.path).taking.get(tag).copied()
    }

    /// It is out of the pipe.
    pub(super) fn note_taken(&self, tag: &str) {
        let mut state = self.lock();
        if state.noted(&self.path).taking.remove(tag).is_some() {
            state.keep(&self.path);
        }
    }

    /// Begins anew with nothing.
    pub(super) fn forget(&self) -> io::Result<()> {
        let mut state = self.lock();
        missing_is_fine(std::fs::remove_file(&self.path))?;
        *state = State::default();
        Ok(())
    }

    /// Whether this process alone knows of something.
    fn is_unkept(&self) -> bool {
        self.lock().unkept
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// What was lost of this container, ever.
    pub fn lost(&self) -> Lost {
        let (mut lost, freed) = self.gone.lost();
        if let Some(freed) = freed
            && self.state().segments.contains_key(&freed.sequence)
        {
            lost.removed = lost.removed.saturating_sub(freed.messages);
        }
        lost
    }

    /// A segment is about to be removed: notes its lines and tells them, as far as it can be read.
    pub(super) fn note_removal(&self, sequence: u64, cause: Cause) -> Option<u64> {
        let known = self.state().segments.get(&sequence).and_then(|own| own.index.clone());
        let index = known.or_else(|| {
            let contents = self.open_segment(sequence).ok()??;
            self.index_of(sequence, &contents).ok()
        });
        let index = index?;
        let freed = Freed { sequence, messages: index.frames() };
        let freed = (cause == Cause::FullDisk).then_some(freed);
        self.gone.note_removal(sequence, index.lines(), freed);
        Some(index.lines())
    }

    /// How many lines the removed segment numbered `sequence` had, if that is remembered.
    pub(super) fn lines_removed(&self, sequence: u64) -> Option<u64> {
        let mut state = self.gone.lock();
        state.noted(&self.gone.path).removed.get(&sequence).copied()
    }

    /// What went with the segments after `first` and before `last`.
    pub(super) fn removed_between(&self, first: u64, last: u64) -> Dropped {
        if first + 1 >= last {
            return Dropped::default();
        }
        let mut state = self.gone.lock();
        let known = state.noted(&self.gone.path).removed.range(first + 1..last);
        let (count, lines) = known.fold((0, 0), |sum, (_, lines)| (sum.0 + 1, sum.1 + lines));
        Dropped { lines, doubtful: 0, uncounted: count < last - first - 1 }
    }
}

impl Journals {
    /// What was lost of all containers that anything is stored of.
    pub fn lost_in_all(&self) -> io::Result<Lost> {
        let mut all: BTreeSet<_> = self.stored()?.into_iter().collect();
        all.extend(self.gone().keys().cloned());
        let each = all.iter().map(|id| self.get(id).lost());
        Ok(each.fold(Lost::default(), |sum, one| Lost {
            messages: sum.messages + one.messages,
            bytes: sum.bytes + one.bytes,
            removed: sum.removed + one.removed,
            garbled: sum.garbled + one.garbled,
        }))
    }

    /// The account of `container`: the one that there is, if the disk does not have it.
    pub(super) fn gone_of(&self, container: &ContainerId) -> Arc<Gone> {
        let mut all = self.gone();
        all.retain(|_, gone| Arc::strong_count(gone) > 1 || gone.is_unkept());
        let dir = self.dir.join(container.as_str());
        let gone = all.entry(container.clone()).or_insert_with(|| Gone::of(&dir).into());
        Arc::clone(gone)
    }
}
