//! Files of the host, by way of the root of its first process.
//!
//! A link on the host is followed as the host would: an absolute one begins at the host's root,
//! not at the plugin's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const INSIDE: ResolveFlag = ResolveFlag::RESOLVE_IN_ROOT.union(ResolveFlag::RESOLVE_NO_MAGICLINKS);

/// The root of the host as the plugin reaches it: `/proc/1/root`, in tests another directory.
#[derive(Debug, Clone)]
pub struct HostRoot(PathBuf);

/// A directory of the host, held open: a rename above it changes nothing.
#[derive(Debug)]
pub struct HostDir {
    fd: OwnedFd,
}

/// A file of the host of any kind, looked up and not opened.
#[derive(Debug)]
pub struct HostFile {
    fd: OwnedFd,
}

impl HostRoot {
    /// The host whose root is at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Looks up `path` of the host, the last part being followed too if it is a link.
    pub fn existing(&self, path: &Path) -> io::Result<HostFile> {
        let root = open(&self.0, DIRECTORY, Mode::empty())?;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(INSIDE);
        Ok(HostFile { fd: openat2(&root, path, how)? })
    }

    /// Opens the directory `path` of the host; makes what is missing of it, with `mode`.
    pub fn directory(&self, path: &Path, mode: u32) -> io::Result<HostDir> {
        let root = open(&self.0, DIRECTORY, Mode::empty())?;
        match open_in(&root, path) {
            Ok(fd) => return Ok(HostDir { fd }),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let (mut so_far, mut parent) = (PathBuf::new(), open_in(&root, Path::new("."))?);
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            so_far.push(name);
            parent = match open_in(&root, &so_far) {
                Err(Errno::ENOENT) => {
                    match mkdirat(parent.as_fd(), name, Mode::from_bits_truncate(mode)) {
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    open_in(&root, &so_far)?
                }
                opened => opened?,
            };
        }
        Ok(HostDir { fd: parent })
    }
}

impl HostDir {
    /// A path to the entry `name`, good as long as this is held.
    pub fn entry(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd()))
    }
}

impl HostFile {
    /// A path to it, short enough for a socket, and good as long as this is held.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

fn open_in(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    openat2(root, path, OpenHow::new().flags(DIRECTORY).resolve(INSIDE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn directories_are_made_and_links_stay_within_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let lowest = root.directory(Path::new("/var/log/a"), 0o750).unwrap();
        std::fs::File::create(lowest.entry("file")).unwrap();
        assert!(dir.path().join("var/log/a/file").exists());
        let mode = dir.path().join("var/log").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o750);
        symlink("/var/log", dir.path().join("link")).unwrap();
        symlink("../../../../var", dir.path().join("up")).unwrap();
        let linked = root.directory(Path::new("/link/b"), 0o755).unwrap();
        std::fs::File::create(linked.entry("file")).unwrap();
        assert!(dir.path().join("var/log/b/file").exists());
        symlink("/var/log/a/file", dir.path().join("var/file")).unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(root.existing(Path::new("/var/file")).unwrap().path())
            .unwrap();
        assert!(root.existing(Path::new("/var/none")).is_err());
        root.directory(Path::new("/up/c"), 0o755).unwrap();
        assert!(dir.path().join("var/c").is_dir());
    }

    #[test]
    fn what_is_no_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::File::create(dir.path().join("file")).unwrap();
        let root = HostRoot::new(dir.path());
        let error = root.directory(Path::new("/file/a"), 0o755).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        assert!(HostRoot::new("/nowhere").directory(Path::new("/a"), 0o755).is_err());
    }
}
