//! Taking snapshots.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::capture::Job;
use super::{Consistency, SnapshotError, Taken};
use crate::name::VolumeName;
use crate::pool::Captured;
use crate::sys::step;
use crate::volume::catalog::{Entry, Phase, Record};
use crate::volume::copies::{self, SnapshotSpec};
use crate::volume::error::VolumeError;
use crate::volume::options::RawOptions;
use crate::volume::service::{Service, refuse_orphans};
use crate::volume::share::Share;
use crate::volume::spec::Access;

/// How long a copy may take: Docker waits a little longer for the answer.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// Why a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause<'a> {
    /// Somebody wants it, with these options.
    Asked(&'a RawOptions),
    /// The volume's schedule says so, at this time.
    Schedule(Timestamp),
}

impl Service {
    /// Takes the snapshot `name`; one that is there already is success.
    pub(crate) async fn take_snapshot(
        self: Arc<Self>,
        name: VolumeName,
        cause: Cause<'_>,
    ) -> Result<(), VolumeError> {
        let _turn = self.turn(&name).await;
        match self.catalog.get(&name) {
            None => {}
            Some(Entry::Unreadable(reason)) => {
                return Err(VolumeError::Unreadable { name, reason });
            }
            Some(Entry::Volume(record)) if record.phase == Phase::Ready => return Ok(()),
            Some(Entry::Volume(record)) => self.clear_away(record).await?,
        }
        let asked = match cause {
            Cause::Asked(raw) => copies::snapshot(&name, raw)?,
            Cause::Schedule(_) => SnapshotSpec::default(),
        };
        let (created, scheduled) = match cause {
            Cause::Asked(_) => (Timestamp::now(), false),
            Cause::Schedule(at) => (at, true),
        };
        self.refuse_bad_settings()?;
        let of = self.settled(&name.volume()).await?;
        let mut spec = of.spec.clone();
        spec.labels = asked.labels;
        spec.access = Access::Guarded;
        spec.sizes = spec.sizes.of_copy(None);
        (spec.schedule, spec.keep) = (None, None);
        let share = self.catalog.free_share(&name);
        let record = Record {
            created,
            wal_directories: of.wal_directories.clone(),
            ..Record::creating(name, share, spec)
        };
        self.refuse_when_short(&record).await?;
        let (live, copy) = (self.shares(&of).await?, self.shares(&record).await?);
        self.blocking(move |service| {
            let copies = Copies { of: &of, live: &live, copy: &copy, kind: Captured::ReadOnly };
            service.make_copy(record, &copies, asked.consistency, |record, taken| {
                record.taken = Some(Box::new(Taken { protected: false, scheduled, ..taken }));
                Ok(())
            })
        })
        .await
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

    /// No snapshot is worth the space that the servers need.
    pub(super) async fn refuse_when_short(
        self: &Arc<Self>,
        record: &Record,
    ) -> Result<(), VolumeError> {
        for (home, _) in record.spec.shares() {
            while self.is_pool_short(&home.pool).await {
                if !self.make_room(&home.pool).await {
                    return Err(SnapshotError::Short(home.pool).into());
                }
            }
        }
        Ok(())
    }

    /// Makes the volume of `record` a copy: intent, shares, what is left to `finish`, commit.
    pub(super) fn make_copy(
        &self,
        mut record: Record,
        copies: &Copies<'_>,
        wanted: Consistency,
        finish: impl FnOnce(&mut Record, Taken) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        refuse_orphans(copies.copy)?;
        self.catalog.put(record.clone())?;
        let made = step("snapshot.recorded").map_err(VolumeError::from).and_then(|()| {
            let taken = self.copy(copies, wanted)?;
            finish(&mut record, taken)?;
            step("snapshot.whole")?;
            record.phase = Phase::Ready;
            Ok(self.catalog.put(record.clone())?)
        });
        if let Err(error) = made {
            self.undo(&record, copies.copy);
            return Err(error);
        }
        step("snapshot.ready")?;
        tracing::info!(volume = %record.name, of = %copies.of.name, "copied");
        Ok(())
    }

    fn copy(&self, copies: &Copies<'_>, wanted: Consistency) -> Result<Taken, VolumeError> {
        let Copies { of, live, copy, kind } = *copies;
        let deadline = Instant::now() + LIMIT;
        if let Some(taken) = &of.taken {
            // Nothing changes in it any more.
            for (from, to) in live.iter().zip(copy) {
                from.snapshot(to, kind, deadline)?;
                step("snapshot.data-captured")?;
            }
            return Ok(Taken::clone(taken));
        }
        let users = || self.users(&of.name, live);
        let job = Job { of, live, copy, kind, deadline, limit: LIMIT.as_secs(), users: &users };
        job.run(wanted)
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
#[derive(Debug, Clone, Copy)]
pub(super) struct Copies<'a> {
    pub(super) of: &'a Record,
    pub(super) live: &'a [Share],
    pub(super) copy: &'a [Share],
    pub(super) kind: Captured,
}
