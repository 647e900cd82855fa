//! Segments that retention has removed before a sink came to them.
//!
//! Each is held open in the queue of every sink's reader that has yet to read it, so that a sink
//! that is only a moment behind loses nothing. A sink that cannot deliver counts what is in them
//! and lets them go: it costs disk within the container's own limits only. A full disk has them closed here,
//! and the sink learns that they have gone. So have many small ones: a container's `max-size` must not cost
//! all others their descriptors.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Contents;

/// Most files that are held for one reader between two of its looks.
const MOST: usize = 32;

/// Removed segments of one reader, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    segments: VecDeque<Held>,
    /// How many of them have their files.
    files: usize,
    /// The highest sequence that the reader has taken note of,
    newest: u64,
    /// and those up to it that it may read more of.
    open: BTreeSet<u64>,
}

/// A segment that has no name any more.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) sequence: u64,
    /// None for a full disk's sake, or for that of the others.
    pub(super) file: Option<Arc<Contents>>,
    /// How many lines it had, if that could be told.
    pub(super) lines: Option<u64>,
}

impl Queue {
    /// The reader has taken note of all up to `newest` and may read more of those `open`.
    pub(super) fn come_to(&self, newest: u64, open: BTreeSet<u64>) {
        let mut inner = self.lock();
        (inner.newest, inner.open) = (newest, open);
    }

    /// Whether the reader has yet to read all of the segment numbered `sequence`. It may have
    /// come further than is known here, but never less far.
    pub(super) fn wants(&self, sequence: u64) -> bool {
        let inner = self.lock();
        sequence > inner.newest || inner.open.contains(&sequence)
    }

    /// Adds one; gives back the oldest's file when they are too many, to be closed outside of locks.
    pub(super) fn push(&self, held: Held) -> Option<Arc<Contents>> {
        let mut inner = self.lock();
        inner.files += usize::from(held.file.is_some());
        inner.segments.push_back(held);
        let closed = if inner.files > MOST {
            inner.segments.iter_mut().find_map(|held| held.file.take())
        } else {
            None
        };
        inner.files -= usize::from(closed.is_some());
        drop(inner);
        self.added.notify_one();
        closed
    }

    /// Takes all of them.
    pub(super) fn take(&self) -> VecDeque<Held> {
        let mut inner = self.lock();
        inner.files = 0;
        std::mem::take(&mut inner.segments)
    }

    /// The files of all of them, to be closed.
    pub(super) fn release(&self) -> Vec<Arc<Contents>> {
        let mut inner = self.lock();
        inner.files = 0;
        inner.segments.iter_mut().filter_map(|held| held.file.take()).collect()
    }

    /// Waits until there is one.
    pub(super) async fn any(&self) {
        while self.lock().segments.is_empty() {
            self.added.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
