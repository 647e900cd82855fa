//! Taking snapshots.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use plugin_sdk::chain::chain;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;

use super::anew::{Unattended, Way};
use super::capture::Job;
use super::{Consistency, SnapshotError, Taken, Waiting, Work};
use crate::name::VolumeName;
use crate::pool::{Capture, Captured, Pace, PoolError};
use crate::sys::{Doing, step};
use crate::volume::catalog::{Entry, Phase, Record};
use crate::volume::copies::{self, SnapshotSpec};
use crate::volume::error::VolumeError;
use crate::volume::options::RawOptions;
use crate::volume::service::{Service, refuse_orphans};
use crate::volume::share::Share;
use crate::volume::spec::Access;
use crate::volume::usage;

/// How long a copy may take: Docker waits a little longer for the answer.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// How long counting what there is to copy may take.
const COUNTING: Duration = Duration::from_secs(2);

/// Why a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause<'a> {
    /// Somebody wants it, with these options.
    Asked(&'a RawOptions),
    /// The volume's schedule says so, at this time.
    Schedule(Timestamp),
}

impl Service {
    /// Begins to take the snapshot `name`; none where it is there already.
    pub(crate) async fn take_snapshot(
        self: Arc<Self>,
        name: VolumeName,
        cause: Cause<'_>,
        waiting: Waiting,
    ) -> Result<Option<Making>, VolumeError> {
        let begun = Instant::now();
        // One at a time, since they hold on to WAL in the same place.
        let in_the_way = |work: &Work| {
            work.name == name || work.of == name.volume() && self.ready(&name).is_err()
        };
        let turns = self.turns_without(&[&name], in_the_way).await?;
        // The name may be that of what a restore has yet to write.
        self.settle_restore_of(&name).await?;
        let left = match self.way_for(&name, waiting).await? {
            Way::Made(_) | Way::Gone => return Ok(None),
            Way::Free(left) => left,
        };
        let (asked, created, scheduled, unattended) = match cause {
            Cause::Asked(raw) => {
                let unattended = Unattended::of(waiting, raw, left.as_ref());
                (copies::snapshot(&name, raw)?, Timestamp::now(), false, unattended)
            }
            // What is still due after a start is taken by its schedule.
            Cause::Schedule(at) => (SnapshotSpec::default(), at, true, None),
        };
        self.refuse_bad_settings()?;
        let of = self.settled(&name.volume()).await?;
        let mut spec = of.spec.clone();
        spec.labels = asked.labels;
        spec.access = Access::Guarded;
        spec.sizes = spec.sizes.of_copy(None);
        (spec.schedule, spec.keep) = (None, None);
        let share = left.map_or_else(|| self.catalog.free_share(&name), |left| left.share);
        let record = Record {
            created,
            unattended,
            wal_directories: of.wal_directories.clone(),
            ..Record::creating(name, share, spec)
        };
        self.refuse_when_short(&record, begun).await?;
        let command = match asked.consistency {
            Consistency::Auto => format!("docker pgvol snapshot create {}", record.name),
            level => {
                format!("docker pgvol snapshot create --consistency={level} {}", record.name)
            }
        };
        let copies = Copies {
            live: self.shares(&of).await?,
            copy: self.shares(&record).await?,
            of,
            kind: Captured::ReadOnly,
            wanted: asked.consistency,
        };
        let order = Order { copies, waiting, begun, command };
        Ok(Some(self.make_copy(record, order, turns, move |record, _, taken| {
            record.taken = Some(Box::new(Taken { protected: false, scheduled, ..taken }));
            Ok(())
        })))
    }

    /// Keeps the snapshot `name` whatever happens, or no longer.
    pub async fn protect(
        self: Arc<Self>,
        name: VolumeName,
        protected: bool,
    ) -> Result<(), VolumeError> {
        let _turn = self.turn(&name).await;
        let mut record = self.ready(&name)?;
        let taken = record.taken.as_mut().ok_or(VolumeError::NoSnapshot(name))?;
        taken.protected = protected;
        self.blocking(move |service| Ok(service.catalog.put(record)?)).await
    }

    /// All snapshots that are whole, or those of one volume: their names, times and how they were taken.
    pub fn taken_snapshots(&self, of: Option<&VolumeName>) -> Result<Vec<Listed>, VolumeError> {
        if let Some(of) = of {
            self.ready(of)?;
        }
        let meant = |name: &VolumeName| {
            name.snapshot().is_some() && of.is_none_or(|of| name.volume() == of.volume())
        };
        let all = self.catalog.all().into_iter().filter(|(name, _)| meant(name));
        Ok(all
            .filter_map(|(name, entry)| match entry {
                Entry::Unreadable(_) => Some(Listed { name, created: None, taken: None }),
                Entry::Volume(record) => {
                    let taken = Taken::clone(record.taken.as_ref()?);
                    Some(Listed { name, created: Some(record.created), taken: Some(taken) })
                }
            })
            .collect())
    }

    /// The record of `name`, of which no move and no restore is unfinished; the caller has its turn.
    pub(super) async fn settled(
        self: &Arc<Self>,
        name: &VolumeName,
    ) -> Result<Record, VolumeError> {
        let record = self.settle_restore(self.ready(name)?).await?;
        if record.moving.is_none() {
            return Ok(record);
        }
        let shares = self.shares(&record).await?;
        self.blocking(move |service| service.settle(record, &shares)).await
    }

    /// No snapshot is worth the space that the servers need. Who asked for it when it was `begun` is not kept
    /// waiting for room for longer than for the copy.
    pub(super) async fn refuse_when_short(
        self: &Arc<Self>,
        record: &Record,
        begun: Instant,
    ) -> Result<(), VolumeError> {
        let deadline = begun + LIMIT;
        for (home, _) in record.spec.shares() {
            while self.is_pool_short(&home.pool).await {
                let is_late = Instant::now() >= deadline;
                if is_late || !self.make_room_by(&home.pool, deadline).await {
                    return Err(SnapshotError::Short(home.pool).into());
                }
            }
        }
        Ok(())
    }

    /// Makes the volume of `record` a copy, on a thread of its own: intent, shares, what is left to `finish`,
    /// commit. The turns are given back once there is the intent.
    pub(super) fn make_copy(
        self: &Arc<Self>,
        record: Record,
        order: Order,
        turns: Vec<OwnedMutexGuard<()>>,
        finish: impl FnOnce(&mut Record, &Copies, Taken) -> Result<(), VolumeError> + Send + 'static,
    ) -> Making {
        let Order { copies, waiting, begun, command } = order;
        let going = self.copies.begin(&record.name, &copies.of.name, waiting);
        let work = Arc::clone(&going.work);
        let service = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let deadline = (waiting == Waiting::Caller).then(|| begun + LIMIT);
            let pace = Pace::shown(Arc::clone(&going.work.progress), deadline);
            let made = service.commit_copy(record, &copies, &pace, &going.work, turns, finish);
            let made = made.map_err(|error| told(error, &pace, command));
            going.end(made.as_ref().copied().map_err(|error| chain(error)));
            service.schedules.wake();
            made
        });
        Making { work, task }
    }

    fn commit_copy(
        &self,
        mut record: Record,
        copies: &Copies,
        pace: &Pace,
        work: &Work,
        turns: Vec<OwnedMutexGuard<()>>,
        finish: impl FnOnce(&mut Record, &Copies, Taken) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        refuse_orphans(&copies.copy)?;
        copies.copy.iter().try_for_each(Share::prepare_limit)?;
        self.catalog.put(record.clone())?;
        drop(turns);
        let made = step("snapshot.recorded").map_err(VolumeError::from).and_then(|()| {
            let taken = self.copy(copies, pace, work)?;
            finish(&mut record, copies, taken)?;
            step("snapshot.whole")?;
            if pace.progress().is_cancelled() {
                return Err(SnapshotError::Cancelled.into());
            }
            record.phase = Phase::Ready;
            record.begun_anew = record.unattended.take().map_or(0, |asked| asked.starts);
            Ok(self.catalog.put(record.clone())?)
        });
        if let Err(error) = made {
            self.undo(&record, &copies.copy);
            return Err(error);
        }
        step("snapshot.ready")?;
        tracing::info!(volume = %record.name, of = %copies.of.name, "copied");
        Ok(())
    }

    fn copy(&self, copies: &Copies, pace: &Pace, work: &Work) -> Result<Taken, VolumeError> {
        let Copies { of, live, copy, kind, wanted } = copies;
        // Somebody who waits for the answer sees no progress, and is not kept waiting for a count.
        if pace.deadline().is_none() {
            pace.progress().expect(to_copy(live)?);
        }
        pace.progress().allow(room(live, copy)?);
        if let Some(taken) = &of.taken {
            // Nothing changes in it any more, so in any order.
            let capture = |(from, to): (&Share, &Share)| {
                from.snapshot(to, *kind, pace)?;
                Ok::<_, VolumeError>(step("snapshot.data-captured")?)
            };
            let mut pairs = live.iter().zip(copy);
            let first = pairs.next();
            thread::scope(|scope| {
                let others: Vec<_> = pairs.map(|pair| scope.spawn(move || capture(pair))).collect();
                let first = first.map_or(Ok(()), capture);
                let join =
                    |it: ScopedJoinHandle<'_, _>| it.join().unwrap_or_else(|it| resume_unwind(it));
                others.into_iter().map(join).fold(first, Result::and)
            })?;
            return Ok(Taken::clone(taken));
        }
        let users = || self.users(&of.name, live);
        let turn = || Some(self.turn_here(&of.name));
        let is_disturbed = || work.is_disturbed();
        let job = Job {
            of,
            live,
            copy,
            kind: *kind,
            pace,
            users: &users,
            turn: &turn,
            is_disturbed: &is_disturbed,
            capture_took: Cell::default(),
            parts: Cell::default(),
        };
        job.run(*wanted)
    }
}

/// Bytes in files that are to be copied, unless there are too many to be counted soon; 0 then.
fn to_copy(live: &[Share]) -> Result<u64, VolumeError> {
    let deadline = Instant::now() + COUNTING;
    let mut total = 0;
    for share in live.iter().filter(|share| share.capture() == Capture::FileByFile) {
        let used =
            usage::used(&share.open()?, deadline).doing(|| format!("measure {}", share.name));
        match used? {
            Some(bytes) => total += bytes,
            None => return Ok(0),
        }
    }
    Ok(total)
}

/// Bytes that copying may write: servers need the rest of the pool.
pub(super) fn room(live: &[Share], copy: &[Share]) -> Result<u64, VolumeError> {
    let mut room = u64::MAX;
    for (live, copy) in live.iter().zip(copy) {
        if live.capture() == Capture::FileByFile {
            let space = copy.space()?;
            room = room.min(space.free.saturating_sub(space.total / 20));
        }
    }
    Ok(room)
}

/// What whoever wanted the copy is told.
fn told(error: VolumeError, pace: &Pace, command: String) -> VolumeError {
    if pace.progress().is_cancelled() {
        return SnapshotError::Cancelled.into();
    }
    match error {
        VolumeError::Snapshot(SnapshotError::TimeOut)
        | VolumeError::Pool { source: PoolError::TimeOut(_), .. } => {
            SnapshotError::TooLong { limit: LIMIT, command }.into()
        }
        error => error,
    }
}

/// A copy that was begun.
#[derive(Debug)]
pub(crate) struct Making {
    pub(crate) work: Arc<Work>,
    task: JoinHandle<Result<(), VolumeError>>,
}

impl Making {
    /// Waits for its end.
    pub(crate) async fn made(self) -> Result<(), VolumeError> {
        match self.task.await {
            Ok(made) => made,
            Err(panic) => Err(VolumeError::Internal(panic.to_string())),
        }
    }
}

/// A snapshot in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: VolumeName,
    /// When it was taken; none where its record cannot be read, and neither is the next.
    pub created: Option<Timestamp>,
    /// How.
    pub taken: Option<Taken>,
}

/// What is copied and to where: the same shares in the same order.
#[derive(Debug)]
pub(super) struct Copies {
    pub(super) of: Record,
    pub(super) live: Vec<Share>,
    pub(super) copy: Vec<Share>,
    pub(super) kind: Captured,
    pub(super) wanted: Consistency,
}

/// A copy that is wanted.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) copies: Copies,
    pub(super) waiting: Waiting,
    /// When it was asked for.
    pub(super) begun: Instant,
    /// What does the same while nobody waits for an answer.
    pub(super) command: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_would_wait_too_long_for_names_the_command() {
        let late = Pace::until(Instant::now());
        let pool = crate::pool::PoolName::new("wal");
        let source = PoolError::TimeOut("v".parse().unwrap());
        for error in [SnapshotError::TimeOut.into(), VolumeError::Pool { pool, source }] {
            let said = told(error, &late, "docker pgvol clone v c".to_owned()).to_string();
            assert!(said.contains("the 20 s"), "{said}");
            assert!(said.contains("`docker pgvol clone v c` does it in the background"), "{said}");
        }
        late.progress().cancel();
        let cancelled = told(SnapshotError::TimeOut.into(), &late, String::new());
        assert_eq!(cancelled.to_string(), "it was cancelled");
    }
}
