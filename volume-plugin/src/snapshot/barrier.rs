//! All that may write to a volume, stopped at one instant: every thread of every process in the mount
//! namespaces that have the volume, whether or not it has files of it open, so that none can come to it
//! from there meanwhile and a look at all processes is short.
//!
//! They are let go when the thread that stopped them ends, by the kernel itself, whatever ends it; see
//! [`crate::sys::trace`]. It ends by itself once [`LIMIT`] is over.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sys::process;
use crate::sys::trace::{self, Told};

/// How long processes are stopped at most.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// How long they may take to stop: one that waits for a disk stops when the disk has answered.
const STOPPING: Duration = Duration::from_millis(500);

/// Processes that are stopped.
#[derive(Debug)]
pub(super) struct Barrier {
    release: Sender<()>,
    tracer: JoinHandle<Held>,
    begun: Instant,
    /// How long it took until all were.
    pub(super) stopping: Duration,
}

/// Whether all that may write were stopped until they were let go.
#[derive(Debug)]
enum Held {
    ToTheEnd,
    TooShort,
    /// Not one that came meanwhile; or it is not known.
    NotAll(BarrierError),
}

/// Why not all could be stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum BarrierError {
    /// A debugger has it.
    #[error("process {pid} is being traced by process {tracer}")]
    Traced { pid: u32, tracer: u32 },
    /// It waits for something.
    #[error("process {pid} did not stop within {} ms", STOPPING.as_millis())]
    Runs { pid: u32 },
    /// It was sent in from outside, as by `docker exec`.
    #[error("process {pid} came to those that were stopped")]
    Came { pid: u32 },
    /// They were let go too early.
    #[error("capturing took longer than the {} s for which processes are stopped", LIMIT.as_secs())]
    TooLong,
    /// The system refused.
    #[error("stop process {pid}: {source}")]
    Process { pid: u32, source: io::Error },
    /// The system refused.
    #[error("look at all processes: {0}")]
    Processes(#[source] io::Error),
    /// A fault of ours.
    #[error("the thread that stops processes has ended")]
    Ended,
}

impl Barrier {
    /// Stops all processes in these mount namespaces; on an error none of them is.
    pub(super) fn stop(namespaces: BTreeSet<u64>) -> Result<Self, BarrierError> {
        let (tell, told) = mpsc::sync_channel(1);
        let (release, released) = mpsc::channel();
        let tracer = thread::Builder::new().name("barrier".to_owned());
        let tracer = tracer
            .spawn(move || hold(&namespaces, &tell, &released))
            .map_err(BarrierError::Processes)?;
        match told.recv() {
            Ok(Ok(begun)) => Ok(Self { release, tracer, begun, stopping: begun.elapsed() }),
            Ok(Err(error)) => {
                drop(tracer.join());
                Err(error)
            }
            Err(_) => Err(BarrierError::Ended),
        }
    }

    /// When they go on by themselves.
    pub(super) fn deadline(&self) -> Instant {
        self.begun + LIMIT
    }

    /// Lets them go and tells how long they were stopped.
    pub(super) fn release(self) -> Result<Duration, BarrierError> {
        self.release.send(()).ok();
        match self.tracer.join().map_err(|_| BarrierError::Ended)? {
            Held::ToTheEnd => Ok(self.begun.elapsed()),
            Held::TooShort => Err(BarrierError::TooLong),
            Held::NotAll(error) => Err(error),
        }
    }
}

/// What the tracer does; its end lets all go.
fn hold(
    namespaces: &BTreeSet<u64>,
    tell: &SyncSender<Result<Instant, BarrierError>>,
    released: &Receiver<()>,
) -> Held {
    // Looked for before the first is stopped, which need not wait for it.
    let first = process::threads_in(namespaces).map_err(BarrierError::Processes);
    let begun = Instant::now();
    let stopped = match first.and_then(|first| stop_all(namespaces, first, begun + STOPPING)) {
        Ok(stopped) => stopped,
        Err(error) => {
            tell.send(Err(error)).ok();
            return Held::TooShort;
        }
    };
    if tell.send(Ok(begun)).is_err() {
        return Held::TooShort;
    }
    match released.recv_timeout((begun + LIMIT).saturating_duration_since(Instant::now())) {
        Ok(()) => nobody_came(namespaces, &stopped),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Held::TooShort,
    }
}

/// Looks once more, before those that are stopped can start others.
fn nobody_came(namespaces: &BTreeSet<u64>, stopped: &BTreeSet<u32>) -> Held {
    match process::threads_in(namespaces) {
        Err(error) => Held::NotAll(BarrierError::Processes(error)),
        Ok(now) => match now.into_iter().find(|(_, thread)| !stopped.contains(thread)) {
            Some((pid, _)) => Held::NotAll(BarrierError::Came { pid }),
            None => Held::ToTheEnd,
        },
    }
}

/// Stops the threads `new`, each behind its process, and whoever else is there, again and again until nobody
/// new is: each look begins when all that are known have stopped, so that what they had just started is
/// seen. Gives all their threads.
fn stop_all(
    namespaces: &BTreeSet<u64>,
    mut new: Vec<(u32, u32)>,
    deadline: Instant,
) -> Result<BTreeSet<u32>, BarrierError> {
    let mut known: BTreeSet<u32> = new.iter().map(|(_, thread)| *thread).collect();
    loop {
        for &(pid, thread) in &new {
            match trace::stop(thread) {
                Ok(Told::Stops | Told::Ended) => {}
                Ok(Told::Traced(tracer)) => return Err(BarrierError::Traced { pid, tracer }),
                Err(source) => return Err(BarrierError::Process { pid, source }),
            }
        }
        for (pid, thread) in new {
            while !trace::is_stopped(thread) {
                if Instant::now() >= deadline {
                    return Err(BarrierError::Runs { pid });
                }
                thread::yield_now();
            }
        }
        new = process::threads_in(namespaces).map_err(BarrierError::Processes)?;
        new.retain(|(_, thread)| known.insert(*thread));
        if new.is_empty() {
            return Ok(known);
        }
    }
}

#[cfg(test)]
#[path = "barrier_tests.rs"]
mod tests;
