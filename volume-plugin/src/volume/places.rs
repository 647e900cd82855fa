//! Where the roles of a volume are now.

use std::path::PathBuf;

use super::catalog::Record;
use super::spec::{Home, Layout, Role};
use crate::name::ShareName;
use crate::pool::Directory;

/// The directory of the WAL in a cluster's.
pub(super) const PG_WAL: &str = crate::postgres::cluster::WAL;

impl Record {
    /// What its share `home` is called in its pool.
    pub(crate) fn share_at(&self, home: &Home) -> ShareName {
        match &home.alone {
            None => self.content().clone(),
            Some(Role::Tablespace(name)) => self.content().part(&format!("t.{name}")),
            Some(role) => self.content().part(&role.to_string()),
        }
    }

    /// Every role with the share that it lives in now and its directory below the root.
    pub(crate) fn places(&self) -> Vec<(Role, Home, String)> {
        let Self { spec, wal_directories, .. } = self;
        if spec.layout == Layout::Split {
            let roles = spec.roles().into_iter();
            return roles.map(|(role, home)| (role.clone(), home, role.path())).collect();
        }
        let root = spec.home(&Role::Data);
        let mut places = vec![(Role::Data, root.clone(), String::new())];
        if wal_directories.is_empty() {
            places.push((Role::Wal, root, PG_WAL.to_owned()));
        }
        let wal = |path: &String| (Role::Wal, spec.home(&Role::Wal), path.clone());
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

    /// Directories of other shares than the root's, to be bound onto it.
    pub(crate) fn elsewhere(&self) -> impl Iterator<Item = (String, Home)> {
        let root = self.spec.home(&Role::Data);
        let places = self.places().into_iter().map(|(_, home, path)| (path, home));
        places.filter(move |(_, home)| *home != root)
    }

    /// The shares that it has, or may have, with the directories to make there.
    pub(super) fn shares(&self) -> Vec<(Home, Vec<Directory>)> {
        let mut shares = self.spec.shares();
        for pool in self.moving.iter().flat_map(|moving| [&moving.from, &moving.to]) {
            if !shares.iter().any(|(has, _)| has.is_of_wal_in(pool)) {
                let mut spec = self.spec.clone();
                spec.wal_pool = pool.clone();
                let its = spec.home(&Role::Wal);
                shares.extend(spec.shares().into_iter().filter(|(home, _)| *home == its));
            }
        }
        shares
    }
}
