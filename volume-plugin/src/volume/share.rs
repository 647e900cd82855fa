//! A volume's share in one pool that is open, with the pool's name in what goes wrong.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::VolumeError;
use super::spec::VolumeSpec;
use crate::name::ShareName;
use crate::pool::{Directory, Pool, PoolError, PoolName, PoolRegistry};

/// See the module.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) name: ShareName,
    pub(super) pool_name: PoolName,
    pool: Arc<dyn Pool>,
    directories: Vec<Directory>,
}

/// The shares `name` of a volume with this spec, the root's first; their pools are opened.
pub(super) async fn of(
    name: &ShareName,
    spec: &VolumeSpec,
    pools: &PoolRegistry,
) -> Result<Vec<Share>, VolumeError> {
    let mut shares = Vec::new();
    for (pool_name, directories) in spec.shares() {
        match pools.get(&pool_name).await {
            Ok(pool) => shares.push(Share { name: name.clone(), pool_name, pool, directories }),
            Err(source) => return Err(VolumeError::Pool { pool: pool_name, source }),
        }
    }
    Ok(shares)
}

impl Share {
    pub(super) fn create(&self) -> Result<(), VolumeError> {
        self.said(self.pool.create(&self.name, &self.directories))
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

    fn said<T>(&self, said: Result<T, PoolError>) -> Result<T, VolumeError> {
        said.map_err(|source| VolumeError::Pool { pool: self.pool_name.clone(), source })
    }
}
