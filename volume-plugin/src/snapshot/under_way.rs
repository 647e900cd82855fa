//! Copies that are being made. What is made, and what it is made of, belongs to one of them from the turn
//! of both names on until it ends, without the turn: containers come and go meanwhile. Whoever would
//! take away or change what is copied waits for it, or is refused.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::Instant;

use crate::name::VolumeName;
use crate::pool::Progress;
use crate::volume::error::VolumeError;
use crate::volume::service::Service;

/// So many that have ended are known, for whoever asks what became of them.
const REMEMBERED: usize = 64;

/// How long whoever is in the way of a copy waits for its end.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who waits for a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Somebody, for an answer that has to come soon.
    Caller,
    /// Nobody has to: it is shown while it is being made.
    Nobody,
    /// A schedule, whose snapshots are not listed.
    Schedule,
    /// Nobody has to, and it was being made before the plugin was started.
    Restarted,
}

/// A copy that is being made, or was.
#[derive(Debug)]
pub(crate) struct Work {
    /// Its number in this process.
    pub(crate) id: u64,
    /// What is made.
    pub(crate) name: VolumeName,
    /// Of what.
    pub(crate) of: VolumeName,
    /// How far it is.
    pub(crate) progress: Arc<Progress>,
    waiting: Waiting,
    disturbed: AtomicBool,
    ended: OnceLock<Timestamp>,
    /// Why it was not made; none before its end.
    outcome: watch::Sender<Option<Result<(), String>>>,
}

/// A copy that nobody waited for, and that was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Unmade {
    pub(crate) name: VolumeName,
    time: Timestamp,
    reason: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    works: Mutex<Works>,
}

#[derive(Debug, Default)]
struct Works {
    last: u64,
    running: Vec<Arc<Work>>,
    ended: VecDeque<Arc<Work>>,
}

/// A work that goes on; it has ended when this is dropped.
#[derive(Debug)]
pub(super) struct Going {
    pub(super) work: Arc<Work>,
    of: Arc<UnderWay>,
    outcome: Result<(), String>,
}

impl Work {
    /// What became of it; none before its end.
    pub(crate) fn outcome(&self) -> Option<Result<(), String>> {
        self.outcome.borrow().clone()
    }

    /// Waits for its end, at most so long; tells whether it came.
    pub(crate) async fn ended(&self, patience: Duration) -> bool {
        let mut outcome = self.outcome.subscribe();
        let ended = outcome.wait_for(Option::is_some);
        tokio::time::timeout(patience, ended).await.is_ok()
    }

    /// Whether it is shown where volumes are listed.
    pub(crate) fn is_listed(&self) -> bool {
        matches!(self.waiting, Waiting::Nobody | Waiting::Restarted)
    }

    /// Whether somebody has mounted what is copied since it began.
    pub(super) fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::SeqCst)
    }

    /// Whether it is in the way of somebody who would take `name` away, with its snapshots.
    pub(crate) fn is_of(&self, name: &VolumeName) -> bool {
        self.of == *name || name.snapshot().is_none() && self.of.volume() == *name
    }
}

impl UnderWay {
    /// `name` is made of `of` from now on; the caller has the turns of both.
    pub(super) fn begin(
        self: &Arc<Self>,
        name: &VolumeName,
        of: &VolumeName,
        waiting: Waiting,
    ) -> Going {
        let mut works = self.works();
        works.last += 1;
        let work = Arc::new(Work {
            id: works.last,
            name: name.clone(),
            of: of.clone(),
            progress: Arc::default(),
            waiting,
            disturbed: AtomicBool::new(false),
            ended: OnceLock::new(),
            outcome: watch::Sender::default(),
        });
        works.running.push(Arc::clone(&work));
        let outcome = Err("it ended with an internal error".to_owned());
        Going { work, of: Arc::clone(self), outcome }
    }

    /// The one that `is_meant`.
    pub(crate) fn find(&self, is_meant: impl Fn(&Work) -> bool) -> Option<Arc<Work>> {
        self.works().running.iter().find(|work| is_meant(work)).cloned()
    }

    /// The one that makes `name`.
    pub(crate) fn of(&self, name: &VolumeName) -> Option<Arc<Work>> {
        self.find(|work| work.name == *name)
    }

    /// The one that makes `name`, if it is shown.
    pub(crate) fn shown(&self, name: &VolumeName) -> Option<Arc<Work>> {
        self.find(|work| work.name == *name && work.waiting != Waiting::Caller)
    }

    /// The one with this number, also when it has ended.
    pub(crate) fn numbered(&self, id: u64) -> Option<Arc<Work>> {
        let works = self.works();
        works.running.iter().chain(&works.ended).find(|work| work.id == id).cloned()
    }

    /// The one that makes `name`, or else the last that was to.
    pub(crate) fn last_of(&self, name: &VolumeName) -> Option<Arc<Work>> {
        let works = self.works();
        let mut last_first = works.running.iter().chain(works.ended.iter().rev());
        last_first.find(|work| work.name == *name).cloned()
    }

    /// What was to be made of `volume` or its snapshots while nobody waited, and was not, as far as that is
    /// remembered; not what was made since.
    pub(crate) fn unmade(&self, volume: &VolumeName) -> Vec<Unmade> {
        let works = self.works();
        let mut seen: Vec<&VolumeName> = Vec::new();
        let mut unmade = Vec::new();
        for work in works.running.iter().chain(works.ended.iter().rev()) {
            if !work.is_listed() || work.of.volume() != *volume || seen.contains(&&work.name) {
                continue;
            }
            seen.push(&work.name);
            if let (Some(&time), Some(Err(reason)), false) =
                (work.ended.get(), work.outcome(), work.progress.is_cancelled())
            {
                unmade.push(Unmade { name: work.name.clone(), time, reason });
            }
        }
        unmade
    }

    /// Somebody mounts `name`.
    pub(crate) fn disturb(&self, name: &VolumeName) {
        for work in self.works().running.iter().filter(|work| work.of == *name) {
            work.disturbed.store(true, Ordering::SeqCst);
        }
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Going {
    /// What became of it.
    pub(super) fn end(mut self, outcome: Result<(), String>) {
        self.outcome = outcome;
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.work.ended.get_or_init(Timestamp::now);
        let mut works = self.of.works();
        works.running.retain(|work| work.id != self.work.id);
        works.ended.push_back(Arc::clone(&self.work));
        let over = works.ended.len().saturating_sub(REMEMBERED);
        works.ended.drain(..over);
        drop(works);
        // Not earlier: who has waited finds it gone.
        self.work.outcome.send_replace(Some(self.outcome.clone()));
    }
}

impl Service {
    /// The turns of `names`, once no copy `in_the_way` is under way; refused where that takes too long.
    pub(crate) async fn turns_without(
        &self,
        names: &[&VolumeName],
        in_the_way: impl Fn(&Work) -> bool,
    ) -> Result<Vec<OwnedMutexGuard<()>>, VolumeError> {
        let deadline = Instant::now() + PATIENCE;
        // In the order of names, or two who want each other's would wait for ever.
        let mut volumes: Vec<_> = names.iter().map(|name| name.volume()).collect();
        volumes.sort();
        volumes.dedup();
        loop {
            let mut turns = Vec::new();
            for volume in &volumes {
                let left = deadline.saturating_duration_since(Instant::now());
                let turn = tokio::time::timeout(left, self.turn(volume)).await;
                turns.push(turn.map_err(|_| VolumeError::Busy(volume.clone()))?);
            }
            let Some(work) = self.copies.find(&in_the_way) else { return Ok(turns) };
            drop(turns);
            if !work.ended(deadline.saturating_duration_since(Instant::now())).await {
                let Work { name, of, .. } = &*work;
                return Err(VolumeError::Copied { name: name.clone(), of: of.clone() });
            }
        }
    }

    /// Ends the copy that makes `name`, and waits until nothing of it is left.
    pub async fn cancel(self: &Arc<Self>, name: &VolumeName) -> Result<(), VolumeError> {
        let Some(work) = self.copies.of(name) else {
            return self.forget_left(name).await;
        };
        work.progress.cancel();
        if !work.ended(PATIENCE).await {
            return Err(VolumeError::Copied { name: work.name.clone(), of: work.of.clone() });
        }
        match work.outcome() {
            // It was made before it was told.
            Some(Ok(())) => Err(VolumeError::NotMade(name.clone())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "under_way_tests.rs"]
mod tests;
