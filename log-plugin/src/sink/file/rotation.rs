//! The files before the current one: `NAME.1` the last of them, `NAME.2` the one before, each of
//! them compressed as `NAME.1.gz` where that is asked for.
//!
//! A kill leaves a file under one of its names at least: what could not be compressed stays as it
//! is, and moves on as the others do.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::sys::{HostDir, NO_FOLLOW};

/// What a compressed file's name ends with,
const COMPRESSED: &str = ".gz";

/// and that of one which is being written.
const UNFINISHED: &str = ".gz.tmp";

/// Moves `name` to `name.1`, `name.1` to `name.2` and so on, so that there are `files` at most
/// with the one that follows.
pub(super) fn shift(directory: &HostDir, name: &str, files: u32) -> io::Result<()> {
    let path = |number: u32, end: &str| match number {
        0 => directory.entry(name),
        number => directory.entry(&format!("{name}.{number}{end}")),
    };
    for end in ["", COMPRESSED] {
        // With one file in all, that is the current one.
        if files > 1 || end.is_empty() {
            remove(&path(files.saturating_sub(1), end))?;
        }
        for number in (1..files).rev() {
            if number == 1 && !end.is_empty() {
                continue;
            }
            #[expect(clippy::disallowed_methods, reason = "the ledger is right for both names")]
            let renamed = fs::rename(path(number - 1, end), path(number, end));
            match renamed {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
    }
    Ok(())
}

/// Compresses the last file before the current one, with its owner, mode and time.
pub(super) fn compress(directory: &HostDir, name: &str) -> io::Result<()> {
    let entry = |end: &str| directory.entry(&format!("{name}.1{end}"));
    let plain = match OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(entry("")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let unfinished = entry(UNFINISHED);
    remove(&unfinished)?;
    let written = write_compressed(&plain, &unfinished);
    written.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    #[expect(clippy::disallowed_methods, reason = "the plain file goes after it has its name")]
    fs::rename(&unfinished, entry(COMPRESSED))?;
    remove(&entry(""))
}

fn write_compressed(mut plain: &File, path: &PathBuf) -> io::Result<()> {
    let like = plain.metadata()?;
    let mut new = OpenOptions::new();
    let file = new.write(true).create_new(true).mode(0o600).open(path)?;
    let mut gzip = GzEncoder::new(file, Compression::default());
    io::copy(&mut plain, &mut gzip)?;
    let file = gzip.finish()?;
    fchown(&file, Some(like.uid()), Some(like.gid()))?;
    file.set_permissions(like.permissions())?;
    file.set_modified(like.modified()?)
}

/// Removes the files before the current one that nobody has written to for so long.
pub(super) fn remove_old(
    directory: &HostDir,
    name: &str,
    files: u32,
    age: Duration,
) -> io::Result<()> {
    let Some(limit) = SystemTime::now().checked_sub(age) else { return Ok(()) };
    for number in 1..files {
        for end in ["", COMPRESSED] {
            let path = directory.entry(&format!("{name}.{number}{end}"));
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_file() && found.modified()? < limit => remove(&path)?,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn remove(path: &PathBuf) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::HostRoot;
    use flate2::read::GzDecoder;
    use plugin_sdk::durable;
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::path::Path;

    fn directory(path: &Path) -> HostDir {
        HostRoot::new(path).directory(Path::new("/"), Path::new(""), 0o755).unwrap()
    }

    /// What is in each file, whether compressed or not.
    fn files(path: &Path) -> BTreeMap<String, String> {
        let read = |path: &Path| {
            let mut text = String::new();
            let file = File::open(path).unwrap();
            if path.extension().is_some_and(|end| end == "gz") {
                GzDecoder::new(file).read_to_string(&mut text).unwrap();
            } else {
                File::read_to_string(&mut { file }, &mut text).unwrap();
            }
            text
        };
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), read(&entry.path())))
            .collect()
    }

    fn named(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn files_move_on_compressed_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let (place, at) = (directory(dir.path()), |name: &str| dir.path().join(name));
        for text in ["one", "two", "three"] {
            durable::write(&at("x"), text.as_bytes()).unwrap();
            shift(&place, "x", 4).unwrap();
            // The second could not be compressed.
            if text != "two" {
                compress(&place, "x").unwrap();
            }
        }
        assert_eq!(
            files(dir.path()),
            named(&[("x.1.gz", "three"), ("x.2", "two"), ("x.3.gz", "one")])
        );
        compress(&place, "x").unwrap();
        durable::write(&at("x"), b"four").unwrap();
        shift(&place, "x", 4).unwrap();
        assert_eq!(
            files(dir.path()),
            named(&[("x.1", "four"), ("x.2.gz", "three"), ("x.3", "two")])
        );
        shift(&place, "x", 1).unwrap();
        assert!(!at("x").exists());
    }

    #[test]
    fn what_is_compressed_is_whose_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (place, at) = (directory(dir.path()), |name: &str| dir.path().join(name));
        durable::write(&at("x.1"), b"text").unwrap();
        let before = at("x.1").metadata().unwrap();
        durable::write(&at("x.1.gz.tmp"), b"cut short").unwrap();
        compress(&place, "x").unwrap();
        let after = at("x.1.gz").metadata().unwrap();
        assert_eq!(files(dir.path()), named(&[("x.1.gz", "text")]));
        assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
        assert_eq!(before.modified().unwrap(), after.modified().unwrap());
        // Something in the way leaves the file as it is.
        durable::write(&at("x.1"), b"more").unwrap();
        durable::create_dir(&at("x.1.gz.tmp"), 0o700).unwrap();
        assert!(compress(&place, "x").is_err());
        assert!(at("x.1").exists());
    }

    #[test]
    fn only_what_is_old_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (place, at) = (directory(dir.path()), |name: &str| dir.path().join(name));
        let day = Duration::from_hours(24);
        for (name, days) in
            [("x", 9), ("x.1", 0), ("x.2.gz", 3), ("x.3", 3), ("x.4", 3), ("y.1", 3)]
        {
            durable::write(&at(name), b"").unwrap();
            let time = SystemTime::now() - day * days;
            OpenOptions::new().write(true).open(at(name)).unwrap().set_modified(time).unwrap();
        }
        remove_old(&place, "x", 4, day * 2).unwrap();
        let left: Vec<_> = ["x", "x.1", "x.2.gz", "x.3", "x.4", "y.1"]
            .into_iter()
            .filter(|name| at(name).exists())
            .collect();
        assert_eq!(left, ["x", "x.1", "x.4", "y.1"]);
    }
}
