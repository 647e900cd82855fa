//! Restoring a volume in place: it gets the content of one of its snapshots, and what it held before
//! becomes a snapshot.
//!
//! Nothing is copied back or exchanged: the snapshot's content is copied to new shares, and one record
//! then says that these are the volume's. Until it does, the new shares are worth nothing; from then on
//! what the volume had belongs to the snapshot of the state before, whose record follows. Whatever is
//! killed in between, the next start, or the next who works with the volume or its snapshots, undoes or
//! finishes it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_sdk::chain::chain;
use serde::{Deserialize, Serialize};

use super::capture::{Job, clusters};
use super::taking::room;
use super::{Taken, Work, backing_up, sanitise};
use crate::name::VolumeName;
use crate::pool::{Captured, Pace};
use crate::postgres::backup::Backup;
use crate::sys::{Doing, step};
use crate::volume::catalog::{Entry, Phase, Record};
use crate::volume::error::VolumeError;
use crate::volume::service::{Service, refuse_orphans};
use crate::volume::share::Share;
use crate::volume::size::Sizes;
use crate::volume::spec::{Access, VolumeSpec};

/// How long copying files may take where a pool cannot share them; nobody can mount the volume meanwhile.
const LIMIT: Duration = Duration::from_hours(1);

/// A volume that is being restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restoring {
    /// The shares of this record, which is to be the volume's, are being made.
    Copying(Box<Record>),
    /// The volume is restored; this record, of the snapshot of what it was before, is to be written.
    Keeping(Box<Record>),
}

impl Service {
    /// Gives the volume of the snapshot `from` the content of that; what it was before is its snapshot
    /// `keep` from then on.
    pub async fn restore(
        self: Arc<Self>,
        from: VolumeName,
        keep: VolumeName,
    ) -> Result<(), VolumeError> {
        let in_the_way = |work: &Work| work.of == from.volume() || work.name == keep;
        let _turns = self.turns_without(&[&from], in_the_way).await?;
        let snapshot = self.ready(&from)?;
        for name in [&from, &keep] {
            if name.snapshot().is_none() {
                return Err(VolumeError::NoSnapshot(name.clone()));
            }
        }
        self.refuse_bad_settings()?;
        let mut record = self.settled(&from.volume()).await?;
        let unrestored = |reason| VolumeError::Unrestored { name: record.name.clone(), reason };
        if let Some(prepared) = snapshot.taken.as_ref().and_then(|taken| taken.prepared.as_ref()) {
            let original = from.at(&prepared.of);
            return Err(unrestored(format!("{from} was disarmed for clones: name {original}")));
        }
        if keep.volume() != record.name {
            return Err(unrestored(format!("{keep} is no name of a snapshot of it")));
        }
        if self.catalog.get(&keep).is_some() {
            return Err(unrestored(format!("there is a snapshot {keep} already")));
        }
        let share = self.catalog.free_share(&keep);
        let kept = Record {
            content: Some(record.content().clone()),
            wal_directories: record.wal_directories.clone(),
            phase: Phase::Ready,
            ..Record::creating(keep, share, plain(&record.spec))
        };
        let restored = Record {
            spec: restored(&record.spec, &snapshot.spec),
            content: Some(self.catalog.free_share(&record.name)),
            wal_directories: snapshot.wal_directories.clone(),
            ..record.clone()
        };
        self.refuse_when_short(&restored, Instant::now()).await?;
        record.restoring = Some(Box::new(Restoring::Copying(Box::new(restored.clone()))));
        let live = self.shares(&record).await?;
        let taken = snapshot.taken.as_deref();
        let backup = taken.and_then(|taken| taken.backup.clone());
        let backed_up = taken.map(Taken::backed_up).unwrap_or_default();
        let (source, new) = (self.shares(&snapshot).await?, self.shares(&restored).await?);
        self.blocking(move |service| {
            let copying = Copy { record, restored, kept, backup, backed_up, live, source, new };
            service.restore_from(copying)
        })
        .await?;
        Ok(())
    }

    fn restore_from(&self, copy: Copy) -> Result<(), VolumeError> {
        let Copy { record, mut restored, mut kept, backup, backed_up, live, source, new } = copy;
        let name = record.name.clone();
        self.refuse_if_used(&name, &live)?;
        kept.taken = Some(Box::new(self.as_it_is(&record, &live)?));
        refuse_orphans(&new)?;
        new.iter().try_for_each(Share::prepare_limit)?;
        self.put_away(&name)?;
        self.catalog.put(record.clone())?;
        let made = step("restore.recorded").map_err(VolumeError::from).and_then(|()| {
            let pace = Pace::until(Instant::now() + LIMIT);
            pace.progress().allow(room(&source, &new)?);
            for (from, to) in source.iter().zip(&new) {
                from.snapshot(to, Captured::Writable, &pace)?;
                step("restore.share-made")?;
            }
            for cluster in clusters(&restored, &new[0])? {
                let doing = || format!("prepare the cluster in {name}");
                sanitise::forget_server(&cluster).doing(doing)?;
                if backed_up.contains(&cluster.path) {
                    backing_up::forget_own(&cluster).doing(doing)?;
                }
                if let Some(backup) = &backup {
                    backing_up::put_label(&cluster, backup).doing(doing)?;
                }
                cluster.dir.sync().doing(doing)?;
            }
            new.iter().try_for_each(Share::begin_limit)?;
            step("restore.copied")?;
            restored.restoring = Some(Box::new(Restoring::Keeping(Box::new(kept))));
            Ok(self.catalog.put(restored.clone())?)
        });
        if let Err(error) = made {
            if let Err(undo) = self.finish_restore(record, &new) {
                // The intent stays, for whoever comes next.
                tracing::error!(volume = %name, error = chain(&undo), "a failed restore is not undone yet");
            }
            return Err(error);
        }
        // Their files are no longer the volume's.
        self.forget_files(&name);
        step("restore.committed")?;
        tracing::info!(volume = %name, "restored");
        self.finish_restore(restored, &new).map(drop)
    }

    /// How the volume is captured as it is, while nobody has it.
    fn as_it_is(&self, record: &Record, live: &[Share]) -> Result<Taken, VolumeError> {
        let users = || self.users(&record.name, live);
        let job = Job {
            of: record,
            live,
            copy: live,
            kind: Captured::ReadOnly,
            pace: &Pace::until(Instant::now()),
            users: &users,
            // Who calls has it.
            turn: &|| None,
            is_disturbed: &|| false,
            capture_took: Cell::default(),
            parts: Cell::default(),
        };
        job.as_it_is()
            .map_err(|reason| VolumeError::Unrestored { name: record.name.clone(), reason })
    }

    /// Undoes or finishes a restore of `record` that was interrupted; the caller has its turn.
    pub(crate) async fn settle_restore(
        self: &Arc<Self>,
        record: Record,
    ) -> Result<Record, VolumeError> {
        let shares = match record.restoring.as_deref() {
            None => return Ok(record),
            Some(Restoring::Copying(new)) => self.shares(new).await?,
            Some(Restoring::Keeping(_)) => Vec::new(),
        };
        self.blocking(move |service| service.finish_restore(record, &shares)).await
    }

    /// Likewise of the volume of `name`, before something happens to one of its snapshots.
    pub(crate) async fn settle_restore_of(
        self: &Arc<Self>,
        name: &VolumeName,
    ) -> Result<(), VolumeError> {
        match self.catalog.get(&name.volume()) {
            Some(Entry::Volume(record)) => self.settle_restore(record).await.map(drop),
            _ => Ok(()),
        }
    }

    fn finish_restore(&self, mut record: Record, new: &[Share]) -> Result<Record, VolumeError> {
        let Some(restoring) = record.restoring.clone() else { return Ok(record) };
        // Said once more: a commit that failed may have come as far as the disk.
        self.catalog.put(record.clone())?;
        match *restoring {
            Restoring::Copying(_) => new.iter().rev().try_for_each(Share::delete)?,
            Restoring::Keeping(kept) => {
                // Written already it may have been changed since.
                if !self.catalog.has_snapshot(&kept.share) {
                    self.catalog.put(*kept)?;
                }
                step("restore.kept")?;
            }
        }
        record.restoring = None;
        self.catalog.put(record.clone())?;
        step("restore.done")?;
        Ok(record)
    }
}

/// What restoring takes: records and shares.
struct Copy {
    /// The volume's, with the intent.
    record: Record,
    restored: Record,
    kept: Record,
    /// That the snapshot was taken under.
    backup: Option<Backup>,
    /// The clusters that have what exclusive backups of their servers left.
    backed_up: BTreeSet<PathBuf>,
    live: Vec<Share>,
    source: Vec<Share>,
    new: Vec<Share>,
}

/// What a snapshot of a volume with this spec has of it.
fn plain(spec: &VolumeSpec) -> VolumeSpec {
    VolumeSpec {
        labels: BTreeMap::new(),
        sizes: spec.sizes.of_copy(None),
        schedule: None,
        keep: None,
        access: Access::Guarded,
        ..spec.clone()
    }
}

/// The spec of a volume that gets the roles of a snapshot and stays itself.
fn restored(of: &VolumeSpec, snapshot: &VolumeSpec) -> VolumeSpec {
    let released = of.sizes.released || snapshot.sizes.released;
    VolumeSpec {
        labels: of.labels.clone(),
        sizes: Sizes { released, ..of.sizes.of_copy(of.sizes.data) },
        schedule: of.schedule.clone(),
        keep: of.keep.clone(),
        access: of.access,
        ..snapshot.clone()
    }
}

#[cfg(test)]
#[path = "restoring_tests.rs"]
mod tests;
