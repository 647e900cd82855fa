//! Segments that retention has removed and that somebody who follows the log has yet to read.
//!
//! They are held open, within bounds, until all who follow have come to them: a follower is a
//! moment behind, and with small segments a moment is several of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Contents, Journal};

/// Most segments that are held open, and their sizes together.
const HELD_OPEN: usize = 32;
const HELD_BYTES: u64 = 64 << 20;

/// What is held, and for whom.
#[derive(Debug, Default)]
pub(super) struct Removed {
    held: VecDeque<Held>,
    /// The last sequence that each follower has come to.
    followers: BTreeMap<u64, u64>,
    next_follower: u64,
}

#[derive(Debug)]
struct Held {
    sequence: u64,
    size: u64,
    file: Arc<Contents>,
}

/// Files to be closed outside the lock: closing the last descriptor of one frees its space.
#[must_use = "closed where dropped, which must not be under the lock"]
#[derive(Debug)]
pub(super) struct LetGo {
    files: Vec<Held>,
}

impl LetGo {
    /// Whether there is one.
    pub(super) fn any(&self) -> bool {
        !self.files.is_empty()
    }
}

impl Removed {
    pub(super) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.held.iter().map(|held| held.sequence)
    }

    /// The segment numbered `sequence`, if it is held.
    pub(super) fn open(&self, sequence: u64) -> Option<Arc<Contents>> {
        let held = self.held.iter().find(|held| held.sequence == sequence);
        held.map(|held| Arc::clone(&held.file))
    }

    /// Whether somebody has yet to come to `sequence`.
    pub(super) fn is_wanted(&self, sequence: u64) -> bool {
        self.followers.values().any(|&come_to| come_to < sequence)
    }

    /// Holds the segment numbered `sequence`, which is called `file` no more.
    pub(super) fn hold(&mut self, sequence: u64, size: u64, file: Arc<Contents>) -> LetGo {
        self.held.push_back(Held { sequence, size, file });
        self.let_go()
    }

    /// Holds nothing any more.
    pub(super) fn release(&mut self) -> LetGo {
        LetGo { files: self.held.drain(..).collect() }
    }

    fn let_go(&mut self) -> LetGo {
        let mut files = Vec::new();
        while let Some(oldest) = self.held.front()
            && (!self.is_wanted(oldest.sequence)
                || self.held.len() > HELD_OPEN
                || self.held.iter().map(|held| held.size).sum::<u64>() > HELD_BYTES)
        {
            files.extend(self.held.pop_front());
        }
        LetGo { files }
    }
}

/// Somebody who follows a journal, for as long as this lives.
#[derive(Debug)]
pub struct Follower {
    journal: Arc<Journal>,
    id: u64,
}

impl Follower {
    /// A follower of `journal` that wants all of it.
    pub fn of(journal: &Arc<Journal>) -> Self {
        let removed = &mut journal.state().removed;
        let id = removed.next_follower;
        removed.next_follower += 1;
        removed.followers.insert(id, 0);
        Self { journal: Arc::clone(journal), id }
    }

    /// It has opened all segments up to `sequence`.
    pub fn come_to(&self, sequence: u64) {
        self.change(|removed| {
            removed.followers.insert(self.id, sequence);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Removed)) {
        let let_go = {
            let removed = &mut self.journal.state().removed;
            change(removed);
            removed.let_go()
        };
        drop(let_go);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.change(|removed| {
            removed.followers.remove(&self.id);
        });
    }
}
