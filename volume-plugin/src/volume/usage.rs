//! How much a directory tree takes, measured by looking at every file, for a bounded time.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use crate::sys::beneath::Dir;

/// Directories inside each other that are looked into; each holds a descriptor open.
const DEEPEST: usize = 32;

/// Files with several names, each of which is there once.
type Seen = HashSet<(u64, u64)>;

/// Bytes allocated below `dir`; `None` when not done at `deadline`. Files that come and go
/// meanwhile are counted or not.
pub(crate) fn used(dir: &Dir, deadline: Instant) -> io::Result<Option<u64>> {
    walk(dir, deadline, DEEPEST, &mut Seen::new())
}

fn walk(dir: &Dir, deadline: Instant, deeper: usize, seen: &mut Seen) -> io::Result<Option<u64>> {
    let mut total = 0;
    for entry in fs::read_dir(dir.path())? {
        if Instant::now() >= deadline {
            return Ok(None);
        }
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else { continue };
        // As `pg_upgrade --link` has them.
        let is_file = !metadata.is_dir();
        if is_file && metadata.nlink() > 1 && !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        total += metadata.blocks() * 512;
        if !metadata.is_dir() || deeper == 0 {
            continue;
        }
        // Gone meanwhile, or no directory any more.
        let Ok(below) = dir.open_dir(Path::new(&entry.file_name())) else { continue };
        match walk(&below, deadline, deeper - 1, seen)? {
            Some(bytes) => total += bytes,
            None => return Ok(None),
        }
    }
    Ok(Some(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_sdk::durable;
    use std::time::Duration;

    #[test]
    fn what_is_below_is_counted_and_links_are_not_followed() {
        let temporary = tempfile::tempdir().unwrap();
        durable::create_dir(&temporary.path().join("a/b"), 0o700).unwrap();
        durable::write(&temporary.path().join("a/b/file"), &vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("/usr", temporary.path().join("a/link")).unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let used = used(&dir, Instant::now() + Duration::from_secs(10)).unwrap().unwrap();
        assert!((1 << 20..1 << 21).contains(&used), "{used}");
    }

    #[test]
    fn a_file_with_two_names_is_there_once() {
        let temporary = tempfile::tempdir().unwrap();
        durable::write(&temporary.path().join("old"), &vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(temporary.path().join("old"), temporary.path().join("new")).unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let used = used(&dir, Instant::now() + Duration::from_secs(10)).unwrap().unwrap();
        assert!(used < 3 << 19, "{used}");
    }

    #[test]
    fn time_is_bounded() {
        let temporary = tempfile::tempdir().unwrap();
        durable::write(&temporary.path().join("file"), b"x").unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        assert_eq!(used(&dir, Instant::now()).unwrap(), None);
    }
}
