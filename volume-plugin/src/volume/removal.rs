//! Removing volumes, and having them back.
//!
//! A volume that nobody uses loses its view, then its record moves to the trash: that one rename
//! is the removal. A process killed before it leaves the volume as it was, unmounted. Volumes that
//! nobody named go past the trash, as everything does where nothing is to be kept: their record
//! is renamed to say that the shares are to be deleted. Deleting itself is `purge`'s, behind
//! the answer: a tree of many files takes longer than Docker waits.
//!
//! The snapshots of a volume go with it and come back with it: their records stay where they are, and
//! count only while the volume has its own.

use std::sync::Arc;

use jiff::Timestamp;

use super::catalog::{Entry, Phase, Record};
use super::error::VolumeError;
use super::service::Service;
use super::share::Share;
use super::trash::{Stage, Target};
use crate::name::{ShareName, VolumeName};
use crate::snapshot::Work;
use crate::sys::step;
use plugin_sdk::chain::chain;

/// What becomes of what is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes to the trash, if it is of the kind that does.
    Trashed,
    /// It is deleted.
    Deleted,
}

impl Service {
    /// Removes `name`; one that is not there is success. Refused while somebody has it mounted.
    pub async fn remove(self: Arc<Self>, name: VolumeName) -> Result<(), VolumeError> {
        self.remove_as(name, Fate::Trashed).await
    }

    /// As [`Self::remove`], with a word on what becomes of it.
    pub(crate) async fn remove_as(
        self: Arc<Self>,
        name: VolumeName,
        fate: Fate,
    ) -> Result<(), VolumeError> {
        if let Some(work) = self.copies.of(&name) {
            work.progress.cancel();
        }
        let in_the_way = |work: &Work| work.name == name || work.is_of(&name);
        let _turns = self.turns_without(&[&name], in_the_way).await?;
        self.remove_here(name, fate).await
    }

    /// As [`Self::remove_as`], by whoever has its turn while no copy is in the way.
    pub(crate) async fn remove_here(
        self: &Arc<Self>,
        name: VolumeName,
        fate: Fate,
    ) -> Result<(), VolumeError> {
        self.settle_restore_of(&name).await?;
        match self.catalog.get(&name) {
            None => Ok(()),
            Some(Entry::Unreadable(reason)) => Err(VolumeError::Unreadable { name, reason }),
            Some(Entry::Volume(record)) if record.phase == Phase::Creating => {
                self.clear_away(record).await
            }
            Some(Entry::Volume(record)) => self.discard(record, fate).await,
        }
    }

    async fn discard(self: &Arc<Self>, record: Record, fate: Fate) -> Result<(), VolumeError> {
        if record.is_protected() {
            return Err(VolumeError::Protected(record.name));
        }
        let shares = self.shares(&record).await?;
        let snapshots = self.snapshots_to_go(&record).await?;
        self.blocking(move |service| {
            let name = record.name.clone();
            service.refuse_if_used(&name, &shares)?;
            service.refuse_if_kept(&name, &snapshots)?;
            for (snapshot, _) in &snapshots {
                service.views.drop(snapshot)?;
                service.mounts.clear(snapshot)?;
                service.inspector.forget(snapshot);
            }
            service.views.drop(&name)?;
            step("remove.view-gone")?;
            service.mounts.clear(&name)?;
            step("remove.ids-gone")?;
            service.inspector.forget(&name);
            let at_once = service.trash_time.is_zero() || name.is_anonymous();
            let stage = if at_once || fate == Fate::Deleted {
                Stage::Purging
            } else {
                Stage::Kept { since: Timestamp::now() }
            };
            let discarded = service.catalog.discard(record, stage);
            // A volume that stays stays guarded.
            if service.catalog.get(&name).is_none() {
                service.guard.forget(&name);
            }
            discarded?;
            step("remove.in-trash")?;
            tracing::info!(volume = %name, ?stage, "removed");
            Ok(())
        })
        .await?;
        self.purger.wake();
        Ok(())
    }

    /// The snapshots that go with the volume of `record`; half-made ones are cleared away.
    async fn snapshots_to_go(
        self: &Arc<Self>,
        record: &Record,
    ) -> Result<Vec<(VolumeName, Going)>, VolumeError> {
        let mut going = Vec::new();
        if record.is_snapshot() {
            return Ok(going);
        }
        for (snapshot, entry) in self.catalog.snapshots(&record.share) {
            let name = record.name.at(&snapshot);
            match entry {
                Entry::Unreadable(_) => going.push((name, Going::Unreadable)),
                Entry::Volume(found) if found.phase == Phase::Creating => {
                    self.clear_away(found).await?;
                }
                Entry::Volume(found) if found.is_protected() => {
                    going.push((name, Going::Protected));
                }
                Entry::Volume(found) => {
                    going.push((name, Going::With(self.shares(&found).await?)));
                }
            }
        }
        Ok(going)
    }

    /// Refuses to remove the volume `name` while one of its snapshots must stay.
    fn refuse_if_kept(
        &self,
        name: &VolumeName,
        snapshots: &[(VolumeName, Going)],
    ) -> Result<(), VolumeError> {
        let mut kept = Vec::new();
        for (snapshot, going) in snapshots {
            match going {
                Going::Protected => kept.push(format!("{snapshot} is protected")),
                Going::Unreadable => {
                    kept.push(format!("{snapshot} has a record that cannot be read"));
                }
                Going::With(shares) => {
                    if let Some(user) = self.a_user(snapshot, shares)? {
                        kept.push(format!("{snapshot} is mounted by process {}", user.pid));
                    }
                }
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        Err(VolumeError::Snapshots { name: name.clone(), kept })
    }

    /// Takes a volume out of the trash, the last removed where `target` names several, and tells
    /// what it is called now: `name`, or as before.
    pub async fn undelete(
        self: Arc<Self>,
        target: Target,
        name: Option<VolumeName>,
    ) -> Result<VolumeName, VolumeError> {
        let mut found = self.kept(&target);
        let last = found.pop().ok_or_else(|| VolumeError::NotInTrash(target.clone()))?.record;
        let name = self.name_of_restored(&last, name)?;
        let _turns = self.turns_without(&[&name], |work| work.name == name).await?;
        // It may be the name of what a restore has yet to write.
        self.settle_restore_of(&name).await?;
        match self.catalog.get(&name) {
            None => {}
            Some(Entry::Volume(record)) if record.phase == Phase::Creating => {
                self.clear_away(record).await?;
            }
            Some(_) => return Err(VolumeError::Taken(name)),
        }
        let _trash = self.purger.turn().await;
        // Looked up again: somebody may have had the turn before.
        let found = self.kept_share(&last.share).ok_or(VolumeError::NotInTrash(target))?;
        let shares = self.shares(&found.record).await?;
        let new = name.clone();
        self.blocking(move |service| {
            // What is not whole stays where it is.
            shares.iter().try_for_each(|share| share.locate().map(drop))?;
            // The pool may have been opened since, and nobody has told it.
            let sizes = &found.record.spec.sizes;
            if !sizes.is_empty() && !found.record.is_snapshot() {
                shares.iter().try_for_each(|share| share.limit(sizes))?;
            }
            service.catalog.restore(found.record, found.stage, new.clone())?;
            step("undelete.restored")?;
            tracing::info!(volume = %new, "taken out of the trash");
            Ok(())
        })
        .await?;
        Ok(name)
    }

    /// What `record` is to be called, out of the trash: `asked`, or as before.
    fn name_of_restored(
        &self,
        record: &Record,
        asked: Option<VolumeName>,
    ) -> Result<VolumeName, VolumeError> {
        let Some((of, snapshot)) = record.share.snapshot() else {
            let name = asked.unwrap_or_else(|| record.name.clone());
            let fits = name.snapshot().is_none();
            return if fits { Ok(name) } else { Err(VolumeError::Unfit(name)) };
        };
        // Whatever its volume is called now.
        let volume = self.catalog.volume_with(&of);
        let name = volume.ok_or_else(|| VolumeError::Widowed(record.name.clone()))?.at(&snapshot);
        match asked {
            Some(asked) if asked != name => Err(VolumeError::Unfit(asked)),
            _ => Ok(name),
        }
    }

    /// What `target` names and can be had back, the last removed at the end.
    pub(super) fn kept(&self, target: &Target) -> Vec<Kept> {
        let is_meant = |kept: &Kept| match target {
            Target::Name(name) => kept.record.name == *name,
            Target::Id(share) => kept.record.share == *share,
        };
        self.all_kept().into_iter().filter(is_meant).collect()
    }

    /// The volume in the trash with this share, if it can be had back.
    pub(super) fn kept_share(&self, share: &ShareName) -> Option<Kept> {
        self.all_kept().into_iter().find(|kept| kept.record.share == *share)
    }

    /// All that can be had back, the last removed at the end.
    pub(super) fn all_kept(&self) -> Vec<Kept> {
        let kept = |(_, trashed): (ShareName, super::trash::Trashed)| {
            let since = trashed.since()?;
            Some(Kept { since, stage: trashed.stage, record: trashed.record.ok()? })
        };
        let mut kept: Vec<_> = self.catalog.trash().into_iter().filter_map(kept).collect();
        kept.sort_by_key(|kept| (kept.since, kept.record.created));
        kept
    }
}

/// What is to be known of a snapshot that goes with its volume.
#[derive(Debug)]
enum Going {
    /// It may go.
    With(Vec<Share>),
    /// It may not.
    Protected,
    /// Where its shares are is not known.
    Unreadable,
}

/// A volume in the trash that can be had back.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) since: Timestamp,
    pub(super) stage: Stage,
    pub(super) record: Record,
}

/// Deletes every share that can be, and tells the first that could not.
pub(crate) fn delete(shares: &[Share]) -> Result<(), VolumeError> {
    let mut first = None;
    for share in shares.iter().rev() {
        let deleted = share.delete().and_then(|()| Ok(step("purge.share-deleted")?));
        if let Err(error) = deleted {
            let (name, pool) = (&share.name, &share.pool_name);
            tracing::error!(share = %name, %pool, error = chain(&error), "delete a share");
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), Err)
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
