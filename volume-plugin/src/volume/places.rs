//! Where the roles of a volume are now.

use std::path::PathBuf;

use super::catalog::Record;
use super::spec::{Layout, Role};
use crate::pool::{Directory, PoolName};

/// The directory of the WAL in a cluster's.
pub(super) const PG_WAL: &str = crate::postgres::cluster::WAL;

impl Record {
    /// Every role with the pool that it lives in now and its directory below the root.
    pub(crate) fn places(&self) -> Vec<(Role, PoolName, String)> {
        let Self { spec, wal_directories, .. } = self;
        if spec.layout == Layout::Split {
            let roles = spec.roles().into_iter();
            return roles.map(|(role, pool)| (role.clone(), pool.clone(), role.path())).collect();
        }
        let mut places = vec![(Role::Data, spec.pool.clone(), String::new())];
        if wal_directories.is_empty() {
            places.push((Role::Wal, spec.pool.clone(), PG_WAL.to_owned()));
        }
        let wal = |path: &String| (Role::Wal, spec.wal_pool.clone(), path.clone());
        places.extend(wal_directories.iter().map(wal));
        places
    }

    /// The directory below the root that clusters are in, or are.
    pub(crate) fn data(&self) -> PathBuf {
        match self.spec.layout {
            Layout::Split => Role::Data.path().into(),
            Layout::Pgdata => PathBuf::new(),
        }
    }

    /// Directories of other pools than the root's, to be bound onto it.
    pub(crate) fn elsewhere(&self) -> impl Iterator<Item = (String, PoolName)> {
        let places = self.places().into_iter().map(|(_, pool, path)| (path, pool));
        places.filter(|(_, pool)| *pool != self.spec.pool)
    }

    /// The pools that have, or may have, a share of it, with the directories to make there.
    pub(super) fn shares(&self) -> Vec<(PoolName, Vec<Directory>)> {
        let mut shares = self.spec.shares();
        for pool in self.moving.iter().flat_map(|moving| [&moving.from, &moving.to]) {
            if !shares.iter().any(|(has, _)| has == pool) {
                let mut spec = self.spec.clone();
                spec.wal_pool = pool.clone();
                shares.extend(spec.shares().into_iter().filter(|(its, _)| its == pool));
            }
        }
        shares
    }
}
