//! A pool in a plain directory of the host: snapshots are copies, which share blocks where the file
//! system can do that; nothing between PostgreSQL and the host's own file system, unless a share has a
//! limit (`dir_limits`). The right place for WAL.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use plugin_sdk::{durable, failpoint};

use super::dir_limits::DirLimits;
use super::tree::{self, FileSystem};
use super::{
    Aside, Capture, Captured, Charge, Description, Directory, Limit, Pace, Pool, PoolError, copy,
    erase,
};
use crate::name::ShareName;
use crate::sys::beneath::Dir;
use crate::sys::{Doing, file};

/// See the module.
#[derive(Debug)]
pub struct DirPool {
    root: PathBuf,
    limits: DirLimits,
}

impl DirPool {
    /// The pool in the directory `root`, which is made if missing.
    pub fn open(root: PathBuf) -> Result<Self, PoolError> {
        durable::create_dir(&root, 0o700).doing(|| format!("make {}", root.display()))?;
        Ok(Self { limits: DirLimits::new(root.clone()), root })
    }

    fn share(&self, name: &ShareName) -> PathBuf {
        self.root.join(name.as_str())
    }
}

impl Pool for DirPool {
    fn create(
        &self,
        name: &ShareName,
        directories: &[Directory],
        limit: Option<Limit>,
    ) -> Result<(), PoolError> {
        let share = self.share(name);
        if share.exists() {
            return Err(PoolError::Exists(name.clone()));
        }
        durable::create_dir(&share, 0o700).doing(|| format!("make {}", share.display()))?;
        if let Some(limit) = limit {
            self.limits.make(name, limit)?;
        }
        tree::make(&share, directories, FileSystem::OverwritesInPlace)
    }

    fn capture(&self, _: &ShareName) -> Capture {
        Capture::FileByFile
    }

    fn snapshot(
        &self,
        of: &ShareName,
        new: &ShareName,
        _: Captured,
        pace: &Pace,
    ) -> Result<(), PoolError> {
        let source = self.locate(of)?;
        let target = self.share(new);
        if target.exists() {
            return Err(PoolError::Exists(new.clone()));
        }
        durable::create_dir(&target, 0o700).doing(|| format!("make {}", target.display()))?;
        let copied =
            Dir::open(&source).and_then(|source| copy::tree(&source, &Dir::open(&target)?, pace));
        match copied {
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                Err(PoolError::TimeOut(of.clone()))
            }
            other => Ok(other.doing(|| format!("copy {}", source.display()))?),
        }
    }

    fn locate(&self, name: &ShareName) -> Result<PathBuf, PoolError> {
        let place = tree::locate(&self.root, name)?;
        self.limits.show(name)?;
        Ok(place)
    }

    fn delete(&self, name: &ShareName) -> Result<(), PoolError> {
        let share = self.share(name);
        self.limits.delete(name)?;
        let delete = || {
            let share = Path::new(name.as_str());
            let root = Dir::open(&self.root)?;
            erase::empty(&root.open_dir(share)?)?;
            failpoint::reach("purge.share-emptied")?;
            root.remove_dir(share)
        };
        match delete() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.doing(|| format!("delete {}", share.display()))?,
        }
        Ok(durable::sync_dir(&self.root).doing(|| format!("sync {}", self.root.display()))?)
    }

    fn describe(&self) -> Result<Description, PoolError> {
        let space = file::space(&self.root).doing(|| format!("measure {}", self.root.display()))?;
        Ok(Description { kind: "dir", path: self.root.clone(), device: None, space, growable: 0 })
    }

    fn prepare_limits(&self) -> Result<(), PoolError> {
        DirLimits::prepare()
    }

    fn limit(&self, name: &ShareName, limit: Option<Limit>) -> Result<(), PoolError> {
        self.limits.limit(name, limit)
    }

    fn charge(&self, name: &ShareName) -> Result<Option<Charge>, PoolError> {
        self.limits.charge(name)
    }

    fn tend(&self) -> Result<bool, PoolError> {
        self.limits.keep_reserved().map(|()| false)
    }

    fn aside(&self, name: &ShareName) -> Result<Option<Aside>, PoolError> {
        self.limits.aside(name)
    }
}
