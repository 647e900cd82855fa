//! Files of the host, by way of the root of its first process.
//!
//! A link on the host is followed as the host would: an absolute one begins at the host's root,
//! not at the plugin's. Below a directory that the plugin was given for its files none is.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const INSIDE: ResolveFlag = ResolveFlag::RESOLVE_IN_ROOT.union(ResolveFlag::RESOLVE_NO_MAGICLINKS);
const BELOW: ResolveFlag = ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS);

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

    /// Opens the directory `below` of the host's directory `base`; makes what is missing of both,
    /// with `mode`. Links in `base` are followed as the host would; one below it is an error,
    /// since whoever may write there could have put it.
    pub fn directory(&self, base: &Path, below: &Path, mode: u32) -> io::Result<HostDir> {
        let root = open(&self.0, DIRECTORY, Mode::empty())?;
        let base = open_or_make(&root, base, mode, INSIDE)?;
        Ok(HostDir { fd: open_or_make(&base, below, mode, BELOW)? })
    }
}

impl HostDir {
    /// A path to the entry `name`, good as long as this is held.
    pub fn entry(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd()))
    }
}

impl HostFile {
    /// What it holds, if it is a regular file of at most `most` bytes. Waits for nobody, as the reader of a
    /// FIFO would, or that of some files of the kernel.
    pub fn read(&self, most: u64) -> io::Result<Vec<u8>> {
        if !std::fs::metadata(self.path())?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let flags = OFlag::O_NONBLOCK.bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path())?;
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    /// A path to it, short enough for a socket, and good as long as this is held.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

/// Opens the directory `path` of `root`; makes what is missing of it.
fn open_or_make(
    root: &OwnedFd,
    path: &Path,
    mode: u32,
    resolve: ResolveFlag,
) -> io::Result<OwnedFd> {
    let open_in =
        |path: &Path| openat2(root, path, OpenHow::new().flags(DIRECTORY).resolve(resolve));
    // For `path` may be empty.
    let mut parent = open_in(Path::new("."))?;
    match open_in(path) {
        Ok(fd) => return Ok(fd),
        Err(Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut so_far = PathBuf::new();
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        so_far.push(name);
        parent = match open_in(&so_far) {
            Err(Errno::ENOENT) => {
                match mkdirat(parent.as_fd(), name, Mode::from_bits_truncate(mode)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open_in(&so_far)?
            }
            opened => opened?,
        };
    }
    Ok(parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn directories_are_made_and_links_stay_within_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let lowest = root.directory(Path::new("/var/log"), Path::new("a"), 0o750).unwrap();
        std::fs::File::create(lowest.entry("file")).unwrap();
        assert!(dir.path().join("var/log/a/file").exists());
        let mode = dir.path().join("var/log").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o750);
        symlink("/var/log", dir.path().join("link")).unwrap();
        symlink("../../../../var", dir.path().join("up")).unwrap();
        let linked = root.directory(Path::new("/link/b"), Path::new(""), 0o755).unwrap();
        std::fs::File::create(linked.entry("file")).unwrap();
        assert!(dir.path().join("var/log/b/file").exists());
        symlink("/var/log/a/file", dir.path().join("var/file")).unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(root.existing(Path::new("/var/file")).unwrap().path())
            .unwrap();
        assert!(root.existing(Path::new("/var/none")).is_err());
        root.directory(Path::new("/up/c"), Path::new(""), 0o755).unwrap();
        assert!(dir.path().join("var/c").is_dir());
    }

    #[test]
    fn links_below_the_base_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let (base, mode) = (Path::new("/base"), 0o755);
        root.directory(base, Path::new("own"), mode).unwrap();
        root.directory(Path::new("/etc"), Path::new(""), mode).unwrap();
        symlink("/etc", dir.path().join("base/absolute")).unwrap();
        symlink("../etc", dir.path().join("base/own/relative")).unwrap();
        for below in ["absolute", "absolute/a", "own/relative", "own/relative/a", "../etc"] {
            assert!(root.directory(base, Path::new(below), mode).is_err(), "{below}");
        }
        assert_eq!(std::fs::read_dir(dir.path().join("etc")).unwrap().count(), 0);
    }

    #[test]
    fn only_regular_files_are_read_and_no_more_than_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let read = |name: &str, most| root.existing(Path::new(name))?.read(most);
        std::fs::File::create(dir.path().join("file")).unwrap().set_len(10).unwrap();
        assert_eq!(read("/file", 10).unwrap(), [0; 10]);
        assert_eq!(read("/file", 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        std::fs::File::create(dir.path().join("large")).unwrap().set_len(1 << 40).unwrap();
        assert!(read("/large", 10).is_err());
        drop(crate::sys::testing::fifo(&dir.path().join("fifo")));
        symlink("/fifo", dir.path().join("link")).unwrap();
        for name in ["/fifo", "/link", "/"] {
            assert_eq!(read(name, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn what_is_no_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::File::create(dir.path().join("file")).unwrap();
        let root = HostRoot::new(dir.path());
        let error = root.directory(Path::new("/file/a"), Path::new(""), 0o755).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        assert!(
            HostRoot::new("/nowhere").directory(Path::new("/a"), Path::new("b"), 0o755).is_err()
        );
    }
}
