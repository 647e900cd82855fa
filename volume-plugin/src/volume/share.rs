//! A volume's share in one pool that is open, with the pool's name in what goes wrong.

use std::path::PathBuf;
use std::sync::Arc;

use super::catalog::Record;
use super::error::VolumeError;
use super::size::Sizes;
use crate::name::ShareName;
use crate::pool::{Charge, Directory, Limit, Pool, PoolError, PoolName, PoolRegistry, Space};

/// See the module.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) name: ShareName,
    pub(super) pool_name: PoolName,
    pool: Arc<dyn Pool>,
    directories: Vec<Directory>,
    /// What it may hold from its creation on.
    limit: Option<Limit>,
}

/// The shares of the volume with this record, the root's first; their pools are opened.
pub(super) async fn of(record: &Record, pools: &PoolRegistry) -> Result<Vec<Share>, VolumeError> {
    let mut shares = Vec::new();
    for (pool_name, directories) in record.shares() {
        let name = record.share.clone();
        let limit = if shares.is_empty() { record.spec.sizes.limit() } else { None };
        match pools.get(&pool_name).await {
            Ok(pool) => shares.push(Share { name, pool_name, pool, directories, limit }),
            Err(source) => return Err(VolumeError::Pool { pool: pool_name, source }),
        }
    }
    Ok(shares)
}

/// The one of `shares` that is in `pool`.
pub(super) fn in_pool<'a>(shares: &'a [Share], pool: &PoolName) -> Result<&'a Share, VolumeError> {
    let share = shares.iter().find(|share| share.pool_name == *pool);
    share.ok_or_else(|| VolumeError::Internal(format!("no share in {pool}")))
}

impl Share {
    pub(super) fn create(&self) -> Result<(), VolumeError> {
        self.said(self.pool.create(&self.name, &self.directories))?;
        match self.limit {
            None => Ok(()),
            limit => self.said(self.pool.limit(&self.name, limit)),
        }
    }

    /// Refuses a limit that its pool cannot have, before anything is made.
    pub(super) fn prepare_limit(&self) -> Result<(), VolumeError> {
        let Some(_) = self.limit else { return Ok(()) };
        self.pool.prepare_limits().map_err(|source| VolumeError::NoLimit {
            key: "size",
            pool: self.pool_name.clone(),
            source,
        })
    }

    /// Brings what it may hold into force.
    pub(super) fn limit(&self, sizes: &Sizes) -> Result<(), VolumeError> {
        self.said(self.pool.limit(&self.name, sizes.limit()))
    }

    /// What its pool counts that it holds.
    pub(super) fn charge(&self) -> Result<Option<Charge>, VolumeError> {
        self.said(self.pool.charge(&self.name))
    }

    pub(super) fn delete(&self) -> Result<(), VolumeError> {
        self.said(self.pool.delete(&self.name))
    }

    /// Its root.
    pub(super) fn locate(&self) -> Result<PathBuf, VolumeError> {
        self.said(self.pool.locate(&self.name))
    }

    /// Its root, if it is there.
    pub(super) fn find(&self) -> Result<Option<PathBuf>, VolumeError> {
        match self.pool.locate(&self.name) {
            Err(PoolError::Missing(_)) => Ok(None),
            other => self.said(other).map(Some),
        }
    }

    /// What its pool has left.
    pub(super) fn space(&self) -> Result<Space, VolumeError> {
        self.said(self.pool.describe()).map(|description| description.space)
    }

    fn said<T>(&self, said: Result<T, PoolError>) -> Result<T, VolumeError> {
        said.map_err(|source| VolumeError::Pool { pool: self.pool_name.clone(), source })
    }
}
