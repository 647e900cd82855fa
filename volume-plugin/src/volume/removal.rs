//! Removing volumes, and having them back.
//!
//! A volume that nobody uses loses its view, then its record moves to the trash: that one rename
//! is the removal. A process killed before it leaves the volume as it was, unmounted. Volumes that
//! nobody named go past the trash, as everything does where nothing is to be kept: their record
//! is renamed to say that the shares are to be deleted. Deleting itself is `purge`'s, behind
//! the answer: a tree of many files takes longer than Docker waits.

use std::sync::Arc;

use jiff::Timestamp;

use super::catalog::{Entry, Phase, Record};
use super::error::VolumeError;
use super::service::Service;
use super::share::Share;
use super::trash::{Stage, Target};
use crate::name::{ShareName, VolumeName};
use crate::sys::step;
use plugin_sdk::chain::chain;

impl Service {
    /// Removes `name`; one that is not there is success. Refused while somebody has it mounted.
    pub async fn remove(self: Arc<Self>, name: VolumeName) -> Result<(), VolumeError> {
        let _turn = self.turn(&name).await;
        match self.catalog.get(&name) {
            None => Ok(()),
            Some(Entry::Unreadable(reason)) => Err(VolumeError::Unreadable { name, reason }),
            Some(Entry::Volume(record)) if record.phase == Phase::Creating => {
                self.clear_away(record).await
            }
            Some(Entry::Volume(record)) => self.discard(record).await,
        }
    }

    async fn discard(self: &Arc<Self>, record: Record) -> Result<(), VolumeError> {
        let shares = self.shares(&record).await?;
        self.blocking(move |service| {
            let name = record.name.clone();
            service.refuse_if_used(&name, &shares)?;
            service.views.drop(&name)?;
            step("remove.view-gone")?;
            service.mounts.clear(&name)?;
            step("remove.ids-gone")?;
            service.inspector.forget(&name);
            let stage = if service.trash_time.is_zero() || name.is_anonymous() {
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

    /// Takes a volume out of the trash, the last removed where `target` names several, and tells
    /// what it is called now: `name`, or as before.
    pub async fn undelete(
        self: Arc<Self>,
        target: Target,
        name: Option<VolumeName>,
    ) -> Result<VolumeName, VolumeError> {
        let mut found = self.kept(&target);
        let last = found.pop().ok_or_else(|| VolumeError::NotInTrash(target.clone()))?.record;
        let name = name.unwrap_or(last.name);
        let _turn = self.turn(&name).await;
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
            if found.record.spec.sizes.data.is_some() {
                shares[0].limit(&found.record.spec.sizes)?;
            }
            service.catalog.restore(found.record, found.stage, new.clone())?;
            step("undelete.restored")?;
            tracing::info!(volume = %new, "taken out of the trash");
            Ok(())
        })
        .await?;
        Ok(name)
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

/// A volume in the trash that can be had back.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) since: Timestamp,
    pub(super) stage: Stage,
    pub(super) record: Record,
}

/// Deletes every share that can be, and tells the first that could not.
pub(super) fn delete(shares: &[Share]) -> Result<(), VolumeError> {
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
