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
use super::inspection::Inspector;
use super::listing::ListedSnapshots;
use super::mounts::{Left, Mounts};
use super::options::{self, OptionError, RawOptions};
use super::purge::Purger;
use super::removal;
use super::share::{self, Share};
use super::spec::{Access, Home, Layout, Role};
use super::trash::TrashTime;
use super::upkeep::Upkeep;
use super::view::{ViewPlan, Views, Writing};
use crate::guard::Guard;
use crate::name::{MountId, VolumeName};
use crate::pool::PoolRegistry;
use crate::snapshot::{Cause, Making, Schedules, UnderWay, Waiting};
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
    /// Which snapshots are listed.
    pub(crate) listed: ListedSnapshots,
}

/// See the module.
#[derive(Debug)]
pub struct Service {
    pub(crate) catalog: Catalog,
    pub(crate) mounts: Mounts,
    pub(super) pools: PoolRegistry,
    pub(super) views: Views,
    pub(super) guard: Guard,
    pub(super) inspector: Arc<Inspector>,
    pub(super) bad_settings: Option<String>,
    pub(super) trash_time: TrashTime,
    default_layout: Layout,
    pub(super) purger: Purger,
    pub(super) upkeep: Upkeep,
    pub(crate) schedules: Schedules,
    pub(crate) copies: Arc<UnderWay>,
    pub(crate) listed: ListedSnapshots,
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
            schedules: Schedules::default(),
            copies: Arc::default(),
            listed: parts.listed,
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
        if is_copy(&name, &raw) {
            return match self.copy_for(name, &raw, Waiting::Caller).await? {
                Some(making) => making.made().await,
                None => Ok(()),
            };
        }
        let pools: Vec<_> = self.pools.names().cloned().collect();
        let _turns = self.turns_without(&[&name], |work| work.name == name).await?;
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
        let record = Record::creating(name, share, spec);
        loop {
            let shares = self.shares(&record).await?;
            let record = record.clone();
            let made = self.blocking(move |service| service.make(record, &shares)).await;
            match made.as_ref().err().and_then(VolumeError::full_pool) {
                Some(pool) if self.make_room(pool).await => {}
                _ => {
                    self.schedules.wake();
                    return made;
                }
            }
        }
    }

    /// Begins to make the snapshot or clone `name`; none where it is there already.
    pub(crate) async fn copy_for(
        self: Arc<Self>,
        name: VolumeName,
        raw: &RawOptions,
        waiting: Waiting,
    ) -> Result<Option<Making>, VolumeError> {
        if name.snapshot().is_some() {
            return self.take_snapshot(name, Cause::Asked(raw), waiting).await;
        }
        self.make_clone(name, raw, waiting).await
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
        let labels_alone = |key: &&String| !options::is_label(key);
        if name.snapshot().is_some()
            && let Some(key) = set.keys().chain(&unset).find(labels_alone)
        {
            return Err(OptionError::NotOfSnapshot(key.clone()).into());
        }
        let spec = options::change(&record.spec, set, &unset, &pools)?;
        if spec.schedule != record.spec.schedule {
            // Else the new one would make up for what it has missed since the volume's creation.
            record.scheduled_since = Some(Timestamp::now());
        }
        let resized = spec.sizes != record.spec.sizes;
        record.spec = spec;
        if resized {
            self.resize(record).await?;
        } else {
            self.blocking(move |service| Ok(service.catalog.put(record)?)).await?;
        }
        self.schedules.wake();
        Ok(())
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
            service.copies.disturb(&name);
            // What is being copied stays where it is.
            let is_copied = service.copies.find(|work| work.of == name).is_some();
            let is_placed = is_snapshot || is_copied;
            let record = if is_placed { record } else { service.placed(record, &shares)? };
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
            Some(Entry::Volume(_)) if self.making(name).is_some() => {
                Err(VolumeError::BeingMade(name.clone()))
            }
            Some(Entry::Volume(_)) => Err(VolumeError::Incomplete(name.clone())),
        }
    }

    /// Waits until nothing else works on the volume of `name` or on its snapshots.
    pub(crate) async fn turn(&self, name: &VolumeName) -> OwnedMutexGuard<()> {
        self.lock_of(name).lock_owned().await
    }

    /// As [`Self::turn`], if nothing else works on it just now.
    pub(super) fn turn_now(&self, name: &VolumeName) -> Option<OwnedMutexGuard<()>> {
        self.lock_of(name).try_lock_owned().ok()
    }

    /// As [`Self::turn`], of a thread that may block.
    pub(crate) fn turn_here(&self, name: &VolumeName) -> OwnedMutexGuard<()> {
        self.lock_of(name).blocking_lock_owned()
    }

    fn lock_of(&self, name: &VolumeName) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(turns.entry(name.volume()).or_default())
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

fn plan(record: &Record, shares: &[Share]) -> Result<ViewPlan, VolumeError> {
    let locate = |home: &Home| share::at(shares, home)?.locate();
    let inside = record
        .elsewhere()
        .map(|(path, home)| Ok((path, locate(&home)?)))
        .collect::<Result<_, VolumeError>>()?;
    let writing = if record.is_snapshot() { Writing::Refused } else { Writing::Allowed };
    Ok(ViewPlan { root: locate(&record.spec.home(&Role::Data))?, inside, writing })
}

/// Whether what is asked for is a snapshot or a clone.
pub(crate) fn is_copy(name: &VolumeName, raw: &RawOptions) -> bool {
    name.snapshot().is_some() || copies::is_clone(raw)
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

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
