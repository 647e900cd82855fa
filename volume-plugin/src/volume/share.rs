//! A volume's share in a pool that is open, with the pool's name in what goes wrong.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::catalog::Record;
use super::error::VolumeError;
use super::size::Sizes;
use super::spec::{Home, Role};
use crate::name::ShareName;
use crate::pool::{
    Capture, Captured, Charge, Directory, Limit, Pace, Pool, PoolError, PoolName, PoolRegistry,
    Space, copy,
};
use crate::sys::Doing;
use crate::sys::beneath::Dir;

/// See the module.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) name: ShareName,
    pub(crate) home: Home,
    pub(crate) pool_name: PoolName,
    pool: Arc<dyn Pool>,
    directories: Vec<Directory>,
    /// Whose size it has, if any: that of the data is the root's.
    sized: Option<Role>,
    /// What it may hold from its creation on.
    limit: Option<Limit>,
}

/// The shares of the volume with this record, the root's first; their pools are opened.
pub(crate) async fn of(record: &Record, pools: &PoolRegistry) -> Result<Vec<Share>, VolumeError> {
    let mut shares = Vec::new();
    for (home, directories) in record.shares() {
        let name = record.share_at(&home);
        let sized = home.alone.clone().or_else(|| shares.is_empty().then_some(Role::Data));
        // Nobody writes to a snapshot.
        let limit = sized.as_ref().filter(|_| !record.is_snapshot());
        let limit = limit.and_then(|role| record.spec.sizes.limit(role));
        let pool_name = home.pool.clone();
        match pools.get(&pool_name).await {
            Ok(pool) => {
                shares.push(Share { name, home, pool_name, pool, directories, sized, limit });
            }
            Err(source) => return Err(VolumeError::Pool { pool: pool_name, source }),
        }
    }
    Ok(shares)
}

/// The one of `shares` that is at `home`.
pub(crate) fn at<'a>(shares: &'a [Share], home: &Home) -> Result<&'a Share, VolumeError> {
    let share = shares.iter().find(|share| share.home == *home);
    share.ok_or_else(|| VolumeError::Internal(format!("no share at {home:?}")))
}

/// The one of `shares` that the WAL is in, or would be if it was in `pool`.
pub(crate) fn of_wal_in<'a>(
    shares: &'a [Share],
    pool: &PoolName,
) -> Result<&'a Share, VolumeError> {
    let share = shares.iter().find(|share| share.home.is_of_wal_in(pool));
    share.ok_or_else(|| VolumeError::Internal(format!("no share in {pool}")))
}

impl Share {
    pub(crate) fn create(&self) -> Result<(), VolumeError> {
        self.said(self.pool.create(&self.name, &self.directories, self.limit))
    }

    /// Brings the limit that it begins with into force.
    pub(crate) fn begin_limit(&self) -> Result<(), VolumeError> {
        match self.limit.map(|limit| self.pool.limit(&self.name, Some(limit))) {
            None => Ok(()),
            // It is as full as what it was copied from, and has what that took more here.
            Some(Err(PoolError::System(error))) if error.is_full() => {
                tracing::info!(share = %self.name, "a copy holds more than its size");
                Ok(())
            }
            Some(limited) => self.said(limited),
        }
    }

    /// Refuses a limit that its pool cannot have, before anything is made.
    pub(crate) fn prepare_limit(&self) -> Result<(), VolumeError> {
        let Some(_) = self.limit else { return Ok(()) };
        self.pool.prepare_limits().map_err(|source| self.no_limit(source))
    }

    /// Brings what it may hold into force, if there is a size for it.
    pub(crate) fn limit(&self, sizes: &Sizes) -> Result<(), VolumeError> {
        let Some(role) = &self.sized else { return Ok(()) };
        let said = self.pool.limit(&self.name, sizes.limit(role));
        said.map_err(|source| match source {
            PoolError::NoLimits(_) => self.no_limit(source),
            source => VolumeError::Pool { pool: self.pool_name.clone(), source },
        })
    }

    fn no_limit(&self, source: PoolError) -> VolumeError {
        let key = self.sized.as_ref().unwrap_or(&Role::Data).size_key();
        VolumeError::NoLimit { key, pool: self.pool_name.clone(), source }
    }

    /// Its root beside a directory that nobody sees, where it has a file system for itself.
    pub(crate) fn aside(&self) -> Result<Option<(Dir, Dir)>, VolumeError> {
        let open = |path: &Path| Dir::open(path).doing(|| format!("open {}", path.display()));
        let Some(aside) = self.said(self.pool.aside(&self.name))? else { return Ok(None) };
        Ok(Some((open(&aside.share)?, open(&aside.beside)?)))
    }

    /// Whose size it has, if there can be one for it.
    pub(crate) fn sized(&self) -> Option<&Role> {
        self.sized.as_ref()
    }

    /// What its pool counts that it holds.
    pub(crate) fn charge(&self) -> Result<Option<Charge>, VolumeError> {
        self.said(self.pool.charge(&self.name))
    }

    pub(crate) fn delete(&self) -> Result<(), VolumeError> {
        self.said(self.pool.delete(&self.name))
    }

    /// Makes it without any directory, for a copy, which may take a little more than what it is made of;
    /// [`Share::begin_limit`] comes afterwards.
    pub(crate) fn create_bare(&self) -> Result<(), VolumeError> {
        let roomy = |limit: Limit| Limit { size: limit.size + limit.size / 16, ..limit };
        self.said(self.pool.create(&self.name, &[], self.limit.map(roomy)))
    }

    /// How it is captured.
    pub(crate) fn capture(&self) -> Capture {
        self.pool.capture(&self.name)
    }

    /// Makes `new`, in the same pool, with its content.
    pub(crate) fn snapshot(
        &self,
        new: &Self,
        kind: Captured,
        pace: &Pace,
    ) -> Result<(), VolumeError> {
        if new.limit.is_none() || self.capture() == Capture::AtOnce {
            return self.said(self.pool.snapshot(&self.name, &new.name, kind, pace));
        }
        // Where files are copied a size comes before them.
        new.create_bare()?;
        let copied = copy::tree(&self.open()?, &new.open()?, pace);
        match copied {
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                self.said(Err(PoolError::TimeOut(self.name.clone())))
            }
            other => Ok(other.doing(|| format!("copy {}", self.name))?),
        }
    }

    /// Its root, opened.
    pub(crate) fn open(&self) -> Result<Dir, VolumeError> {
        let root = self.locate()?;
        Ok(Dir::open(&root).doing(|| format!("open {}", root.display()))?)
    }

    /// Its root.
    pub(crate) fn locate(&self) -> Result<PathBuf, VolumeError> {
        self.said(self.pool.locate(&self.name))
    }

    /// Its root, if it is there.
    pub(crate) fn find(&self) -> Result<Option<PathBuf>, VolumeError> {
        match self.pool.locate(&self.name) {
            Err(PoolError::Missing(_)) => Ok(None),
            other => self.said(other).map(Some),
        }
    }

    /// What its pool has left.
    pub(crate) fn space(&self) -> Result<Space, VolumeError> {
        self.said(self.pool.describe()).map(|description| description.space)
    }

    fn said<T>(&self, said: Result<T, PoolError>) -> Result<T, VolumeError> {
        said.map_err(|source| VolumeError::Pool { pool: self.pool_name.clone(), source })
    }
}
