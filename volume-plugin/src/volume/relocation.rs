//! Moving a volume's WAL from one pool to another.
//!
//! In the layout `pgdata` initdb puts `pg_wal` where the data is. The first mount that finds its
//! cluster cleanly stopped, and nobody at it, moves it to the WAL's pool, and views bind it onto the
//! directory that is left. `docker pgvol move` takes it anywhere, in either layout.
//!
//! Intent, copy, commit, clearing: until the record is committed what was there before is the
//! WAL, and the copy is worth nothing; after it the other way round. Each is deleted only once the
//! record says so, so that whatever is killed meanwhile, the next mount or start finishes or undoes
//! it. A move never fails a mount: what cannot be moved now stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::catalog::Record;
use super::error::VolumeError;
use super::places::PG_WAL;
use super::service::Service;
use super::share::{self, Share};
use super::spec::{Layout, Role};
use super::transfer::{self, Limits};
use super::usage;
use crate::name::VolumeName;
use crate::pool::{self, Charge, PoolName};
use crate::postgres::cluster::{self, Found};
use crate::sys::beneath::Dir;
use crate::sys::{Doing, step};
use plugin_sdk::chain::chain;

/// How long a container may be kept waiting by a move; dockerd gives up after two minutes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long looking through the WAL for its size may take.
const MEASURE: Duration = Duration::from_secs(10);

/// A move that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Below the root of each share.
    directories: Vec<String>,
    pub(super) from: PoolName,
    pub(super) to: PoolName,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    /// What is in the new pool is not whole.
    Copying,
    /// What is in the old pool is to be deleted.
    Clearing,
}

impl Moving {
    fn begin(directories: Vec<String>, from: &PoolName, to: &PoolName) -> Self {
        Self { directories, from: from.clone(), to: to.clone(), stage: Stage::Copying }
    }
}

impl Record {
    fn committed(mut self, mut moving: Moving) -> Self {
        moving.stage = Stage::Clearing;
        self.spec.wal_pool = moving.to.clone();
        if self.spec.layout == Layout::Pgdata {
            self.wal_directories.retain(|path| !moving.directories.contains(path));
            if moving.to != self.spec.pool {
                self.wal_directories.extend(moving.directories.iter().cloned());
                self.wal_directories.sort();
            }
        }
        self.moving = Some(Box::new(moving));
        self
    }
}

impl Service {
    /// Moves the WAL of `name` to `to`, now or not at all.
    pub async fn move_wal(
        self: Arc<Self>,
        name: VolumeName,
        to: PoolName,
    ) -> Result<(), VolumeError> {
        let _turns = self.turns_without(&[&name], |work| work.of == name).await?;
        let mut record = self.ready(&name)?;
        let shares = self.shares(&record).await?;
        if record.moving.is_some() {
            record = self.blocking(move |service| service.settle(record, &shares)).await?;
        }
        let spec = &record.spec;
        // What belongs there already may still be where initdb put it.
        let from = if spec.wal_pool == to { spec.pool.clone() } else { spec.wal_pool.clone() };
        if from == to || spec.layout == Layout::Split && spec.wal_pool == to {
            return Ok(());
        }
        if spec.sizes.wal.is_some() && spec.wal_pool != to {
            let reason = "it has a size of its own where it is".to_owned();
            return Err(VolumeError::Unmoved { name, reason });
        }
        let opened = self.pools.get(&to).await;
        opened.map_err(|source| VolumeError::Pool { pool: to.clone(), source })?;
        let meant = Some(Box::new(Moving::begin(Vec::new(), &from, &to)));
        let shares = self.shares(&Record { moving: meant, ..record.clone() }).await?;
        self.blocking(move |service| {
            service.refuse_if_used(&name, &shares)?;
            let clusters = clusters(&record, &shares)?;
            if let Some(reason) = clusters.iter().find_map(|found| cluster::unrest(&found.dir)) {
                return Err(VolumeError::Unmoved { name, reason });
            }
            let directories = match record.spec.layout {
                Layout::Split => vec![Role::Wal.path()],
                Layout::Pgdata if from == record.spec.pool => in_root(&record, &clusters),
                Layout::Pgdata => record.wal_directories.clone(),
            };
            if directories.is_empty() && record.spec.wal_pool == to {
                return Ok(());
            }
            // The idle view shows what is where now.
            service.put_away(&name)?;
            let moving = Moving::begin(directories, &from, &to);
            service.relocate(record, moving, &shares, None).map(drop)
        })
        .await
    }

    /// The record of a volume that is about to be mounted, once its WAL is where it belongs as
    /// far as that can be had now.
    pub(super) fn placed(&self, record: Record, shares: &[Share]) -> Result<Record, VolumeError> {
        let name = record.name.clone();
        let record = match self.settle(record.clone(), shares) {
            Ok(record) => record,
            // The record on disk is what memory has: the view can follow it.
            Err(error) if error.is_full() => {
                tracing::warn!(volume = %name, error = chain(&error), "a move stays unfinished");
                record
            }
            Err(error) => return Err(error),
        };
        if record.spec.layout == Layout::Split {
            return Ok(record);
        }
        // Who has been promised the view, or has it, has its WAL where it is.
        if !self.mounts.of(&name).is_empty() || self.a_user(&name, shares)?.is_some() {
            return Ok(record);
        }
        let record = match self.followed(record.clone(), shares) {
            Err(error) => {
                tracing::warn!(volume = %name, error = chain(&error), "the WAL of a renamed cluster stays where it is");
                self.ready(&name)?
            }
            Ok(followed) => followed,
        };
        let record = self.without_cleared(record, shares)?;
        match wanted(&record, shares) {
            Ok(None) => Ok(record),
            Ok(Some(moving)) => {
                self.views.drop(&name)?;
                let deadline = Instant::now() + PATIENCE;
                match self.relocate(record.clone(), moving, shares, Some(deadline)) {
                    Err(error) => {
                        tracing::warn!(volume = %name, error = chain(&error), "the WAL stays where it is");
                        self.ready(&name)
                    }
                    moved => moved,
                }
            }
            Err(error) => {
                tracing::warn!(volume = %name, error = chain(&error), "the WAL stays where it is");
                Ok(record)
            }
        }
    }

    /// `record` without the WAL of clusters that somebody has removed: an empty directory in
    /// its place would keep initdb from making another.
    fn without_cleared(&self, mut record: Record, shares: &[Share]) -> Result<Record, VolumeError> {
        let before = record.wal_directories.len();
        if before == 0 {
            return Ok(record);
        }
        let doing = || format!("look at the WAL of {}", record.name);
        let root = Dir::open(&root_of(&record, shares)?).doing(doing)?;
        let elsewhere = find(shares, &record.spec.wal_pool)?.locate()?;
        let elsewhere = Dir::open(&elsewhere).doing(doing)?;
        record.wal_directories.retain(|path| {
            let path = Path::new(path);
            let cluster = path.parent().unwrap_or(Path::new("")).join("PG_VERSION");
            // A directory that is not empty is not removed.
            root.metadata(&cluster).is_ok() || !(gone(&elsewhere, path) && gone(&root, path))
        });
        if record.wal_directories.len() < before {
            tracing::info!(volume = %record.name, "the cluster is gone, and so is the place of its WAL");
            self.catalog.put(record.clone())?;
        }
        Ok(record)
    }

    fn relocate(
        &self,
        mut record: Record,
        moving: Moving,
        shares: &[Share],
        deadline: Option<Instant>,
    ) -> Result<Record, VolumeError> {
        let name = record.name.clone();
        let (from, to) = (find(shares, &moving.from)?, find(shares, &moving.to)?);
        let belongs = record.spec.shares().iter().any(|(home, _)| home.is_of_wal_in(&moving.to));
        if !belongs && to.find()?.is_some() {
            return Err(VolumeError::Orphan { share: to.name.clone(), pool: moving.to });
        }
        let room = refuse_if_in_the_way(&name, &moving, from, to)?;
        record.moving = Some(Box::new(moving.clone()));
        self.catalog.put(record.clone())?;
        let limits = Limits { deadline, room };
        let copied = || {
            step("move.noted")?;
            if !belongs {
                to.create()?;
            }
            let (from, to) = (from.locate()?, to.locate()?);
            for path in &moving.directories {
                transfer::copy(&from, &to, path, record.spec.overwrite, limits)
                    .doing(|| format!("copy {path} of {name} to pool {}", moving.to))?;
            }
            step("move.copied")?;
            self.catalog.put(record.clone().committed(moving.clone()))?;
            Ok(step("move.committed")?)
        };
        if let Err(error) = copied() {
            let record = self.ready(&name)?;
            if let Err(undo) = self.settle(record, shares) {
                tracing::error!(volume = %name, error = chain(&undo), "a failed move is not undone yet");
            }
            return Err(error);
        }
        tracing::info!(volume = %name, pool = %moving.to, directories = ?moving.directories, "moved the WAL");
        let record = self.ready(&name)?;
        // The WAL is where it was asked to be; what is left behind is deleted now or later.
        self.settle(record.clone(), shares).or_else(|error| {
            tracing::warn!(volume = %name, error = chain(&error), "a moved WAL is not deleted yet");
            Ok(record)
        })
    }

    /// Finishes or undoes a move that was interrupted.
    pub(crate) fn settle(
        &self,
        mut record: Record,
        shares: &[Share],
    ) -> Result<Record, VolumeError> {
        let Some(moving) = record.moving.clone() else { return Ok(record) };
        // Said once more: a commit that failed may have come as far as the disk.
        self.catalog.put(record.clone())?;
        let worthless = match moving.stage {
            Stage::Copying => &moving.to,
            Stage::Clearing => &moving.from,
        };
        let share = find(shares, worthless)?;
        if !record.spec.shares().iter().any(|(home, _)| home.is_of_wal_in(worthless)) {
            share.delete()?;
        } else if let Some(top) = share.find()? {
            let top = Dir::open(&top).doing(|| format!("open {}", top.display()))?;
            for path in &moving.directories {
                let path = Path::new(path);
                let emptied = match top.open_dir(path) {
                    Ok(dir) => pool::empty(&dir).and_then(|()| dir.sync()),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                    Err(error) => Err(error),
                };
                emptied.doing(|| format!("delete {} in pool {worthless}", path.display()))?;
                if *worthless != record.spec.pool && record.spec.layout == Layout::Pgdata {
                    gone(&top, path);
                }
            }
        }
        step("move.cleared")?;
        record.moving = None;
        self.catalog.put(record.clone())?;
        step("move.done")?;
        Ok(record)
    }
}

/// What is to be moved of clusters at rest that have their WAL where initdb put it.
fn wanted(record: &Record, shares: &[Share]) -> Result<Option<Moving>, VolumeError> {
    let spec = &record.spec;
    if spec.layout == Layout::Split || spec.wal_pool == spec.pool {
        return Ok(None);
    }
    let mut clusters = clusters(record, shares)?;
    clusters.retain(|found| {
        if in_root(record, std::slice::from_ref(found)).is_empty() {
            return false;
        }
        let reason = cluster::unrest(&found.dir);
        if let Some(reason) = &reason {
            let path = found.path.display();
            tracing::info!(volume = %record.name, %path, reason, "the WAL stays where it is for now");
        }
        reason.is_none()
    });
    let moving = Moving::begin(in_root(record, &clusters), &spec.pool, &spec.wal_pool);
    Ok((!moving.directories.is_empty()).then_some(moving))
}

pub(super) fn clusters(record: &Record, shares: &[Share]) -> Result<Vec<Found>, VolumeError> {
    let root = root_of(record, shares)?;
    let doing = || format!("look through {}", record.name);
    Ok(cluster::find(&root, cluster::OF_IMAGES).doing(doing)?.found)
}

/// Where those of `clusters` have their WAL that initdb has put there.
fn in_root(record: &Record, clusters: &[Found]) -> Vec<String> {
    let path = |found: &Found| {
        // What has another name is no image's, and has no place in a record.
        let path = found.path.join(PG_WAL).to_str()?.to_owned();
        let is_there = found.dir.metadata(Path::new(PG_WAL)).is_ok_and(|found| found.is_dir());
        (is_there && !record.wal_directories.contains(&path)).then_some(path)
    };
    clusters.iter().filter_map(path).collect()
}

/// Removes the directory `path` of `top`, if it is empty, and those above it that are; tells whether
/// it is gone.
pub(super) fn gone(top: &Dir, path: &Path) -> bool {
    let remove = |path: &Path| {
        let (parent, name) = (path.parent()?, path.file_name()?);
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let parent = top.open_dir(parent).ok()?;
        match parent.remove_dir(Path::new(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => None,
            _ => parent.sync().ok(),
        }
    };
    let is_gone = top.metadata(path).is_err() || remove(path).is_some();
    let mut above = path.parent();
    while let Some(directory) = above.filter(|above| is_gone && !above.as_os_str().is_empty()) {
        if remove(directory).is_none() {
            break;
        }
        above = directory.parent();
    }
    is_gone
}

pub(super) fn find<'a>(shares: &'a [Share], pool: &PoolName) -> Result<&'a Share, VolumeError> {
    share::of_wal_in(shares, pool)
}

pub(super) fn root_of(record: &Record, shares: &[Share]) -> Result<PathBuf, VolumeError> {
    find(shares, &record.spec.pool)?.locate()
}

/// Bytes that may be moved. A move leaves a twentieth of the pool free: it is for speed, and not worth
/// a full disk. And it replaces nothing: what somebody put where the WAL should go stays.
fn refuse_if_in_the_way(
    name: &VolumeName,
    moving: &Moving,
    from: &Share,
    to: &Share,
) -> Result<u64, VolumeError> {
    let deadline = Instant::now() + MEASURE;
    let top = from.locate()?;
    let top = Dir::open(&top).doing(|| format!("open {}", top.display()))?;
    let mut bytes = 0;
    for path in &moving.directories {
        let used = top.open_dir(Path::new(path)).and_then(|dir| usage::used(&dir, deadline));
        bytes += used.doing(|| format!("measure {path} of {name}"))?.unwrap_or(u64::MAX / 2);
    }
    let unmoved = |reason| VolumeError::Unmoved { name: name.clone(), reason };
    let mut left = to.space()?;
    if let Some(top) = to.find()? {
        let top = Dir::open(&top).doing(|| format!("open {}", top.display()))?;
        let holds = |path: &&String| {
            let dir = top.open_dir(Path::new(path));
            dir.is_ok_and(|dir| fs::read_dir(dir.path()).is_ok_and(|mut all| all.next().is_some()))
        };
        if let Some(path) = moving.directories.iter().find(holds) {
            return Err(unmoved(format!("{path} is not empty in pool {}", moving.to)));
        }
        // A server that finds its WAL's place full does not start.
        if let Some(Charge { charged, limit: Some(limit), .. }) = to.charge()? {
            left.free = left.free.min(limit.saturating_sub(charged));
            left.total = left.total.min(limit);
        }
    }
    let room = left.free.saturating_sub(left.total / 20);
    if bytes > room {
        return Err(unmoved(format!("pool {} has no room for {bytes} bytes", moving.to)));
    }
    Ok(room)
}

#[cfg(test)]
#[path = "relocation_tests.rs"]
mod tests;
