//! Copying what containers wrote: trees and single files, with owners and modes, sharing blocks where
//! the file system can do that. Links are copied as links; what is neither file, directory nor link is
//! left out, and so is what goes away meanwhile.

use super::Pace;
use crate::sys::beneath::Dir;
use crate::sys::file;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Directories inside each other that are copied; each holds two descriptors open.
pub(super) const DEEPEST: usize = 64;

/// Bytes between two looks at the pace.
const STEP: u64 = 8 << 20;

/// What of a tree is left out, by its path below the tree's root.
pub type Except<'a> = dyn Fn(&Path) -> bool + 'a;

/// As many files are made durable one by one; for more a flush of the whole file system is quicker, although it
/// waits for what others have written there too.
const FEW: usize = 64;

/// Copies what is in `source` into the empty directory `target`, durably. It gets the owner and the mode
/// of `source`. `TimedOut` when that is not done in time.
pub fn tree(source: &Dir, target: &Dir, pace: &Pace) -> io::Result<()> {
    files(source, target, &|_| false, pace)?;
    make_durable(target)
}

/// Makes all that was copied into `target` durable.
pub fn make_durable(target: &Dir) -> io::Result<()> {
    let mut found = Vec::new();
    if !collect(target, &mut found, DEEPEST)? {
        return target.sync_all();
    }
    // All first, so that they need one commit of the file system together.
    found.iter().try_for_each(file::write_back)?;
    found.iter().try_for_each(File::sync_all)
}

/// All files and directories of `dir`, those below a directory before it; false where they are not [`FEW`].
fn collect(dir: &Dir, found: &mut Vec<File>, deeper: usize) -> io::Result<bool> {
    for entry in fs::read_dir(dir.path())? {
        let name = PathBuf::from(entry?.file_name());
        let kind = dir.metadata(&name)?;
        if found.len() >= FEW {
            return Ok(false);
        }
        if kind.is_dir() {
            let Some(deeper) = deeper.checked_sub(1) else { return Ok(false) };
            if !collect(&dir.open_dir(&name)?, found, deeper)? {
                return Ok(false);
            }
        } else if kind.is_file() {
            found.push(dir.open_file(&name)?);
        }
    }
    found.push(dir.handle_of()?);
    Ok(true)
}

/// As [`tree`], not durably, but for what is `except`ed; `target` may have directories that `source`
/// has too, but none of its files.
pub fn files(source: &Dir, target: &Dir, except: &Except, pace: &Pace) -> io::Result<()> {
    let copier = Copier { except, pace };
    copier.directory(source, target, Path::new(""), DEEPEST)
}

/// Copies the regular file `name` of `source` to the new file `new` of `target`, with owner and mode.
/// Not durable by itself. `TimedOut` when that is not done in time.
pub fn one(source: &Dir, name: &Path, target: &Dir, new: &Path, pace: &Pace) -> io::Result<File> {
    let file = source.open_file(name)?;
    content(&file, target, new, pace)
}

struct Copier<'a> {
    except: &'a Except<'a>,
    pace: &'a Pace,
}

impl Copier<'_> {
    fn directory(&self, source: &Dir, target: &Dir, path: &Path, deeper: usize) -> io::Result<()> {
        each((source, target), path, self.except, &mut |name, path| {
            self.entry(source, target, name, path, deeper)
        })
    }

    fn entry(
        &self,
        source: &Dir,
        target: &Dir,
        name: &Path,
        path: &Path,
        deeper: usize,
    ) -> io::Result<()> {
        self.pace.go_on()?;
        let found = source.metadata(name)?;
        if found.is_symlink() {
            let leads = source.read_link(name)?;
            target.make_link(name, &leads, found.uid(), found.gid())
        } else if found.is_dir() {
            let deeper = below_of(path, deeper)?;
            self.directory(&source.open_dir(name)?, &ensure(target, name)?, path, deeper)
        } else if found.is_file() {
            one(source, name, target, name, self.pace).map(drop)
        } else {
            Ok(())
        }
    }
}

/// Has all that is in the directory `source`, which is at `path`, made in `target`: each by its name and its
/// path, but for what is `except`ed and what goes away meanwhile. Then `target` gets its owner and mode.
pub(super) fn each(
    (source, target): (&Dir, &Dir),
    path: &Path,
    except: &Except,
    make: &mut dyn FnMut(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    for entry in fs::read_dir(source.path())? {
        let name = PathBuf::from(entry?.file_name());
        let path = path.join(&name);
        if except(&path) {
            continue;
        }
        match make(&name, &path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other?,
        }
    }
    let found = source.metadata(Path::new("."))?;
    target.set_owner(found.uid(), found.gid(), found.mode() & 0o7777)
}

/// How much deeper than the directory `path` it may go, which may be so deep.
pub(super) fn below_of(path: &Path, deeper: usize) -> io::Result<usize> {
    let deep = || io::Error::other(format!("{} is too deep", path.display()));
    deeper.checked_sub(1).ok_or_else(deep)
}

/// The directory `name` of `target`, which is there afterwards.
pub(super) fn ensure(target: &Dir, name: &Path) -> io::Result<Dir> {
    target.ensure_dir(name.to_str().ok_or(ErrorKind::InvalidFilename)?)
}

fn content(source: &File, target: &Dir, new: &Path, pace: &Pace) -> io::Result<File> {
    let found = source.metadata()?;
    let mut made = target.make_file(new, 0o600)?;
    if file::shared(source, &made)? {
        pace.copied(found.len());
    } else {
        // No more than it had when it was opened: somebody may write faster than this reads.
        let mut left = found.len();
        while left > 0 {
            pace.go_on()?;
            let step = left.min(STEP);
            pace.write(step)?;
            let copied = io::copy(&mut source.take(step), &mut made)?;
            if copied == 0 {
                break;
            }
            left -= copied;
            pace.copied(copied);
        }
    }
    own(&made, &found)?;
    Ok(made)
}

/// Gives the new file the owner and the mode of another.
pub fn own(made: &File, like: &Metadata) -> io::Result<()> {
    fchown(made, Some(like.uid()), Some(like.gid()))?;
    made.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    use plugin_sdk::durable;

    use super::*;

    struct Two {
        temporary: tempfile::TempDir,
        source: Dir,
        target: Dir,
    }

    fn two() -> Two {
        let temporary = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            durable::create_dir(&temporary.path().join(name), 0o700).unwrap();
            Dir::open(&temporary.path().join(name)).unwrap()
        };
        let (source, target) = (dir("source"), dir("target"));
        Two { temporary, source, target }
    }

    fn soon() -> Pace {
        Pace::until(Instant::now() + Duration::from_mins(1))
    }

    #[test]
    fn few_files_are_made_durable_by_themselves() {
        let two = two();
        let at = |path: &str| two.temporary.path().join(path);
        durable::create_dir(&at("target/a/b"), 0o700).unwrap();
        symlink("/nowhere", at("target/a/link")).unwrap();
        for number in 0..FEW - 3 {
            make_durable(&two.target).unwrap();
            let mut found = Vec::new();
            assert!(collect(&two.target, &mut found, DEEPEST).unwrap());
            assert_eq!(found.len(), number + 3, "three directories, and files");
            durable::write(&at(&format!("target/a/b/{number}")), b"x").unwrap();
        }
        for name in ["target/a/more", "target/and-more"] {
            durable::write(&at(name), b"x").unwrap();
        }
        assert!(!collect(&two.target, &mut Vec::new(), DEEPEST).unwrap());
        make_durable(&two.target).unwrap();
        assert!(!collect(&two.target, &mut Vec::new(), 1).unwrap(), "deeper than that");
    }

    #[test]
    fn what_is_copied_is_as_it_was() {
        let two = two();
        let at = |path: &str| two.temporary.path().join(path);
        durable::create_dir(&at("source/a/b"), 0o750).unwrap();
        durable::write(&at("source/a/b/file"), &vec![7; 3 << 20]).unwrap();
        durable::write(&at("source/left-out"), b"x").unwrap();
        std::os::unix::fs::chown(at("source/a/b/file"), Some(70), Some(71)).unwrap();
        symlink("/etc/passwd", at("source/link")).unwrap();
        two.source.set_owner(999, 998, 0o711).unwrap();
        let except = |path: &Path| path == Path::new("left-out");
        files(&two.source, &two.target, &except, &soon()).unwrap();
        assert_eq!(fs::read(at("target/a/b/file")).unwrap(), vec![7; 3 << 20]);
        let file = fs::metadata(at("target/a/b/file")).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (70, 71, 0o600));
        let root = fs::metadata(at("target")).unwrap();
        assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (999, 998, 0o711));
        assert_eq!(fs::metadata(at("target/a/b")).unwrap().mode() & 0o7777, 0o750);
        assert_eq!(fs::read_link(at("target/link")).unwrap(), Path::new("/etc/passwd"));
        assert!(!at("target/left-out").exists());
    }

    #[test]
    fn what_is_no_file_is_left_out_and_nothing_waits_for_it() {
        let two = two();
        let socket = two.temporary.path().join("source/socket");
        let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        tree(&two.source, &two.target, &soon()).unwrap();
        assert!(two.target.metadata(Path::new("socket")).is_err());
    }

    #[test]
    fn a_tree_without_end_and_one_without_time_are_errors() {
        let two = two();
        let mut path = two.temporary.path().join("source");
        for _ in 0..=DEEPEST {
            path.push("d");
        }
        durable::create_dir(&path, 0o700).unwrap();
        let error = tree(&two.source, &two.target, &soon()).unwrap_err();
        assert!(error.to_string().contains("too deep"), "{error}");
        let late = tree(&two.source, &two.target, &Pace::until(Instant::now())).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
    }
}
