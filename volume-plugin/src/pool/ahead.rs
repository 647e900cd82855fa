//! Copying a tree twice: ahead, while it is written to, and again, while it is not, when only what has changed
//! since is still to be written.
//!
//! A file that was not written to between the two is told by its times. What is written by a mapping changes
//! them only when a page is first written to after it was brought to the disk: so each file is brought there
//! before it is looked at, and one that was changed since then, or just before, counts as changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Pace;
use super::copy::{DEEPEST, Except, below_of, each, ensure, one, own};
use crate::sys::beneath::Dir;
use crate::sys::file::{self, FileId};

/// Coarser than the clock by which any kernel marks files.
const COARSE: Duration = Duration::from_millis(100);

/// What is compared at once.
const STEP: usize = 128 << 10;

/// What was copied ahead.
#[derive(Debug, Default)]
pub struct Ahead {
    /// All that was made, by its path; what is known of a file that had not changed lately.
    made: BTreeMap<PathBuf, Option<Seen>>,
}

/// What tells whether a file was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    id: FileId,
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Seen {
    fn of(found: &Metadata) -> Self {
        Self {
            id: FileId::of(found),
            size: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }

    fn changed_before(&self, time: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let (Ok(seconds), Ok(nanoseconds)) = (seconds.try_into(), nanoseconds.try_into()) else {
            return false;
        };
        let changed = UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds));
        changed.is_some_and(|changed| changed < time)
    }
}

/// Copies what is in `source`, which is written to meanwhile, into `target`, but for what is `except`ed.
pub fn copy(source: &Dir, target: &Dir, except: &Except, pace: &Pace) -> io::Result<Ahead> {
    let mut ahead = Ahead::default();
    let mut first = First { except, pace, ahead: &mut ahead };
    first.directory((source, target), Path::new(""), DEEPEST)?;
    Ok(ahead)
}

impl Ahead {
    /// Makes of `target`, into which this was copied, what is in `source` by now. Nobody writes to that any
    /// more.
    pub fn copy_again(
        &self,
        source: &Dir,
        target: &Dir,
        except: &Except,
        pace: &Pace,
    ) -> io::Result<()> {
        let mut again = Again { except, pace, ahead: self, found: BTreeSet::new() };
        again.directory((source, target), Path::new(""), DEEPEST)?;
        // What is below a directory comes before it.
        for (path, _) in self.made.iter().rev().filter(|(path, _)| !again.found.contains(*path)) {
            let name = Path::new(path.file_name().unwrap_or_default());
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = target.open_dir(parent.unwrap_or(Path::new(".")))?;
            if parent.metadata(name)?.is_dir() {
                parent.remove_dir(name)?;
            } else {
                parent.remove_file(name)?;
            }
        }
        Ok(())
    }
}

struct First<'a> {
    except: &'a Except<'a>,
    pace: &'a Pace,
    ahead: &'a mut Ahead,
}

struct Again<'a> {
    except: &'a Except<'a>,
    pace: &'a Pace,
    ahead: &'a Ahead,
    found: BTreeSet<PathBuf>,
}

impl First<'_> {
    fn directory(&mut self, both: (&Dir, &Dir), path: &Path, deeper: usize) -> io::Result<()> {
        each(both, path, self.except, &mut |name, path| self.entry(both, name, path, deeper))
    }

    fn entry(
        &mut self,
        (source, target): (&Dir, &Dir),
        name: &Path,
        path: &Path,
        deeper: usize,
    ) -> io::Result<()> {
        self.pace.go_on()?;
        let found = source.metadata(name)?;
        let mut seen = None;
        if found.is_symlink() {
            link(source, target, name, &found)?;
        } else if found.is_dir() {
            let (below, made) = (source.open_dir(name)?, ensure(target, name)?);
            self.ahead.made.insert(path.to_owned(), None);
            return self.directory((&below, &made), path, below_of(path, deeper)?);
        } else if found.is_file() {
            let begun = SystemTime::now();
            let file = source.open_file(name)?;
            file::write_back(&file)?;
            let before = Seen::of(&file.metadata()?);
            seen = Some(before).filter(|it| it.changed_before(begun - COARSE));
            one(source, name, target, name, self.pace)?;
        } else {
            return Ok(());
        }
        self.ahead.made.insert(path.to_owned(), seen);
        Ok(())
    }
}

impl Again<'_> {
    fn directory(&mut self, both: (&Dir, &Dir), path: &Path, deeper: usize) -> io::Result<()> {
        each(both, path, self.except, &mut |name, path| self.entry(both, name, path, deeper))
    }

    fn entry(
        &mut self,
        (source, target): (&Dir, &Dir),
        name: &Path,
        path: &Path,
        deeper: usize,
    ) -> io::Result<()> {
        self.pace.go_on()?;
        let found = source.metadata(name)?;
        if !(found.is_symlink() || found.is_dir() || found.is_file()) {
            return Ok(());
        }
        let before = self.ahead.made.get(path);
        self.found.insert(path.to_owned());
        // Nobody takes away what is ours.
        let made = before.map(|_| target.metadata(name)).transpose().map_err(io::Error::other)?;
        if made.is_some_and(|made| made.file_type() != found.file_type()) {
            let kind = "is something else than when it was copied";
            return Err(io::Error::other(format!("{} {kind}", path.display())));
        }
        if found.is_dir() {
            let (below, made) = (source.open_dir(name)?, ensure(target, name)?);
            self.directory((&below, &made), path, below_of(path, deeper)?)
        } else if found.is_symlink() {
            if before.is_some() {
                target.remove_file(name)?;
            }
            link(source, target, name, &found)
        } else {
            match before {
                None => one(source, name, target, name, self.pace).map(drop),
                Some(Some(seen)) if *seen == Seen::of(&found) => Ok(()),
                Some(_) => self.update(&source.open_file(name)?, &target.change_file(name)?),
            }
        }
    }

    /// Makes `made` the same as `source`, writing what differs.
    fn update(&self, source: &File, made: &File) -> io::Result<()> {
        let found = source.metadata()?;
        made.set_len(found.len())?;
        if !file::shared(source, made)? {
            let (mut theirs, mut ours) = (vec![0; STEP], vec![0; STEP]);
            let mut at = 0;
            while at < found.len() {
                self.pace.go_on()?;
                let read = read_at(source, &mut theirs, at)?;
                if read == 0 {
                    break;
                }
                let same = read_at(made, &mut ours[..read], at)? == read;
                if !same || theirs[..read] != ours[..read] {
                    made.write_all_at(&theirs[..read], at)?;
                }
                at += read as u64;
            }
        }
        own(made, &found)
    }
}

fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], at + length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

fn link(source: &Dir, target: &Dir, name: &Path, found: &Metadata) -> io::Result<()> {
    target.make_link(name, &source.read_link(name)?, found.uid(), found.gid())
}

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod tests;
