//! A copy of a volume's shares while nobody writes: who has to be stopped for it, and for how long.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::barrier::{Barrier, BarrierError};
use super::capture::{Job, Live, micros, millis};
use super::{Level, SnapshotError, Stall, Taken};
use crate::pool::Capture;
use crate::sys::process::Process;
use crate::sys::{Doing, step};
use crate::volume::error::VolumeError;

/// How often all are stopped, where one of them did not stop in time or somebody new came.
const MOST_STOPS: u32 = 3;

/// How often is flushed before, unless it takes less time than this.
const MOST_FLUSHES: u32 = 4;
const SHORT: Duration = Duration::from_millis(20);

/// Why not all were stopped until all was captured.
enum Unstopped {
    /// The next try may do it.
    Again(String),
    /// No other will.
    Never(String),
}

impl From<BarrierError> for Unstopped {
    fn from(error: BarrierError) -> Self {
        match error {
            BarrierError::Runs { .. } | BarrierError::Came { .. } => Self::Again(error.to_string()),
            _ => Self::Never(error.to_string()),
        }
    }
}

impl Job<'_> {
    /// A copy of all at one instant, at which nobody writes; or why there is none.
    pub(super) fn at_barrier(
        &self,
        live: &Live,
        begun: Instant,
    ) -> Result<Result<Taken, String>, VolumeError> {
        let mut tries = 0;
        loop {
            // Before anything is copied for it.
            if let Err(why) = self.writers(live)? {
                return Ok(Err(why));
            }
            let outcome = match self.stopped(live)? {
                Ok(stall) => Ok(stall),
                Err(Unstopped::Never(why)) => return Ok(Err(why)),
                Err(Unstopped::Again(why)) => Err(why),
            };
            match outcome {
                Ok(stall) => {
                    let taken = Self::taken(Level::Barrier, tries, begun, self.checked(live))?;
                    let (stall_ms, stall) = (Some(millis(stall)), Some(self.parts.get()));
                    return Ok(Ok(Taken { stall_ms, stall, ..taken }));
                }
                Err(why) => {
                    tries += 1;
                    tracing::debug!(why, tries, "not all were stopped");
                    self.discard()?;
                    if tries >= MOST_STOPS || self.pace.go_on().is_err() {
                        return Ok(Err(why));
                    }
                }
            }
        }
    }

    /// Captures all while they are stopped, and tells how long they were.
    fn stopped(&self, live: &Live) -> Result<Result<Duration, Unstopped>, VolumeError> {
        self.prepare()?;
        let aheads = self.ahead(live)?;
        self.flush()?;
        self.wal_ahead(live, &aheads)?;
        // Nobody comes from here on; until here everybody may, for that may take long.
        let turn = (self.turn)();
        let writers = match self.writers(live)? {
            Ok(writers) => writers,
            Err(why) => return Ok(Err(Unstopped::Never(why))),
        };
        let barrier = match Barrier::stop(writers.clone()) {
            Ok(barrier) => barrier,
            Err(error) => return Ok(Err(error.into())),
        };
        let pace = &self.pace.by(barrier.deadline());
        let stopping_us = micros(barrier.stopping);
        let captured = step("snapshot.stopped")
            .map_err(VolumeError::from)
            .and_then(|()| self.capture_stopped(live, pace, &aheads));
        self.parts.set(Stall { stopping_us, ..self.parts.get() });
        let stall = match barrier.release() {
            Ok(stall) => stall,
            Err(error) => return Ok(Err(error.into())),
        };
        let captured = match captured {
            Err(VolumeError::Snapshot(SnapshotError::TimeOut)) => {
                return Ok(Err(BarrierError::TooLong.into()));
            }
            captured => captured?,
        };
        if self.writers(live)? != Ok(writers) {
            return Ok(Err(Unstopped::Again("somebody mounted it meanwhile".to_owned())));
        }
        drop(turn);
        self.complete(captured).map(|()| Ok(stall))
    }

    /// Brings to the disk what a capture at once would have to flush while all are stopped; again, as
    /// long as much is written during that. Files that are copied are read from memory as well.
    fn flush(&self) -> Result<(), VolumeError> {
        for _ in 0..MOST_FLUSHES {
            let begun = Instant::now();
            for share in self.live.iter().filter(|share| share.capture() == Capture::AtOnce) {
                share.open()?.sync_all().doing(|| format!("sync {}", share.name))?;
            }
            if begun.elapsed() < SHORT {
                break;
            }
        }
        Ok(())
    }

    /// The mount namespaces that have the volume; or why what is in one of them cannot be stopped.
    fn writers(&self, live: &Live) -> Result<Result<BTreeSet<u64>, String>, VolumeError> {
        let home = |pid: u32| Process::open(pid).and_then(|process| process.namespaces());
        // The engine's and the plugin's own; what may not be looked at may not be stopped either.
        let spared = [1, std::process::id()].map(|pid| home(pid).ok().map(|home| home.mount));
        let users = (self.users)()?.into_iter().map(|user| user.pid);
        let mut writers = BTreeSet::new();
        for pid in users.chain(live.servers.iter().map(|server| server.process.pid())) {
            // One that has ended writes nothing.
            let Ok(home) = home(pid) else { continue };
            if spared.contains(&Some(home.mount)) {
                return Ok(Err(format!("process {pid}, which is in no container, has it")));
            }
            writers.insert(home.mount);
        }
        Ok(Ok(writers))
    }
}
