//! Files and directories that are there after a power cut once the call has returned.
//!
//! The order is the usual one: write a temporary file, fsync it, rename it over the old name,
//! fsync the directory. Everything else in the workspace is kept from bare `rename`, `write` and
//! `create_dir` by clippy.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Ending of the temporary file beside each written one. A process killed in a write leaves one;
/// it is harmless, and [`sweep`] removes it. No other name in such a directory may end like this.
pub const TEMPORARY: &str = ".tmp";

/// Replaces the file at `path` by `bytes`, atomically and durably; mode 0600 when new.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&temporary, path)
}

/// Renames `from` to `to` within one file system and syncs both directories.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is where a rename is made durable")]
    fs::rename(from, to)?;
    sync_parent(to)?;
    if from.parent() == to.parent() { Ok(()) } else { sync_parent(from) }
}

/// Removes the file at `path` durably; a file that is not there counts as removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_parent(path),
    }
}

/// Removes what writes cut short have left in the directory at `path`. For the start of the one
/// process that writes there.
pub fn sweep(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let temporary = entry.file_name().to_str().is_some_and(|name| name.ends_with(TEMPORARY));
        if temporary && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the directory at `path` and the missing ones above it, each with `mode` less the umask;
/// one that is there already is left as it is.
pub fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dir(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_parent(path),
    }
}

/// Syncs the directory at `path`, so that names made, changed or removed in it last.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_replaces_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        write(&path, b"one, and longer").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        write(&path, b"old").unwrap();
        // A directory in the temporary file's place makes the write fail before the rename.
        create_dir(&temporary(&path), 0o700).unwrap();
        assert!(write(&path, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn sweep_takes_only_what_writes_have_left() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("record"), b"whole").unwrap();
        fs::File::create(dir.path().join("record.tmp")).unwrap();
        fs::File::create(dir.path().join("other.tmp")).unwrap();
        sweep(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!((left.len(), left[0].file_name().to_str()), (1, Some("record")));
        assert!(sweep(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn remove_of_a_missing_file_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("nothing")).unwrap();
    }

    #[test]
    fn create_dir_makes_parents_and_refuses_a_file_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        create_dir(&dir.path().join("a/b/c"), 0o700).unwrap();
        create_dir(&dir.path().join("a/b/c"), 0o700).unwrap();
        write(&dir.path().join("file"), b"").unwrap();
        assert!(create_dir(&dir.path().join("file"), 0o700).is_err());
    }
}
