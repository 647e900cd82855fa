//! What is put in order at start: mount ids and views that lost each other, and operations that a
//! killed process left half done.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::catalog::{Entry, Phase};
use super::error::VolumeError;
use super::mounts::MountIds;
use super::service::Service;
use super::spec::VolumeSpec;
use crate::name::VolumeName;
use crate::sys::{Doing, SysError, mountinfo};
use plugin_sdk::chain::chain;

/// How long after a start ids may be those of containers that are just starting.
const STARTING: Duration = Duration::from_mins(1);

impl Service {
    /// A view that is not there has no users: after a forced disable the engine unmounted it. One
    /// that is there keeps its ids, although they may be stale: a container may just be starting.
    pub(super) fn drop_ids_without_view(&self) -> Result<(), VolumeError> {
        let views = self.views.mounted()?;
        for volume in self.mounts.mounted() {
            if !views.contains(&volume) {
                tracing::info!(volume = %volume, "the view is gone, and with it the mount ids");
                self.mounts.clear(&volume)?;
            }
        }
        Ok(())
    }

    /// Opens every pool, then finishes what was interrupted. Nobody waits for it: an operation on
    /// such a volume does the same for itself.
    pub async fn recover(self: Arc<Self>) {
        let pools: Vec<_> = self.pools.names().cloned().collect();
        for pool in pools {
            if let Err(error) = self.pools.get(&pool).await {
                tracing::error!(pool = %pool, error = chain(&error), "a pool cannot be opened");
            }
        }
        if let Err(error) = self.guard_what_is_used().await {
            tracing::error!(error = chain(&error), "running servers are not guarded");
        }
        self.enforce_limits().await;
        if let Err(error) = self.drop_views_without_ids().await {
            tracing::error!(error = chain(&error), "views that nobody asked for are left");
        }
        for (name, entry) in self.catalog.all() {
            if is_interrupted(&entry)
                && let Err(error) = self.finish(&name).await
            {
                tracing::error!(volume = %name, error = chain(&error), "an interrupted operation stays unfinished");
            }
        }
        // Once nothing that they would copy is unfinished.
        self.begin_left_copies().await;
    }

    /// The ids of before this process, as long as nobody was served by it.
    pub(crate) fn noted_ids(&self) -> Vec<(MountIds, VolumeName)> {
        self.mounts.mounted().into_iter().map(|name| (self.mounts.of(&name), name)).collect()
    }

    /// As [`Self::drop_idle_ids`], once whatever was starting has started.
    pub(crate) async fn drop_idle_ids_later(self: Arc<Self>, noted: Vec<(MountIds, VolumeName)>) {
        tokio::time::sleep(STARTING).await;
        self.drop_idle_ids(noted).await;
    }

    /// Drops ids of before this process that no container shows by now: its mount was answered and
    /// nobody took the answer, for the process that gave it was killed. The engine does not know
    /// of them, and so never unmounts.
    pub(super) async fn drop_idle_ids(self: &Arc<Self>, noted: Vec<(MountIds, VolumeName)>) {
        for (ids, name) in noted {
            if let Err(error) = self.drop_idle(&name, ids).await {
                tracing::error!(volume = %name, error = chain(&error), "mounts of nobody are left");
            }
        }
    }

    async fn drop_idle(
        self: &Arc<Self>,
        name: &VolumeName,
        ids: MountIds,
    ) -> Result<(), VolumeError> {
        let _turn = self.turn(name).await;
        let Some(Entry::Volume(record)) = self.catalog.get(name) else { return Ok(()) };
        let shares = self.shares(&record).await?;
        self.blocking(move |service| {
            let name = &record.name;
            if service.mounts.of(name) == ids && service.a_user(name, &shares)?.is_none() {
                tracing::info!(volume = %name, "nobody came for the view");
                service.mounts.clear(name)?;
                service.views.drop(name)?;
            }
            Ok(())
        })
        .await
    }

    /// Containers that were there before this process are guarded from here on; what has become
    /// of them while there was no guard is told.
    async fn guard_what_is_used(self: &Arc<Self>) -> Result<(), VolumeError> {
        for name in self.blocking(|service| Ok(service.used()?)).await? {
            let _turn = self.turn(&name).await;
            self.blocking(move |service| {
                // No server runs on a snapshot.
                if name.snapshot().is_none()
                    && let Some((root, spec)) = service.root_of(&name)
                {
                    service.guard.watch(&name, root, spec.without_clusters());
                }
                Ok(())
            })
            .await?;
        }
        self.guard.examine();
        Ok(())
    }

    /// Volumes that somebody has mounted, or is about to.
    fn used(&self) -> Result<BTreeSet<VolumeName>, SysError> {
        let own = mountinfo::own().doing(|| "read what is mounted".to_owned())?;
        let place = |name: VolumeName| {
            let place = mountinfo::place(&own, &self.root_of(&name)?.0)?;
            Some((name, vec![place]))
        };
        let places: Vec<_> =
            self.catalog.all().into_iter().filter_map(|(name, _)| place(name)).collect();
        let used = self.views.used(&places)?.into_iter().cloned();
        Ok(used.chain(self.mounts.mounted()).collect())
    }

    /// Where the root of a whole volume lies, if its pool is open.
    fn root_of(&self, name: &VolumeName) -> Option<(PathBuf, VolumeSpec)> {
        match self.catalog.get(name)? {
            Entry::Volume(record) if record.phase == Phase::Ready => {
                let pool = self.pools.open_already(&record.spec.pool)?;
                Some((pool.locate(record.content()).ok()?, record.spec))
            }
            _ => None,
        }
    }

    /// A Mount that was killed before it could answer leaves a view without an id.
    async fn drop_views_without_ids(self: &Arc<Self>) -> Result<(), VolumeError> {
        for name in self.blocking(|service| Ok(service.views.present()?)).await? {
            let _turn = self.turn(&name).await;
            self.blocking(move |service| Ok(service.drop_idle_view(&name)?)).await?;
        }
        Ok(())
    }

    async fn finish(self: &Arc<Self>, name: &VolumeName) -> Result<(), VolumeError> {
        let _turn = self.turn(name).await;
        // Looked up again: somebody may have had the turn before.
        match self.catalog.get(name) {
            _ if self.copies.of(name).is_some() => Ok(()),
            Some(Entry::Volume(record)) if record.left_of().is_some() => Ok(()),
            Some(Entry::Volume(record)) if record.phase == Phase::Creating => {
                tracing::info!(volume = %name, "clearing away what a create has left");
                self.clear_away(record).await
            }
            Some(Entry::Volume(record)) if record.moving.is_some() => {
                tracing::info!(volume = %name, "finishing or undoing a move");
                let shares = self.shares(&record).await?;
                self.blocking(move |service| service.settle(record, &shares).map(drop)).await
            }
            Some(Entry::Volume(record)) if record.restoring.is_some() => {
                tracing::info!(volume = %name, "finishing or undoing a restore");
                self.settle_restore(record).await.map(drop)
            }
            _ => Ok(()),
        }
    }
}

fn is_interrupted(entry: &Entry) -> bool {
    match entry {
        Entry::Unreadable(_) => false,
        Entry::Volume(record) => {
            record.phase == Phase::Creating || record.moving.is_some() || record.restoring.is_some()
        }
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
