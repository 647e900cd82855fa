//! A directory for a test that mounts things in it: what is mounted is detached before the
//! directory is removed, or its removal would fail without a word.

use std::path::Path;

use tempfile::TempDir;

use crate::sys::{mount, mountinfo};

/// See the module. To be dropped in the mount namespace that was mounted in.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
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
