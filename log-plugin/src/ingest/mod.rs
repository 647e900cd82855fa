//! From dockerd's FIFOs into journals: a task per stream, on a runtime of their own.
//!
//! Invariants:
//! - A FIFO is read for as long as dockerd has it open, whatever becomes of the disk, the API or
//!   the process: its record is on disk before StartLogging is answered, and the next process
//!   takes it up.
//! - At the end of the process a stream is left as it is; what is in its pipe stays there.
//! - Only the stream's own task touches its segment. The API tells it to stop and waits no longer
//!   than `STOP`.
//!
//! Storing blocks a worker thread for as long as the disk takes: that is what the runtime's
//! threads are for, and why nothing else runs on them.

mod pace;
mod pipes;
mod record;
mod stream;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use record::StreamRecord;
pub(crate) use record::{KIND as RECORD_KIND, VERSION as RECORD_VERSION};

use self::pipes::Budget;
use self::record::Records;
use self::stream::{End, Stream};
use crate::journal::{About, Journals, Limits};
use crate::names::{BadName, ContainerId, StreamId};
use crate::options::{BadOptions, LogSpec};
use crate::sys;

/// How long StopLogging waits for a stream's end. dockerd waits without limit and holds the
/// container's lock meanwhile.
const STOP: Duration = Duration::from_secs(5);

/// How long a stream that failed is left before it is taken up again.
const RETRY: Duration = Duration::from_secs(1);

/// Why a stream cannot begin. All of them are the request's fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A name in the request is none.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The log options.
    #[error(transparent)]
    Options(#[from] BadOptions),
    /// The FIFO cannot be opened.
    #[error("open the FIFO {}", path.display())]
    Fifo {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}

/// All streams.
#[derive(Debug)]
pub struct Streams {
    runtime: Handle,
    journals: Arc<Journals>,
    records: Records,
    budget: Arc<Budget>,
    running: Mutex<HashMap<StreamId, Running>>,
    tasks: TaskTracker,
    interrupt: CancellationToken,
}

#[derive(Debug, Clone)]
struct Running {
    record: Arc<StreamRecord>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Streams {
    /// Streams whose tasks run on `runtime` until `interrupt`, with records in `records`.
    pub fn open(
        records: PathBuf,
        journals: Arc<Journals>,
        runtime: Handle,
        interrupt: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            runtime,
            journals,
            records: Records::open(records)?,
            budget: Arc::new(Budget::new()),
            running: Mutex::new(HashMap::new()),
            tasks: TaskTracker::new(),
            interrupt,
        }))
    }

    /// Begins a stream, or does nothing if it has begun: dockerd repeats what was not answered.
    /// Blocks while the record is written.
    pub fn start(self: &Arc<Self>, record: &StreamRecord) -> Result<(), StartError> {
        let id = StreamId::of_fifo(&record.file)?;
        let limits = Limits::from(&LogSpec::parse(&record.options)?);
        let container = ContainerId::parse(&record.container)?;
        if self.running().contains_key(&id) {
            return Ok(());
        }
        sys::open_fifo(&record.file)
            .map_err(|source| StartError::Fifo { path: record.file.clone(), source })?;
        // A full disk is no reason to keep a container from starting, nor, when dockerd has
        // restarted under it, to end it: the stream then lasts as long as this process, until
        // there is room again.
        let written = self.records.write(&id, record);
        if let Some(stream) = self.attach(id.clone(), record, &container, limits) {
            self.spawn(stream);
        }
        if let Err(error) = written {
            tracing::error!(%error, stream = %id, "the stream's record cannot be written yet");
            self.runtime.spawn(Arc::clone(self).write_later(id, record.clone()));
        }
        Ok(())
    }

    /// Writes the record of a stream that runs without one.
    async fn write_later(self: Arc<Self>, id: StreamId, record: StreamRecord) {
        while self.running().contains_key(&id) {
            tokio::time::sleep(RETRY).await;
            if self.records.write(&id, &record).is_ok() {
                tracing::info!(stream = %id, "the stream's record is written");
                break;
            }
        }
        // One that ended meanwhile needs none.
        if !self.running().contains_key(&id) {
            drop(self.records.remove(&id));
        }
    }

    /// Takes up every stream that an earlier process left, before the first call is answered.
    pub fn take_up(self: &Arc<Self>) -> io::Result<usize> {
        let left = self.records.read_all()?;
        let count = left.len();
        let mut taken = Vec::new();
        for (id, record) in left {
            let limits = LogSpec::parse(&record.options).unwrap_or_else(|error| {
                tracing::warn!(%error, stream = %id, "options of a stream taken up");
                LogSpec::default()
            });
            match ContainerId::parse(&record.container) {
                Ok(container) => {
                    taken.extend(self.attach(id, &record, &container, Limits::from(&limits)));
                }
                Err(error) => tracing::error!(%error, stream = %id, "a stream cannot be taken up"),
            }
        }
        // All have what they had begun before one goes on in a segment that seems to be nobody's.
        for stream in taken {
            self.spawn(stream);
        }
        Ok(count)
    }

    /// Ends the stream of `file` after storing all of it. One that is not known has ended.
    pub async fn stop(&self, file: &std::path::Path) {
        let Some(running) =
            StreamId::of_fifo(file).ok().and_then(|id| self.running().get(&id).cloned())
        else {
            return;
        };
        running.stop.cancel();
        if tokio::time::timeout(STOP, running.ended.cancelled()).await.is_err() {
            tracing::error!(file = %file.display(), "the stream goes on ending after StopLogging");
        }
    }

    /// What every stream that runs was begun with.
    pub fn records(&self) -> Vec<Arc<StreamRecord>> {
        self.running().values().map(|running| Arc::clone(&running.record)).collect()
    }

    /// The options of the newest stream of each container that has one.
    pub fn options(&self) -> HashMap<ContainerId, BTreeMap<String, String>> {
        let mut records = self.records();
        records.sort_by_key(|record| record.started);
        let newest = records.iter().filter_map(|record| {
            Some((ContainerId::parse(&record.container).ok()?, record.options.clone()))
        });
        newest.collect()
    }

    /// Waits until every task has noticed the interrupt.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A stream that is about to be read; none when it is already.
    fn attach(
        &self,
        id: StreamId,
        record: &StreamRecord,
        container: &ContainerId,
        limits: Limits,
    ) -> Option<(Stream, Running)> {
        let journal = self.journals.get(container);
        let running = Running {
            record: Arc::new(record.clone()),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        match self.running().entry(id.clone()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(vacant) => vacant.insert(running.clone()),
        };
        journal.attach(&id);
        let stream = Stream {
            id,
            path: record.file.clone(),
            journal,
            limits,
            budget: Arc::clone(&self.budget),
            stop: running.stop.clone(),
            interrupt: self.interrupt.clone(),
        };
        Some((stream, running))
    }

    fn spawn(self: &Arc<Self>, (stream, running): (Stream, Running)) {
        let streams = Arc::clone(self);
        self.tasks.spawn_on(
            async move {
                let end = streams.keep_running(&stream).await;
                running.ended.cancel();
                // Nobody waits for it: dockerd holds the container's lock until a stream has ended.
                if end != End::Interrupted {
                    note(&stream, &running.record);
                }
            },
            &self.runtime,
        );
    }

    /// Runs a stream until it ends, again and again if it fails: who does not read a FIFO stops
    /// a container. Also after StopLogging, which waits for that; when it no longer does, dockerd
    /// removes the FIFO, and what was in it is still to be stored.
    async fn keep_running(&self, stream: &Stream) -> End {
        let held = Arc::<OnceLock<OwnedFd>>::default();
        let end = loop {
            let (task, fifo) = (stream.clone(), Arc::clone(&held));
            match tokio::spawn(async move { task.run(fifo).await }).await {
                Ok(Ok(end)) => break end,
                Ok(Err(error)) => tracing::error!(%error, stream = %stream.id, "a stream failed"),
                Err(error) => tracing::error!(%error, stream = %stream.id, "a stream panicked"),
            }
            tokio::select! {
                () = self.interrupt.cancelled() => break End::Interrupted,
                () = tokio::time::sleep(RETRY) => {}
            }
        };
        if end == End::Interrupted {
            return end;
        }
        if end == End::Gone {
            // dockerd has gone and will use another FIFO; nobody else removes this one.
            drop(std::fs::remove_file(&stream.path));
        }
        if let Err(error) = self.records.remove(&stream.id) {
            tracing::error!(%error, stream = %stream.id, "the stream's record cannot be removed");
        }
        self.running().remove(&stream.id);
        stream.journal.detach(&stream.id);
        tracing::debug!(stream = %stream.id, ?end, "stream ended");
        end
    }

    fn running(&self) -> MutexGuard<'_, HashMap<StreamId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves word of whose log it is; a disk that is full takes it at the next stream's end.
fn note(stream: &Stream, record: &StreamRecord) {
    let name = record.name.trim_start_matches('/').to_owned();
    let about = About { name, options: record.options.clone() };
    if let Err(error) = stream.journal.note(&about) {
        tracing::info!(%error, stream = %stream.id, "the container's name is not noted");
    }
}
