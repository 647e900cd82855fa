//! A directory for a test that mounts things in it: what is mounted is detached before the
//! directory is removed, or its removal would fail without a word.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::sys::{mount, mountinfo};

/// See the module. To be dropped in the mount namespace that was mounted in.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    _made: Option<TempDir>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let made = tempfile::tempdir().unwrap();
        Self { path: made.path().to_owned(), _made: Some(made) }
    }

    /// One that another process has made, and removes.
    #[cfg(feature = "failpoints")]
    pub(crate) fn of(path: PathBuf) -> Self {
        Self { path, _made: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mounts = mountinfo::own().unwrap_or_default();
        // The last mounted lies on top.
        for mounted in mounts.iter().rev().filter(|mount| mount.point.starts_with(self.path())) {
            drop(mount::detach(&mounted.point));
        }
    }
}

#[test]
fn what_is_mounted_does_not_keep_the_directory() {
    let path = std::thread::spawn(|| {
        crate::sys::namespace::isolate();
        let scratch = Scratch::new();
        mount::private_tmpfs(scratch.path()).unwrap();
        mount::bind(scratch.path(), scratch.path()).unwrap();
        scratch.path().to_owned()
    });
    assert!(!path.join().unwrap().exists());
}
