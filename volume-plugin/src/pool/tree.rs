//! The directories of a share: made by every pool in the same way.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Directory, Overwrite, Owner, PoolError};
use crate::name::ShareName;
use crate::sys::beneath::Dir;
use crate::sys::{Doing, SysError, btrfs, step};

/// Whether the file system overwrites by copying unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileSystem {
    CopiesOnWrite,
    OverwritesInPlace,
}

/// The share `name` in a pool that has each under its name below `root`.
pub(super) fn locate(root: &Path, name: &ShareName) -> Result<PathBuf, PoolError> {
    let share = root.join(name.as_str());
    match fs::symlink_metadata(&share) {
        Ok(found) if found.is_dir() => Ok(share),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("look at {}", share.display()))?
        }
        _ => Err(PoolError::Missing(name.clone())),
    }
}

/// Gives the new share at `root` its directories, durably.
pub(super) fn make(
    root: &Path,
    directories: &[Directory],
    file_system: FileSystem,
) -> Result<(), PoolError> {
    let share = Dir::open(root).doing(|| format!("open {}", root.display()))?;
    step("create.share-begun")?;
    own(&share, Owner::ROOT, root)?;
    let mut parents = vec![share];
    for directory in directories {
        let made = make_one(&parents[0], directory, root, file_system)?;
        parents.push(made);
    }
    for dir in &parents {
        dir.sync().doing(|| format!("sync below {}", root.display()))?;
    }
    Ok(())
}

fn make_one(
    share: &Dir,
    directory: &Directory,
    root: &Path,
    file_system: FileSystem,
) -> Result<Dir, SysError> {
    let path = Path::new(&directory.path);
    let shown = root.join(path);
    let make = || match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (None, _) => share.open_dir(Path::new(".")),
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => share.make_dir(name),
        (Some(parent), Some(name)) => share.open_dir(parent)?.make_dir(name),
        _ => Err(std::io::ErrorKind::InvalidInput.into()),
    };
    let dir = make().doing(|| format!("make {}", shown.display()))?;
    if directory.overwrite == Overwrite::InPlace && file_system == FileSystem::CopiesOnWrite {
        btrfs::set_nodatacow(&dir).doing(|| format!("set nodatacow on {}", shown.display()))?;
    }
    own(&dir, directory.owner, &shown)?;
    Ok(dir)
}

fn own(dir: &Dir, owner: Owner, shown: &Path) -> Result<(), SysError> {
    dir.set_owner(owner.uid, owner.gid, owner.mode)
        .doing(|| format!("give {} to {}:{}", shown.display(), owner.uid, owner.gid))
}
