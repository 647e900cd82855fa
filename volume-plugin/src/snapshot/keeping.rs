//! Taking snapshots when their schedule says so, and removing those that need not be kept.
//!
//! What is due is worked out anew at each round, out of the records alone: the first time of the
//! schedule after the last scheduled snapshot. So a start after a stop of the machine takes one
//! snapshot for all that were missed, and a clock that jumps a little takes none twice; what one that was far
//! ahead has dated holds up nothing. One that fails is tried again, each time later, until the next is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::sync::Notify;

use super::Waiting;
use super::schedule::Schedule;
use super::taking::Cause;
use super::trying::clone_of;
use crate::name::ShareName;
use crate::pool::PoolName;
use crate::volume::catalog::{Entry, Phase, Record};
use crate::volume::error::VolumeError;
use crate::volume::purge::lives_in;
use crate::volume::removal::Fate;
use crate::volume::service::Service;
use plugin_sdk::chain::chain;

/// How often schedules are looked at without being asked: a clock may have jumped.
const LOOK: Duration = Duration::from_secs(30);

/// How long after its time a snapshot counts as missed, and how far ahead a clock may have been.
const LATE: SignedDuration = SignedDuration::from_mins(5);

/// How long after a first failure it is tried again, and at most after many.
const AGAIN: Duration = Duration::from_mins(1);
const AGAIN_MOST: Duration = Duration::from_mins(30);

/// How long the schedules of others wait for one snapshot, and for who has its volume.
const TOGETHER: Duration = Duration::from_secs(20);

/// As many missed ones are counted.
const COUNTED: usize = 1000;

/// What became of the schedules of volumes in this process.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    changed: Notify,
    histories: Mutex<BTreeMap<Whose, History>>,
}

/// A schedule: the share of its volume, and since when it is in force. A volume that comes after another of its
/// name has nothing to do with what became of that.
type Whose = (ShareName, Timestamp);

/// What became of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Since the last success.
    pub(crate) failure: Option<Failure>,
    /// What the last round missed, since nobody was there to take it.
    pub(crate) missed: usize,
}

/// A snapshot that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// When it was tried last.
    pub(crate) time: Timestamp,
    /// Why not.
    pub(crate) reason: String,
    /// How often.
    pub(crate) tries: u32,
    #[serde(skip)]
    again: Instant,
}

impl Schedules {
    /// Schedules were changed.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// What became of that of the volume of `record`.
    pub(crate) fn history(&self, record: &Record) -> History {
        self.with(|histories| histories.get(&whose(record)).cloned().unwrap_or_default())
    }

    /// Forgets what became of all others than these.
    fn keep(&self, scheduled: &[Record]) {
        let scheduled: BTreeSet<_> = scheduled.iter().map(whose).collect();
        self.with(|histories| histories.retain(|whose, _| scheduled.contains(whose)));
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Whose, History>) -> T) -> T {
        act(&mut self.histories.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn may_try(&self, record: &Record) -> bool {
        let failure = self.history(record).failure;
        failure.is_none_or(|failure| failure.again <= Instant::now())
    }

    /// Notes an outcome; gives when it is tried again.
    fn note(&self, record: &Record, outcome: Result<usize, String>) {
        self.with(|histories| {
            let history = histories.entry(whose(record)).or_default();
            match outcome {
                Ok(missed) => *history = History { failure: None, missed },
                Err(reason) => {
                    let tries = history.failure.as_ref().map_or(0, |failure| failure.tries) + 1;
                    let pause = AGAIN.saturating_mul(1 << (tries - 1).min(8)).min(AGAIN_MOST);
                    let (time, again) = (Timestamp::now(), Instant::now() + pause);
                    history.failure = Some(Failure { time, reason, tries, again });
                }
            }
        });
    }
}

fn whose(record: &Record) -> Whose {
    (record.share.clone(), since(record))
}

/// Since when the volume's schedule is in force.
fn since(record: &Record) -> Timestamp {
    record.scheduled_since.unwrap_or(record.created)
}

/// What is due of a schedule at `now`: how many times after `base` have come, of which one is to be
/// made up for; those that were due longer ago than [`LATE`] were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    missed: usize,
}

impl Due {
    fn of(schedule: &Schedule, base: Timestamp, now: Timestamp) -> Option<Self> {
        let mut times = Vec::new();
        let mut last = base;
        while times.len() < COUNTED
            && let Some(next) = schedule.next(last).filter(|next| *next <= now)
        {
            times.push(next);
            last = next;
        }
        let newest = times.last()?;
        let late = now.duration_since(*newest) > LATE;
        Some(Self { missed: if late { times.len() } else { times.len() - 1 } })
    }
}

impl Service {
    /// Keeps all schedules, for ever.
    pub(crate) async fn keep_schedules(self: Arc<Self>) {
        loop {
            let now = Timestamp::now();
            self.schedule_round(now).await;
            let next = self.scheduled().iter().filter_map(|record| self.next_of(record)).min();
            let wait = next.map_or(LOOK, |next| {
                let wait = next.duration_since(Timestamp::now());
                // An instant later, since times are whole seconds and clocks are not.
                Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(5)
            });
            tokio::select! {
                () = self.schedules.changed.notified() => {}
                () = tokio::time::sleep(wait.clamp(Duration::from_millis(100), LOOK)) => {}
            }
        }
    }

    /// When the next snapshot of the volume of `record` is due by its schedule.
    pub(crate) fn next_of(&self, record: &Record) -> Option<Timestamp> {
        let now = Timestamp::now();
        record.spec.schedule.as_ref()?.next(self.base(record, now).max(now))
    }

    /// Takes what is due at `now`, then removes what need not be kept.
    pub(crate) async fn schedule_round(self: &Arc<Self>, now: Timestamp) {
        let (begun, begun_at) = (Instant::now(), now);
        let scheduled = self.scheduled();
        self.schedules.keep(&scheduled);
        for record in scheduled {
            // Those before it may have taken long, and its name says when it was taken.
            let now = begun_at + begun.elapsed();
            let Some(schedule) = &record.spec.schedule else { continue };
            let Some(due) = Due::of(schedule, self.base(&record, now), now) else { continue };
            let name = &record.name;
            let is_copied = self.copies.find(|work| work.of == *name).is_some();
            if is_copied || !self.schedules.may_try(&record) {
                continue;
            }
            // Somebody may have it for long, such as a restore that copies files: later then.
            if tokio::time::timeout(TOGETHER, self.turn(name)).await.is_err() {
                continue;
            }
            if due.missed > 0 {
                tracing::warn!(volume = %name, missed = due.missed, "scheduled snapshots were missed");
            }
            let snapshot = now.strftime("auto-%Y%m%dT%H%M%SZ").to_string();
            let begun = match snapshot.parse() {
                Ok(snapshot) => {
                    let (name, cause) = (name.at(&snapshot), Cause::Schedule(now));
                    Arc::clone(self).take_snapshot(name, cause, Waiting::Schedule).await
                }
                Err(error) => Err(VolumeError::Internal(format!("{snapshot}: {error}"))),
            };
            match begun {
                Ok(Some(making)) if !making.work.ended(TOGETHER).await => {
                    // The other schedules do not wait for it.
                    let service = Arc::clone(self);
                    tokio::spawn(async move {
                        service.after_round(&record, due, making.made().await).await;
                    });
                }
                Ok(Some(making)) => self.after_round(&record, due, making.made().await).await,
                Ok(None) => self.after_round(&record, due, Ok(())).await,
                Err(error) => self.after_round(&record, due, Err(error)).await,
            }
        }
    }

    /// Notes what became of the snapshot that was due, and removes what need not be kept.
    async fn after_round(
        self: &Arc<Self>,
        record: &Record,
        due: Due,
        taken: Result<(), VolumeError>,
    ) {
        let name = &record.name;
        if let Err(error) = &taken {
            tracing::error!(volume = %name, error = chain(error), "a scheduled snapshot was not taken");
        }
        self.schedules.note(record, taken.map(|()| due.missed).map_err(|error| chain(&error)));
        self.thin_out(record).await;
    }

    /// Volumes that have a schedule.
    fn scheduled(&self) -> Vec<Record> {
        self.catalog.records(|record| record.spec.schedule.is_some())
    }

    /// The time after which the next snapshot is due. What the clock has dated that was ahead counts for nothing,
    /// or nothing would be due until that time comes once more.
    fn base(&self, record: &Record, now: Timestamp) -> Timestamp {
        let taken = self.scheduled_snapshots(record);
        let times = taken.iter().map(|snapshot| snapshot.created).chain([since(record)]);
        times.filter(|time| *time <= now + LATE).max().unwrap_or(now - LATE)
    }

    /// The snapshots of the volume that its schedule took.
    pub(crate) fn scheduled_snapshots(&self, record: &Record) -> Vec<Record> {
        let snapshots = self.catalog.snapshots(&record.share).into_iter();
        let records = snapshots.filter_map(|(snapshot, entry)| match entry {
            Entry::Volume(found) if found.phase == Phase::Ready => {
                Some(Record { name: record.name.at(&snapshot), ..found })
            }
            _ => None,
        });
        records.filter(Record::is_scheduled).collect()
    }

    /// Removes scheduled snapshots of the volume that need not be kept, by what is to be kept now: taking one may
    /// have taken long.
    async fn thin_out(self: &Arc<Self>, record: &Record) {
        let name = self.catalog.volume_with(&record.share);
        let Some(Entry::Volume(record)) = name.and_then(|name| self.catalog.get(&name)) else {
            return;
        };
        let (Some(schedule), Some(keep)) = (&record.spec.schedule, &record.spec.keep) else {
            return;
        };
        let snapshots = self.scheduled_snapshots(&record);
        let times: Vec<_> = snapshots.iter().map(|snapshot| snapshot.created).collect();
        let expired = keep.expired(schedule.zone(), &times);
        for snapshot in snapshots.into_iter().filter(|one| expired.contains(&one.created)) {
            if let Err(error) = self.drop_scheduled(&snapshot).await {
                tracing::warn!(volume = %snapshot.name, error = chain(&error), "an expired snapshot stays");
            }
        }
    }

    /// Removes the oldest scheduled snapshot that takes space in `pool` and may go, since the pool fills
    /// and nothing is left in the trash; tells whether one went.
    pub(crate) async fn drop_oldest_scheduled(self: &Arc<Self>, pool: &PoolName) -> bool {
        let meant = |record: &Record| record.is_scheduled() && lives_in(record, pool);
        let mut scheduled = self.catalog.records(meant);
        scheduled.sort_by_key(|record| record.created);
        for record in scheduled {
            match self.drop_scheduled(&record).await {
                Ok(true) => {
                    tracing::warn!(%pool, volume = %record.name, "the pool fills: removed the oldest scheduled snapshot");
                    return true;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(volume = %record.name, error = chain(&error), "a snapshot stays in a pool that fills");
                }
            }
        }
        false
    }

    /// Removes a snapshot for good, unless it is protected, mounted, or has clones; tells whether.
    pub(crate) async fn drop_scheduled(
        self: &Arc<Self>,
        snapshot: &Record,
    ) -> Result<bool, VolumeError> {
        // From here on nobody begins to make a clone of it. Somebody may have it for long: another time then.
        let turn = tokio::time::timeout(TOGETHER, self.turn(&snapshot.name)).await;
        let Ok(_turn) = turn else { return Ok(false) };
        let now = match self.catalog.get(&snapshot.name) {
            Some(Entry::Volume(now)) if now.phase == Phase::Ready => now,
            _ => return Ok(false),
        };
        // Somebody may have removed it and taken another of the name.
        if (&now.share, now.created) != (&snapshot.share, snapshot.created) {
            return Ok(false);
        }
        // What was made of it takes space for nobody else.
        let going: Vec<_> = self.prepared(&now).into_iter().chain([now]).collect();
        if going.iter().any(|one| self.is_needed(one)) {
            return Ok(false);
        }
        // Both go, or neither.
        for one in &going {
            let (name, shares) = (one.name.clone(), self.shares(one).await?);
            self.blocking(move |service| service.refuse_if_used(&name, &shares)).await?;
        }
        for one in going {
            self.remove_here(one.name, Fate::Deleted).await?;
        }
        Ok(true)
    }

    /// Whether the snapshot is protected, mounted, has clones, or is being copied, or is to be once more since the
    /// last process ended before a clone was whole.
    fn is_needed(&self, snapshot: &Record) -> bool {
        let is_left = |(_, entry): &(_, Entry)| match entry {
            Entry::Volume(record) => record.left_of().is_some_and(|of| of == snapshot.name),
            Entry::Unreadable(_) => false,
        };
        snapshot.is_protected()
            || !self.mounts.of(&snapshot.name).is_empty()
            || !self.catalog.records(|record| clone_of(snapshot, record).is_some()).is_empty()
            || self.copies.find(|work| work.of == snapshot.name).is_some()
            || self.catalog.all().iter().any(is_left)
    }
}

#[cfg(test)]
#[path = "keeping_tests.rs"]
mod rounds;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::options;
    use crate::volume::spec::Layout;

    fn due(base: &str, now: &str) -> Option<usize> {
        let schedule: Schedule = "0 * * * *".parse().unwrap();
        Due::of(&schedule, base.parse().unwrap(), now.parse().unwrap()).map(|due| due.missed)
    }

    #[test]
    fn one_is_due_for_all_that_were_missed() {
        assert_eq!(due("2026-11-27T10:00:00Z", "2026-11-27T10:59:59Z"), None);
        assert_eq!(due("2026-11-27T10:00:00Z", "2026-11-27T11:00:00Z"), Some(0));
        assert_eq!(due("2026-11-27T10:00:00Z", "2026-11-27T11:30:00Z"), Some(1));
        assert_eq!(due("2026-11-27T10:00:00Z", "2026-11-27T14:01:00Z"), Some(3));
        assert_eq!(due("2025-11-27T10:00:00Z", "2026-11-27T14:01:00Z"), Some(COUNTED));
        // A clock that was set back.
        assert_eq!(due("2026-11-27T10:00:00Z", "2026-11-27T08:01:00Z"), None);
    }

    #[test]
    fn failures_are_tried_again_later_each_time() {
        let schedules = Schedules::default();
        let pools = ["default", "wal"].map(PoolName::new);
        let spec = options::parse(&[].into(), &pools, Layout::Split);
        let record = Record::creating("v".parse().unwrap(), "v".parse().unwrap(), spec.unwrap());
        assert!(schedules.may_try(&record));
        for tries in 1..=12 {
            schedules.note(&record, Err("no room".to_owned()));
            let failure = schedules.history(&record).failure.unwrap();
            assert_eq!((failure.tries, &*failure.reason), (tries, "no room"));
            let pause = failure.again.duration_since(Instant::now());
            assert!(pause <= AGAIN_MOST && (tries < 7 || pause > AGAIN_MOST / 2), "{pause:?}");
            assert!(!schedules.may_try(&record));
        }
        schedules.note(&record, Ok(2));
        assert_eq!(schedules.history(&record), History { failure: None, missed: 2 });
        assert!(schedules.may_try(&record));
    }
}
