//! Copying a directory that containers have written: regular files and directories, with their
//! owners and modes, durably. Whatever else is there is no PostgreSQL's, and ends the copy.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use crate::pool::Overwrite;
use crate::sys::beneath::{self, Dir};
use crate::sys::btrfs;
use plugin_sdk::failpoint;

/// Directories inside each other: `pg_wal/archive_status` is one.
const DEEPEST: usize = 3;

/// How far a copy may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// When it has to be done, if ever.
    pub(super) deadline: Option<Instant>,
    /// Bytes that it may write: a file may be longer than what it takes where it is.
    pub(super) room: u64,
}

/// Copies the directory `path` below `from` to the same path below `to`, where it is made with
/// those above it, or is empty. `TimedOut` when it is not done in time.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    path: &str,
    overwrite: Overwrite,
    mut limits: Limits,
) -> io::Result<()> {
    let source = Dir::open(from)?.open_dir(Path::new(path))?;
    let mut above = vec![Dir::open(to)?];
    for name in path.split('/') {
        let made = above[above.len() - 1].ensure_dir(name)?;
        above.push(made);
    }
    let target = &above[above.len() - 1];
    if fs::read_dir(target.path())?.next().is_some() {
        return Err(io::ErrorKind::DirectoryNotEmpty.into());
    }
    if overwrite == Overwrite::InPlace {
        btrfs::set_nodatacow_if_known(target)?;
    }
    tree(&source, target, &mut limits, DEEPEST)?;
    above.iter().rev().try_for_each(Dir::sync)
}

fn tree(source: &Dir, target: &Dir, limits: &mut Limits, deeper: usize) -> io::Result<()> {
    let metadata = source.metadata(Path::new("."))?;
    for entry in fs::read_dir(source.path())? {
        if limits.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let name = entry?.file_name();
        let path = Path::new(&name);
        let kind = source.metadata(path)?;
        if kind.is_dir() && deeper > 0 {
            let below = target.make_dir(name.to_str().ok_or(io::ErrorKind::InvalidData)?)?;
            tree(&source.open_dir(path)?, &below, limits, deeper - 1)?;
        } else if kind.is_file() {
            let mut from = source.open_file(path)?;
            let metadata = from.metadata()?;
            let left = limits.room.checked_sub(metadata.len());
            limits.room = left.ok_or(io::ErrorKind::FileTooLarge)?;
            let mut to = target.make_file(path, 0o600)?;
            io::copy(&mut (&mut from).take(metadata.len()), &mut to)?;
            beneath::own(&to, metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)?;
            to.sync_all()?;
            failpoint::reach("move.file-copied")?;
        } else {
            return Err(io::Error::other(format!(
                "{} is neither file nor directory",
                name.display()
            )));
        }
    }
    target.set_owner(metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)?;
    target.sync()
}
