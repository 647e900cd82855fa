//! Directories whose content somebody else writes, such as the root of a container: every path
//! below one is resolved by the kernel without following a link and without leaving it.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, syncfs, unlinkat};

/// An open directory.
#[derive(Debug)]
pub struct Dir(File);

impl Dir {
    /// Opens a directory of our own; its path is trusted.
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = File::open(path)?;
        if dir.metadata()?.is_dir() {
            Ok(Self(dir))
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    /// Opens the directory `path` below this one.
    pub fn open_dir(&self, path: &Path) -> io::Result<Self> {
        self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(Self)
    }

    /// Opens the regular file `path` below this one for reading. A FIFO or device in its place is
    /// refused without being opened; `WouldBlock` where somebody holds a lease on it, whom the kernel
    /// would wait for.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        let found = self.resolve(path, OFlag::O_PATH)?;
        if !found.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(handle_path(&found))
    }

    /// Opens the regular file `path` below this one, which nobody else changes, for reading and writing.
    pub fn change_file(&self, path: &Path) -> io::Result<File> {
        self.resolve(path, OFlag::O_RDWR | OFlag::O_NONBLOCK)
    }

    /// Metadata of what is at `path` below this one, links not followed.
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.handle(path)?.metadata()
    }

    /// What is at `path` below this one, links not followed, to be looked at and named by
    /// [`handle_path`]. Opens nothing: no device or FIFO is touched, and no fanotify group is asked.
    pub fn handle(&self, path: &Path) -> io::Result<File> {
        self.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)
    }

    /// Makes the directory `name` in this one and opens it; its parent must be durable first.
    pub fn make_dir(&self, name: &str) -> io::Result<Self> {
        plain(Path::new(name))?;
        mkdirat(&self.0, name, Mode::S_IRWXU)?;
        self.open_dir(Path::new(name))
    }

    /// Opens the directory `name` in this one, made if nothing is there.
    pub fn ensure_dir(&self, name: &str) -> io::Result<Self> {
        match self.make_dir(name) {
            Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {
                self.open_dir(Path::new(name))
            }
            other => other,
        }
    }

    /// Makes the file `name` in this directory, where nothing is, and opens it for writing.
    pub fn make_file(&self, name: &Path, mode: u32) -> io::Result<File> {
        plain(name)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let how = OpenHow::new()
            .flags(flags)
            .mode(Mode::from_bits_truncate(mode))
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        Ok(openat2(&self.0, name, how).map(File::from)?)
    }

    /// Where the link `path` below this one leads; `InvalidInput` when it is none.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let link = self.handle(path)?;
        if !link.metadata()?.is_symlink() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(readlinkat(&link, "").map(PathBuf::from)?)
    }

    /// Makes the link `name` to `target` in this directory, where nothing is, for this owner.
    pub fn make_link(&self, name: &Path, target: &Path, uid: u32, gid: u32) -> io::Result<()> {
        plain(name)?;
        symlinkat(target, &self.0, name)?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(fchownat(&self.0, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Gives the file of `handle`, as [`Dir::handle`] gives it, another name in this directory.
    /// `CrossesDevices` where it lies on another file system or is seen by another mount.
    pub fn link(&self, handle: &File, name: &Path) -> io::Result<()> {
        plain(name)?;
        let nowhere = nix::fcntl::AT_FDCWD;
        let named = handle_path(handle);
        Ok(linkat(nowhere, &named, &self.0, name, AtFlags::AT_SYMLINK_FOLLOW)?)
    }

    /// Makes all that is on this directory's file system durable.
    pub fn sync_all(&self) -> io::Result<()> {
        Ok(syncfs(&self.0)?)
    }

    /// Removes the file `name` of this directory, whatever kind it is of; a link, not its target.
    pub fn remove_file(&self, name: &Path) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes the empty directory `name` of this directory.
    pub fn remove_dir(&self, name: &Path) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::RemoveDir)?)
    }

    /// Moves `name` of this directory to `new` of `target`. Not durable by itself.
    pub fn rename(&self, name: &Path, target: &Self, new: &Path) -> io::Result<()> {
        Ok(renameat(&self.0, name, &target.0, new)?)
    }

    /// Gives the directory its owner and permission bits.
    pub fn set_owner(&self, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
        own(&self.0, uid, gid, mode)
    }

    /// Makes the names in this directory durable.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    /// Another handle of this very directory.
    pub fn handle_of(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// A path that leads to this very directory, whatever happens to its name; valid in this
    /// process while the directory is held.
    pub fn path(&self) -> PathBuf {
        handle_path(&self.0)
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> io::Result<File> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        // The kernel asks for another try when a rename races with the walk.
        for _ in 0..16 {
            match openat2(&self.0, path, how) {
                Err(Errno::EAGAIN) => {}
                other => return Ok(other.map(File::from)?),
            }
        }
        Err(Errno::EAGAIN.into())
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Refuses what is more than a name.
fn plain(name: &Path) -> io::Result<()> {
    let mut components = name.components();
    match (components.next(), components.next()) {
        (Some(std::path::Component::Normal(only)), None) if only == name.as_os_str() => Ok(()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Gives an open file or directory its owner and permission bits.
pub fn own(file: &File, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
    fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    Ok(fchmod(file, Mode::from_bits_truncate(mode))?)
}

/// A path that leads to the very file of a handle; valid in this process while it is held.
pub(super) fn handle_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn dir() -> (tempfile::TempDir, Dir) {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        (temporary, dir)
    }

    #[test]
    fn links_are_not_followed_anywhere_in_a_path() {
        let (temporary, dir) = dir();
        symlink("/etc", temporary.path().join("link")).unwrap();
        symlink("/etc/passwd", temporary.path().join("file")).unwrap();
        assert!(dir.open_dir(Path::new("link")).is_err());
        assert!(dir.open_file(Path::new("link/passwd")).is_err());
        assert!(dir.open_file(Path::new("file")).is_err());
        assert!(dir.ensure_dir("link").is_err());
        assert!(dir.metadata(Path::new("file")).unwrap().is_symlink());
    }

    /// The kernel gives its holder 45 s.
    #[test]
    #[expect(unsafe_code, reason = "nix knows no leases")]
    fn a_lease_is_not_waited_for() {
        use nix::libc::{F_SETLEASE, F_WRLCK, SIGURG, fcntl};
        // linux/fcntl.h.
        const F_SETSIG: i32 = 10;
        let (_temporary, dir) = dir();
        let held = dir.make_file(Path::new("held"), 0o600).unwrap();
        // SAFETY: the descriptor is open, and both commands take a number; the signal is ignored.
        let set =
            |what: i32, value: i32| assert_eq!(unsafe { fcntl(held.as_raw_fd(), what, value) }, 0);
        set(F_SETSIG, SIGURG);
        set(F_SETLEASE, F_WRLCK);
        let begun = std::time::Instant::now();
        let error = dir.open_file(Path::new("held")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn nothing_outside_is_reached() {
        let (_temporary, dir) = dir();
        let inner = dir.make_dir("inner").unwrap();
        for path in ["..", "../x", "/etc", "a/../../.."] {
            assert!(inner.open_dir(Path::new(path)).is_err(), "{path}");
        }
        for name in ["", ".", "..", "a/b"] {
            assert!(inner.make_dir(name).is_err(), "{name}");
        }
    }

    #[test]
    fn links_are_read_and_made_and_files_get_second_names() {
        use std::os::unix::fs::MetadataExt;
        let (temporary, dir) = dir();
        dir.make_link(Path::new("link"), Path::new("/no/where"), 7, 8).unwrap();
        assert_eq!(dir.read_link(Path::new("link")).unwrap(), Path::new("/no/where"));
        let made = std::fs::symlink_metadata(temporary.path().join("link")).unwrap();
        assert_eq!((made.uid(), made.gid()), (7, 8));
        dir.make_file(Path::new("file"), 0o600).unwrap();
        assert!(dir.make_file(Path::new("file"), 0o600).is_err());
        assert!(dir.make_file(Path::new("link"), 0o600).is_err());
        assert!(dir.read_link(Path::new("file")).is_err());
        dir.link(&dir.handle(Path::new("file")).unwrap(), Path::new("second")).unwrap();
        assert_eq!(dir.metadata(Path::new("second")).unwrap().nlink(), 2);
        for name in ["", ".", "..", "a/b", "/a", "a/"] {
            assert!(dir.make_file(Path::new(name), 0o600).is_err(), "{name}");
        }
    }

    #[test]
    fn a_fifo_is_refused_and_not_waited_for() {
        let (temporary, dir) = dir();
        nix::unistd::mkfifo(&temporary.path().join("fifo"), Mode::S_IRWXU).unwrap();
        assert!(dir.open_file(Path::new("fifo")).is_err());
    }

    #[test]
    fn owner_and_mode_are_set_past_the_umask() {
        use std::os::unix::fs::MetadataExt;
        let (_temporary, dir) = dir();
        dir.make_dir("x").unwrap().set_owner(70, 71, 0o777).unwrap();
        let found = dir.metadata(Path::new("x")).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (70, 71, 0o777));
    }
}
