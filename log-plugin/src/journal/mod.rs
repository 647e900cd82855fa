//! One append-only journal per container: a directory of segments, each a file of dockerd's
//! frames as they came.
//!
//! Invariants:
//! - A segment is called `SEQUENCE.TAG`, a packed one `SEQUENCE.TAG.LENGTH`. Sequences only grow, and in their order the segments are
//!   the container's log. `TAG` says whose it is: it belongs to one stream at a time.
//! - A segment has no header and begins with a frame; it is cut between two frames only. The
//!   file's size is how far the log has been stored, so nothing may lengthen it ahead of data.
//! - Half a frame at the end is kept while its stream lives, since the rest is still in the pipe.
//!   Readers stop before it, and it is cut off when something is to follow it.
//! - There is one [`Journal`] per directory in the process, and one [`Writer`] per stream.
//!
//! The lock is held for moments and never across a system call: draining waits for nobody.

mod about;
mod contents;
mod gone;
mod held;
mod index;
mod inventory;
mod kept_index;
mod limits;
#[cfg(test)]
mod numbers_tests;
mod packed;
mod packing;
mod reader;
mod removal;
mod removed;
mod room;
mod segment;
mod syncing;
#[cfg(any(test, feature = "fuzzing"))]
pub mod untrusted;
mod writer;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

pub use about::About;
pub(crate) use about::{KIND as ABOUT_KIND, VERSION as ABOUT_VERSION};

pub use contents::Contents;
use gone::Gone;
pub use gone::Lost;
pub(crate) use gone::{KIND as GONE_KIND, VERSION as GONE_VERSION};
use held::{Held, Queue};
pub use index::{Index, Stretch};
pub use inventory::{Inventory, Stored};
pub(crate) use kept_index::{KIND as INDEX_KIND, VERSION as INDEX_VERSION};
pub use limits::Limits;
pub use packed::Packed;
pub(crate) use packed::{KIND as PACKED_KIND, VERSION as PACKED_VERSION};
pub use reader::{Batch, Dropped, Position, Reader};
pub use removal::RemovalError;
pub use removed::Follower;
use removed::Removed;
use segment::Segment;
pub use writer::{Filled, Writer};

use crate::names::{ContainerId, StreamId};

/// The stored log of one container.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    gone: Arc<Gone>,
    /// Held by the stream that begins a segment, and while segments are listed. No call waits for it.
    beginning: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    segments: BTreeMap<u64, Segment>,
    streams: Vec<Attached>,
    /// The highest sequence ever given out.
    last: u64,
    removed: Removed,
    /// The sinks that read this journal.
    readers: BTreeMap<u64, Arc<Queue>>,
    next_reader: u64,
    /// Segments that have grown and are to be brought to the disk.
    unsynced: BTreeSet<u64>,
    /// What is stored is known.
    listed: bool,
}

#[derive(Debug)]
struct Attached {
    id: StreamId,
    /// A newer stream has begun and nothing has come through this one since: what dockerd leaves
    /// behind when a StopLogging failed. It is read on, but no follower waits for its end.
    superseded: bool,
}

impl State {
    /// The last segment of the stream `id`, the only one that it may still write to.
    fn newest_of(&mut self, id: &StreamId) -> Option<&mut Segment> {
        self.segments.values_mut().rev().find(|own| own.tag == id.tag())
    }
}

impl Journal {
    /// The journal in `dir`, which need not exist before there is something to store. One that
    /// cannot be listed counts as empty until it can: no disk keeps a container from starting.
    pub fn open(dir: &Path) -> Self {
        Self::with(dir, Gone::of(dir).into())
    }

    fn with(dir: &Path, gone: Arc<Gone>) -> Self {
        let (dir, changed) = (dir.to_owned(), watch::Sender::new(()));
        let journal =
            Self { dir, state: Mutex::default(), changed, gone, beginning: Mutex::default() };
        if let Err(error) = journal.list() {
            tracing::error!(%error, journal = %journal.dir.display(), "a journal cannot be listed");
        }
        journal
    }

    /// Lists what is stored, where that could not be done yet. Nothing is begun, removed or read by
    /// a sink before: what is there would be taken for what is not.
    pub fn list(&self) -> io::Result<()> {
        if self.state().listed {
            return Ok(());
        }
        let _alone = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state().listed {
            return Ok(());
        }
        let segments = segment::list(&self.dir)?;
        let last = segments.last_key_value().map_or(0, |(&sequence, _)| sequence);
        // A number is given out once: a sink that has read of it is past it.
        let last = last.max(self.gone.last_removed());
        let mut state = self.state();
        (state.segments, state.last, state.listed) = (segments, last, true);
        let streams: Vec<_> = state.streams.iter().map(|stream| stream.id.clone()).collect();
        for id in streams {
            if let Some(own) = state.newest_of(&id) {
                own.live = true;
            }
        }
        Ok(())
    }

    /// Tells whenever there is more to read, a stream has ended, or a segment has gone.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes note of a stream whose frames will come here. What it began in an earlier life of
    /// the process is its own from now on, though it may be long before it goes on with it.
    pub fn attach(&self, id: &StreamId) {
        let mut state = self.state();
        if let Some(own) = state.newest_of(id) {
            own.live = true;
        }
        state.streams.iter_mut().for_each(|stream| stream.superseded = true);
        state.streams.push(Attached { id: id.clone(), superseded: false });
    }

    /// The stream has ended and all of it is stored.
    pub fn detach(&self, id: &StreamId) {
        let mut state = self.state();
        state.streams.retain(|stream| stream.id != *id);
        if let Some(own) = state.newest_of(id) {
            own.live = false;
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Whether more may come.
    pub fn is_live(&self) -> bool {
        self.state().streams.iter().any(|stream| !stream.superseded)
    }

    /// The numbers of all segments after `sequence`, in order.
    pub fn segments_after(&self, sequence: u64) -> Vec<u64> {
        let state = self.state();
        let all = state.removed.sequences().chain(state.segments.keys().copied());
        let mut later: Vec<_> = all.filter(|&at| at > sequence).collect();
        later.sort_unstable();
        later
    }

    /// Whether a stream may still write to the segment numbered `sequence`.
    pub fn is_growing(&self, sequence: u64) -> bool {
        self.state().segments.get(&sequence).is_some_and(|segment| segment.live)
    }

    /// Opens a segment for reading; `None` when it has gone meanwhile.
    pub fn open_segment(&self, sequence: u64) -> io::Result<Option<Arc<Contents>>> {
        // A segment that changes hands has another name for a moment than is noted here.
        for _ in 0..100 {
            let segment = {
                let state = self.state();
                if let Some(segment) = state.segments.get(&sequence) {
                    segment.clone()
                } else {
                    return Ok(state.removed.open(sequence));
                }
            };
            match segment.open(&self.dir) {
                Ok(contents) => return Ok(Some(Arc::new(contents))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Notes a sink's reader; tells the highest sequence too.
    fn register(&self) -> (u64, Arc<Queue>, u64) {
        let mut state = self.state();
        let (id, queue) = (state.next_reader, Arc::<Queue>::default());
        state.next_reader += 1;
        state.readers.insert(id, Arc::clone(&queue));
        (id, queue, state.last)
    }

    fn unregister(&self, reader: u64) {
        let queue = self.state().readers.remove(&reader);
        // Outside the lock: it may be what keeps removed segments open.
        drop(queue);
    }

    /// What a sink has not heard of: the removed segments in its `queue`, and the numbers of those
    /// after `sequence` that have a name, both at the same moment.
    fn news(&self, queue: &Queue, sequence: u64) -> (VecDeque<Held>, Vec<u64>) {
        let state = self.state();
        let named = state.segments.range(sequence.saturating_add(1)..).map(|(&at, _)| at).collect();
        (queue.take(), named)
    }

    /// How many bytes are stored that come after `position`.
    pub fn unread(&self, position: &Position) -> u64 {
        let state = self.state();
        let unread = |(sequence, segment): (&u64, &Segment)| match position.open.get(sequence) {
            Some(offset) => segment.size.saturating_sub(*offset),
            None if *sequence > position.newest => segment.size,
            None => 0,
        };
        state.segments.iter().map(unread).sum()
    }

    /// Opens a segment that has a name.
    fn open_named(&self, sequence: u64) -> io::Result<Option<Arc<Contents>>> {
        if !self.state().segments.contains_key(&sequence) {
            return Ok(None);
        }
        self.open_segment(sequence)
    }

    fn gone(&self) -> &Gone {
        &self.gone
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The journals of all containers, below one directory.
#[derive(Debug)]
pub struct Journals {
    dir: PathBuf,
    open: Mutex<HashMap<ContainerId, Weak<Journal>>>,
    /// Outlive the journals where the disk does not have them.
    gone: Mutex<HashMap<ContainerId, Arc<Gone>>>,
}

impl Journals {
    /// The journals below `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, open: Mutex::default(), gone: Mutex::default() }
    }

    /// The journal of `container`, empty if nothing was ever stored.
    pub fn get(&self, container: &ContainerId) -> Arc<Journal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(journal) = open.get(container).and_then(Weak::upgrade) {
            return journal;
        }
        open.retain(|_, journal| journal.strong_count() > 0);
        let gone = self.gone_of(container);
        let journal = Arc::new(Journal::with(&self.dir.join(container.as_str()), gone));
        open.insert(container.clone(), Arc::downgrade(&journal));
        journal
    }

    fn gone(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<Gone>>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
