//! Deleting what containers wrote. Whoever may write in a volume may nest directories and
//! subvolumes without end, and make subvolumes read-only: recursion and open directories are
//! bounded, and what lies deeper is moved up and deleted from there.

use std::cell::Cell;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::beneath::Dir;
use crate::sys::btrfs;

/// Directories inside each other that are gone into; each holds a descriptor open.
const DEEPEST: usize = 64;

/// Deletes everything in `top`, which no container has any more.
pub fn empty(top: &Dir) -> io::Result<()> {
    let eraser = Eraser { top, lifted: Cell::new(0) };
    loop {
        let before = eraser.lifted.get();
        eraser.clear(top, top, DEEPEST)?;
        if eraser.lifted.get() == before {
            return Ok(());
        }
    }
}

struct Eraser<'a> {
    top: &'a Dir,
    /// How often something was moved up.
    lifted: Cell<u64>,
}

impl Eraser<'_> {
    /// Empties `dir`, which lies in the subvolume below `root`, but for what it moves there.
    fn clear(&self, dir: &Dir, root: &Dir, deeper: usize) -> io::Result<()> {
        for entry in fs::read_dir(dir.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let path = Path::new(&name);
            if !entry.file_type()?.is_dir() {
                dir.remove_file(path)?;
            } else if !removed(dir, path)? {
                self.clear_below(dir, path, root, deeper)?;
            }
        }
        Ok(())
    }

    fn clear_below(&self, dir: &Dir, path: &Path, root: &Dir, deeper: usize) -> io::Result<()> {
        let below = dir.open_dir(path)?;
        let subvolume = is_subvolume(&below, dir)?;
        if subvolume {
            btrfs::make_writable(&below)?;
        }
        // A subvolume may be moved into another, while a directory stays in its own.
        if subvolume && !is_same(dir, self.top)? {
            return self.lift(dir, path, self.top);
        } else if deeper == 0 {
            return self.lift(dir, path, root);
        }
        let before = self.lifted.get();
        if subvolume {
            self.clear(&below, &below, DEEPEST)?;
        } else {
            self.clear(&below, root, deeper - 1)?;
        }
        if removed(dir, path)? || self.lifted.get() != before {
            return Ok(());
        }
        Err(ErrorKind::DirectoryNotEmpty.into())
    }

    /// Moves the directory `path` of `dir` into `target`, under a name that nothing has there.
    fn lift(&self, dir: &Dir, path: &Path, target: &Dir) -> io::Result<()> {
        loop {
            self.lifted.set(self.lifted.get() + 1);
            let name = format!("lifted-{}", self.lifted.get());
            match dir.rename(path, target, Path::new(&name)) {
                Err(error)
                    if is_taken(error.kind()) || error.kind() == ErrorKind::NotADirectory => {}
                other => return other,
            }
        }
    }
}

/// Removes the directory `path` of `dir` and tells whether it was empty.
fn removed(dir: &Dir, path: &Path) -> io::Result<bool> {
    match dir.remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if is_taken(error.kind()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The root of a subvolume is inode 256 of a device of its own.
fn is_subvolume(dir: &Dir, parent: &Dir) -> io::Result<bool> {
    let (dir, parent) = (dir.metadata(Path::new("."))?, parent.metadata(Path::new("."))?);
    Ok(dir.ino() == 256 && dir.dev() != parent.dev())
}

fn is_same(one: &Dir, other: &Dir) -> io::Result<bool> {
    let (one, other) = (one.metadata(Path::new("."))?, other.metadata(Path::new("."))?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Directories that are not empty are told as either, by the file system.
fn is_taken(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists)
}
