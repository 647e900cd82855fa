//! What happens to volumes. Each operation has its volume to itself, from the first look at the
//! catalog to the last write; operations on different volumes run side by side.
//!
//! Creating: intent, shares, commit. Whatever fails on the way is undone in reverse, and what a
//! killed process left is cleared away by `recovery` or by the next operation on that name.
//! Removing is in `removal`, what happens to the trash in `purge`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;

use super::catalog::{Catalog, CatalogError, Entry, Phase, Record};
use super::copies;
use super::error::VolumeError;
use super::inspection::{Inspector, RolePlace};
use super::mounts::{Left, Mounts};
use super::options::{self, OptionError, RawOptions};
use super::purge::Purger;
use super::removal;
use super::share::{self, Share};
use super::spec::{Access, Layout};
use super::status::{Known, Status};
use super::trash::TrashTime;
use super::upkeep::Upkeep;
use super::view::{ViewPlan, Views, Writing};
use crate::guard::Guard;
use crate::name::{MountId, VolumeName};
use crate::pool::{PoolName, PoolRegistry};
use crate::sys::{SysError, step};
use plugin_sdk::chain::chain;

/// What the service works on.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) catalog: Catalog,
    pub(crate) mounts: Mounts,
    pub(crate) pools: PoolRegistry,
    /// Where views are, and where they are put together.
    pub(crate) views: (PathBuf, PathBuf),
    /// How long the engine may be unmounting views of the last process.
    pub(crate) unsettled: Duration,
    /// Why nothing may be created.
    pub(crate) bad_settings: Option<String>,
    /// How long what was removed is kept.
    pub(crate) trash_time: TrashTime,
    /// The layout of volumes that are created without one.
    pub(crate) default_layout: Layout,
}

/// See the module.
#[derive(Debug)]
pub struct Service {
    pub(crate) catalog: Catalog,
    pub(super) mounts: Mounts,
    pub(super) pools: PoolRegistry,
    pub(super) views: Views,
    pub(super) guard: Guard,
    pub(super) inspector: Arc<Inspector>,
    pub(super) bad_settings: Option<String>,
    pub(super) trash_time: TrashTime,
    default_layout: Layout,
    pub(super) purger: Purger,
    pub(super) upkeep: Upkeep,
    turns: Mutex<HashMap<VolumeName, Arc<tokio::sync::Mutex<()>>>>,
}

impl Service {
    pub(crate) fn new(parts: Parts) -> Result<Arc<Self>, VolumeError> {
        let service = Self {
            catalog: parts.catalog,
            mounts: parts.mounts,
            pools: parts.pools,
            views: Views::new(parts.views.0, parts.views.1, parts.unsettled),
            guard: Guard::start(),
            inspector: Arc::default(),
            bad_settings: parts.bad_settings,
            trash_time: parts.trash_time,
            default_layout: parts.default_layout,
            purger: Purger::default(),
            upkeep: Upkeep::default(),
            turns: Mutex::default(),
        };
        service.drop_ids_without_view()?;
        Ok(Arc::new(service))
    }

    /// Creates `name`; again with the same options is success.
    pub async fn create(
        self: Arc<Self>,
        name: VolumeName,
        raw: RawOptions,
    ) -> Result<(), VolumeError> {
        if name.snapshot().is_some() {
            return self.take_snapshot(name, &raw).await;
        }
        if copies::is_clone(&raw) {
            return self.make_clone(name, &raw).await;
        }
        let pools: Vec<_> = self.pools.names().cloned().collect();
        let _turn = self.turn(&name).await;
        let entry = self.catalog.get(&name);
        // Whoever names no layout does not mind what the one of the volume is that is there.
        let layout = match &entry {
            Some(Entry::Volume(record)) if record.phase == Phase::Ready => record.spec.layout,
            _ => self.default_layout,
        };
        let spec = options::parse(&raw, &pools, layout)?;
        match entry {
            None => {}
            Some(Entry::Unreadable(reason)) => {
                return Err(VolumeError::Unreadable { name, reason });
            }
            Some(Entry::Volume(record)) if record.phase == Phase::Ready => {
                let mut differences = options::differences(&record.spec, &spec);
                if let Some(origin) = &record.origin {
                    differences = format!("`from` is `{}`, not unset", origin.from);
                }
                return if differences.is_empty() {
                    Ok(())
                } else {
                    Err(VolumeError::Conflict { name, differences })
                };
            }
            Some(Entry::Volume(record)) => self.clear_away(record).await?,
        }
        self.refuse_bad_settings()?;
        let share = self.catalog.free_share(&name);
        let record = Record {
            name,
            phase: Phase::Creating,
            created: Timestamp::now(),
            share,
            spec,
            wal_directories: Vec::new(),
            moving: None,
            taken: None,
            origin: None,
        };
        loop {
            let shares = self.shares(&record).await?;
            let record = record.clone();
            let made = self.blocking(move |service| service.make(record, &shares)).await;
            match made.as_ref().err().and_then(VolumeError::full_pool) {
                Some(pool) if self.make_room(pool).await => {}
                _ => return made,
            }
        }
    }

    /// Gives `name` new values of options that can be changed, and takes labels away.
    pub async fn change(
        self: Arc<Self>,
        name: VolumeName,
        set: RawOptions,
        unset: Vec<String>,
    ) -> Result<(), VolumeError> {
        let _turn = self.turn(&name).await;
        let mut record = self.ready(&name)?;
        let pools: Vec<_> = self.pools.names().cloned().collect();
        if name.snapshot().is_some()
            && let Some(key) = set.keys().find(|key| !options::is_label(key))
        {
            return Err(OptionError::NotOfSnapshot(key.clone()).into());
        }
        let sizes = record.spec.sizes.clone();
        record.spec = options::change(&record.spec, set, &unset, &pools)?;
        if record.spec.sizes != sizes {
            return self.resize(record).await;
        }
        self.blocking(move |service| Ok(service.catalog.put(record)?)).await
    }

    /// Mounts `name` for `id` and tells where.
    pub async fn mount(
        self: Arc<Self>,
        name: VolumeName,
        id: MountId,
    ) -> Result<PathBuf, VolumeError> {
        let _turn = self.turn(&name).await;
        let record = self.ready(&name)?;
        let shares = self.shares(&record).await?;
        self.blocking(move |service| {
            let spec = &record.spec;
            if spec.access == Access::Exclusive && !service.mounts.of(&name).contains_key(&id) {
                service.refuse_if_held(&name, &shares)?;
            }
            let (except, is_snapshot) = (spec.without_clusters(), record.is_snapshot());
            let record = if is_snapshot { record } else { service.placed(record, &shares)? };
            let plan = plan(&record, &shares)?;
            // In force before anybody has the volume. On what is read-only no server starts.
            if !is_snapshot {
                service.guard.watch(&name, plan.root.clone(), except);
            }
            let view = service.views.ensure(&name, &plan)?;
            let noted = step("mount.shown").map_err(CatalogError::from);
            if let Err(error) = noted.and_then(|()| service.mounts.add(&name, &id)) {
                service.drop_idle_view(&name)?;
                return Err(error.into());
            }
            step("mount.noted")?;
            tracing::info!(volume = %name, id = %id, "mounted");
            Ok(view)
        })
        .await
    }

    /// Takes back one mount of `name` for `id`. What is not mounted is success.
    pub async fn unmount(
        self: Arc<Self>,
        name: VolumeName,
        id: MountId,
    ) -> Result<(), VolumeError> {
        let _turn = self.turn(&name).await;
        self.blocking(move |service| {
            let left = service.mounts.take(&name, &id)?;
            step("unmount.noted")?;
            if left == Left::None {
                service.views.drop(&name)?;
                step("unmount.view-gone")?;
            }
            tracing::info!(volume = %name, id = %id, ?left, "unmounted");
            Ok(())
        })
        .await
    }

    /// Where `name` is mounted, if it is.
    pub fn path(&self, name: &VolumeName) -> Result<Option<PathBuf>, VolumeError> {
        if self.catalog.get(name).is_none() {
            return Err(VolumeError::Missing(name.clone()));
        }
        Ok((!self.mounts.of(name).is_empty()).then(|| self.views.path(name)))
    }

    /// The volume `name` as it is shown, with all that can be told within a moment. A volume of
    /// ours always has an answer; one that is only being made is not there yet.
    pub async fn get(&self, name: &VolumeName) -> Option<(Entry, Status)> {
        let entry = self.catalog.get(name).filter(is_shown)?;
        let mut known = Known { mounts: self.mounts.of(name), ..Known::default() };
        if let Entry::Volume(record) = &entry {
            let (places, trouble) = self.places(record);
            known.trouble = trouble;
            known.outlook = self.guard.outlook(name);
            known.alarms = self.alarms(record);
            known.inspection = self.inspector.inspect(name, places).await;
            if !record.is_snapshot() {
                known.snapshots = self.catalog.snapshots(&record.share);
            }
        }
        Some((entry.clone(), Status::new(entry, known)))
    }

    /// Names of all volumes and where the mounted ones are.
    pub fn list(&self) -> Vec<(VolumeName, Option<PathBuf>)> {
        let shown = self.catalog.all().into_iter().filter(|(_, entry)| is_shown(entry));
        shown
            .map(|(name, _)| {
                let view = (!self.mounts.of(&name).is_empty()).then(|| self.views.path(&name));
                (name, view)
            })
            .collect()
    }

    pub(crate) fn refuse_bad_settings(&self) -> Result<(), VolumeError> {
        match &self.bad_settings {
            Some(reason) => Err(VolumeError::Settings(reason.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn ready(&self, name: &VolumeName) -> Result<Record, VolumeError> {
        match self.catalog.get(name) {
            None => Err(VolumeError::Missing(name.clone())),
            Some(Entry::Unreadable(reason)) => {
                Err(VolumeError::Unreadable { name: name.clone(), reason })
            }
            Some(Entry::Volume(record)) if record.phase == Phase::Ready => Ok(record),
            Some(Entry::Volume(_)) => Err(VolumeError::Incomplete(name.clone())),
        }
    }

    /// Waits until nothing else works on the volume of `name` or on its snapshots.
    pub(crate) async fn turn(&self, name: &VolumeName) -> OwnedMutexGuard<()> {
        let lock = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(turns.entry(name.volume()).or_default())
        };
        lock.lock_owned().await
    }

    pub(crate) async fn shares(&self, record: &Record) -> Result<Vec<Share>, VolumeError> {
        share::of(record, &self.pools).await
    }

    /// Deletes what a create that was not finished has made, and forgets it.
    pub(crate) async fn clear_away(self: &Arc<Self>, record: Record) -> Result<(), VolumeError> {
        let shares = self.shares(&record).await?;
        self.blocking(move |service| service.unmake(&record, &shares)).await
    }

    fn make(&self, mut record: Record, shares: &[Share]) -> Result<(), VolumeError> {
        let name = record.name.clone();
        refuse_orphans(shares)?;
        shares.iter().try_for_each(Share::prepare_limit)?;
        self.catalog.put(record.clone())?;
        let made = step("create.recorded").map_err(VolumeError::from).and_then(|()| {
            shares.iter().try_for_each(|share| {
                share.create()?;
                Ok(step("create.share-made")?)
            })
        });
        record.phase = Phase::Ready;
        let Err(error) = made.and_then(|()| Ok(self.catalog.put(record.clone())?)) else {
            step("create.ready")?;
            tracing::info!(volume = %name, "created");
            return Ok(());
        };
        self.undo(&record, shares);
        Err(error)
    }

    /// Takes back what a create has made that failed.
    pub(crate) fn undo(&self, record: &Record, shares: &[Share]) {
        if let Err(undo) = self.unmake(record, shares) {
            // The intent stays, so that the next start or create of this name undoes the rest.
            tracing::error!(volume = %record.name, error = chain(&undo), "a failed create is not undone yet");
        }
    }

    fn unmake(&self, record: &Record, shares: &[Share]) -> Result<(), VolumeError> {
        removal::delete(shares)?;
        Ok(self.catalog.forget(record)?)
    }

    /// Takes the view away if nobody has it mounted.
    pub(super) fn drop_idle_view(&self, name: &VolumeName) -> Result<(), SysError> {
        if self.mounts.of(name).is_empty() { self.views.drop(name) } else { Ok(()) }
    }

    /// The roles in pools that are open, and what is wrong with the others.
    pub(super) fn places(&self, record: &Record) -> (Vec<RolePlace>, Option<String>) {
        let mut places = Vec::new();
        let mut trouble = None;
        for (role, pool_name, path) in record.places() {
            if let Some(pool) = self.pools.open_already(&pool_name) {
                let share = record.share.clone();
                places.push(RolePlace { role, share, pool_name, path, pool });
            } else if let Some(reason) = self.pools.trouble(&pool_name) {
                trouble.get_or_insert_with(|| format!("pool {pool_name}: {reason}"));
            }
        }
        (places, trouble)
    }

    /// What is to be told of the pools that the volume lives in.
    pub(super) fn alarms(&self, record: &Record) -> Vec<String> {
        let shares = record.spec.shares().into_iter();
        shares
            .filter_map(|(pool, _)| Some(format!("pool {pool}: {}", self.upkeep.alarm(&pool)?)))
            .chain(self.upkeep.fullness(&record.name))
            .collect()
    }

    /// Runs `work` where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let service = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&service)).await {
            Ok(outcome) => outcome,
            Err(panic) => Err(VolumeError::Internal(panic.to_string())),
        }
    }
}

fn is_shown(entry: &Entry) -> bool {
    !matches!(entry, Entry::Volume(record) if record.phase == Phase::Creating)
}

/// Refuses shares that hold what no record speaks of.
pub(crate) fn refuse_orphans(shares: &[Share]) -> Result<(), VolumeError> {
    for share in shares {
        if share.find()?.is_some() {
            let (share, pool) = (share.name.clone(), share.pool_name.clone());
            return Err(VolumeError::Orphan { share, pool });
        }
    }
    Ok(())
}

fn plan(record: &Record, shares: &[Share]) -> Result<ViewPlan, VolumeError> {
    let locate = |pool: &PoolName| share::in_pool(shares, pool)?.locate();
    let inside = record
        .elsewhere()
        .map(|(path, pool)| Ok((path, locate(&pool)?)))
        .collect::<Result<_, VolumeError>>()?;
    let writing = if record.is_snapshot() { Writing::Refused } else { Writing::Allowed };
    Ok(ViewPlan { root: locate(&record.spec.pool)?, inside, writing })
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
