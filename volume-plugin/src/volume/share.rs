//! A volume's share in one pool that is open, with the pool's name in what goes wrong.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::catalog::Record;
use super::error::VolumeError;
use super::size::Sizes;
use crate::name::ShareName;
use crate::pool::{
    Capture, Captured, Charge, Directory, Limit, Pool, PoolError, PoolName, PoolRegistry, Space,
};
use crate::sys::Doing;
use crate::sys::beneath::Dir;

/// See the module.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) name: ShareName,
    pub(crate) pool_name: PoolName,
    pool: Arc<dyn Pool>,
    directories: Vec<Directory>,
    /// What it may hold from its creation on.
    limit: Option<Limit>,
}

/// The shares of the volume with this record, the root's first; their pools are opened.
pub(crate) async fn of(record: &Record, pools: &PoolRegistry) -> Result<Vec<Share>, VolumeError> {
    let mut shares = Vec::new();
    for (pool_name, directories) in record.shares() {
        let name = record.content().clone();
        let limit = if shares.is_empty() { record.spec.sizes.limit() } else { None };
        match pools.get(&pool_name).await {
            Ok(pool) => shares.push(Share { name, pool_name, pool, directories, limit }),
            Err(source) => return Err(VolumeError::Pool { pool: pool_name, source }),
        }
    }
    Ok(shares)
}

/// The one of `shares` that is in `pool`.
pub(crate) fn in_pool<'a>(shares: &'a [Share], pool: &PoolName) -> Result<&'a Share, VolumeError> {
    let share = shares.iter().find(|share| share.pool_name == *pool);
    share.ok_or_else(|| VolumeError::Internal(format!("no share in {pool}")))
}

impl Share {
    pub(crate) fn create(&self) -> Result<(), VolumeError> {
        self.said(self.pool.create(&self.name, &self.directories))?;
        self.begin_limit()
    }

    /// Brings the limit that it begins with into force.
    pub(crate) fn begin_limit(&self) -> Result<(), VolumeError> {
        match self.limit {
            None => Ok(()),
            limit => self.said(self.pool.limit(&self.name, limit)),
        }
    }

    /// Refuses a limit that its pool cannot have, before anything is made.
    pub(crate) fn prepare_limit(&self) -> Result<(), VolumeError> {
        let Some(_) = self.limit else { return Ok(()) };
        self.pool.prepare_limits().map_err(|source| VolumeError::NoLimit {
            key: "size",
            pool: self.pool_name.clone(),
            source,
        })
    }

    /// Brings what it may hold into force.
    pub(crate) fn limit(&self, sizes: &Sizes) -> Result<(), VolumeError> {
        self.said(self.pool.limit(&self.name, sizes.limit()))
    }

    /// What its pool counts that it holds.
    pub(crate) fn charge(&self) -> Result<Option<Charge>, VolumeError> {
        self.said(self.pool.charge(&self.name))
    }

    pub(crate) fn delete(&self) -> Result<(), VolumeError> {
        self.said(self.pool.delete(&self.name))
    }

    /// Makes it without any directory.
    pub(crate) fn create_bare(&self) -> Result<(), VolumeError> {
        self.said(self.pool.create(&self.name, &[]))
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
        deadline: Instant,
    ) -> Result<(), VolumeError> {
        self.said(self.pool.snapshot(&self.name, &new.name, kind, deadline))
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
