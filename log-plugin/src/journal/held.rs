//! Segments that retention has removed before a sink came to them.
//!
//! Each is held open in the queue of every sink's reader that has yet to read it, so that a sink
//! that is only a moment behind loses nothing. A sink that cannot deliver counts what is in them
//! and lets them go: it costs disk within the container's own limits only. A full disk has them closed here,
//! and the sink learns that they have gone.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Contents;

/// Removed segments of one reader, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    segments: VecDeque<Held>,
    /// The highest sequence that the reader has taken note of,
    newest: u64,
    /// and those up to it that it may read more of.
    open: BTreeSet<u64>,
}

/// A segment that has no name any more.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) sequence: u64,
    /// None for a full disk's sake.
    pub(super) file: Option<Arc<Contents>>,
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

    pub(super) fn push(&self, sequence: u64, file: Option<Arc<Contents>>) {
        self.lock().segments.push_back(Held { sequence, file });
        self.added.notify_one();
    }

    /// Takes all of them.
    pub(super) fn take(&self) -> VecDeque<Held> {
        std::mem::take(&mut self.lock().segments)
    }

    /// The files of all of them, to be closed.
    pub(super) fn release(&self) -> Vec<Arc<Contents>> {
        self.lock().segments.iter_mut().filter_map(|held| held.file.take()).collect()
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
