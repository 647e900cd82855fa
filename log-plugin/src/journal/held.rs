//! Segments that retention has removed before a sink came to them.
//!
//! Each is held open in the queue of every sink's reader that has yet to read it, so that a sink
//! that is only a moment behind loses nothing. A sink that cannot deliver counts what is in them
//! and lets them go: it costs disk within the container's own limits only.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Removed segments of one reader, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    segments: Mutex<VecDeque<Held>>,
    added: Notify,
}

/// A segment that has no name any more.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) sequence: u64,
    pub(super) file: Arc<File>,
}

impl Queue {
    pub(super) fn push(&self, sequence: u64, file: Arc<File>) {
        self.lock().push_back(Held { sequence, file });
        self.added.notify_one();
    }

    /// Takes all of them.
    pub(super) fn take(&self) -> VecDeque<Held> {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until there is one.
    pub(super) async fn any(&self) {
        while self.lock().is_empty() {
            self.added.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Held>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
