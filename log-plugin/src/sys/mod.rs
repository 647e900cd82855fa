//! The system calls of the log path; the only place of this crate that may use nix.
//!
//! Each function is one call, typed in and out; none keeps state.

mod host;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, SpliceFFlags, fcntl, splice, tee};
use nix::sys::statvfs::statvfs;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use host::{HostDir, HostFile, HostRoot};

/// What a FIFO offers its reader right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// There are bytes to read.
    Data,
    /// Nothing, but somebody may write.
    Idle,
    /// Nothing, and nobody has it open for writing.
    Closed,
}

/// What a transfer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes went from the FIFO into the file.
    Bytes(usize),
    /// The FIFO is empty, but somebody may write.
    Idle,
    /// The FIFO is empty and nobody has it open for writing.
    Closed,
}

/// Opens the FIFO at `path` for reading, without waiting for a writer. Refuses anything that is
/// no FIFO, so that a wrong path is an error and not a file read to its end.
pub fn open_fifo(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        Ok(file.into())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"))
    }
}

/// Lets the current runtime watch `fifo` for something to read.
pub fn watch(fifo: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open until dropped, and always names the same file.
    #[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays the same")]
    let watched = unsafe { AsyncFd::register_with_interest(fifo, Interest::READABLE) };
    Ok(watched?)
}

/// Asks what `fifo` offers, without taking it. By tee(2), since poll(2) calls a FIFO that has had
/// no writer since it was opened idle, not closed.
pub fn readiness(fifo: impl AsFd) -> io::Result<Readiness> {
    let (_unread, scratch) = io::pipe()?;
    match tee(fifo, scratch, 1, SpliceFFlags::SPLICE_F_NONBLOCK) {
        Ok(0) => Ok(Readiness::Closed),
        Ok(_) => Ok(Readiness::Data),
        Err(Errno::EAGAIN) => Ok(Readiness::Idle),
        Err(error) => Err(error.into()),
    }
}

/// What `fifo` holds right now, up to `length` bytes and as much as a pipe takes, without taking
/// it; and whether there is more.
pub fn peek(fifo: impl AsFd, length: usize) -> io::Result<(Vec<u8>, bool)> {
    let (seen, scratch) = io::pipe()?;
    let copied = match tee(&fifo, scratch, length, SpliceFFlags::SPLICE_F_NONBLOCK) {
        Err(Errno::EAGAIN) => 0,
        copied => copied?,
    };
    let mut bytes = vec![0; copied];
    (&seen).read_exact(&mut bytes)?;
    let mut held = 0;
    // SAFETY: the call writes one int, which `held` is.
    #[expect(unsafe_code, reason = "an ioctl")]
    unsafe { ioctl::readable(fifo.as_fd().as_raw_fd(), &raw mut held) }?;
    Ok((bytes, usize::try_from(held).is_ok_and(|held| held > copied)))
}

/// Bytes that are left on the file system of `path` for whoever is not root.
pub fn available(path: &Path) -> io::Result<u64> {
    let left = statvfs(path)?;
    Ok(left.blocks_available().saturating_mul(left.fragment_size()))
}

/// Moves at most `length` bytes from `fifo` into `file` at `offset`. The bytes never pass through
/// this process: whenever it is killed, each is either still in the pipe or in the file.
///
/// The offset is explicit because a file opened for appending is refused with `EINVAL`.
pub fn splice_into(fifo: impl AsFd, file: &File, offset: u64, length: usize) -> io::Result<Moved> {
    let mut at = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        match splice(&fifo, None, file, Some(&mut at), length, flags) {
            Ok(0) => return Ok(Moved::Closed),
            Ok(moved) => return Ok(Moved::Bytes(moved)),
            Err(Errno::EAGAIN) => return Ok(Moved::Idle),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How many bytes the pipe behind `fifo` can hold.
pub fn pipe_size(fifo: impl AsFd) -> io::Result<usize> {
    let size = fcntl(fifo, FcntlArg::F_GETPIPE_SZ)?;
    usize::try_from(size).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Makes the pipe behind `fifo` hold `size` bytes; busy when it holds more than that right now.
/// The size outlives this process as long as the writer has the pipe open.
pub fn set_pipe_size(fifo: impl AsFd, size: usize) -> io::Result<()> {
    let size = i32::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
    fcntl(fifo, FcntlArg::F_SETPIPE_SZ(size))?;
    Ok(())
}

mod ioctl {
    use nix::libc;

    nix::ioctl_read_bad!(outq, libc::TIOCOUTQ, libc::c_int);
    nix::ioctl_read_bad!(readable, libc::FIONREAD, libc::c_int);
}

/// How many bytes that were written to `socket` the other side has yet to take: its system for
/// TCP, its program for a socket of this machine.
pub fn unsent(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes = 0;
    // SAFETY: the call writes one int, which `bytes` is.
    #[expect(unsafe_code, reason = "an ioctl")]
    unsafe { ioctl::outq(socket.as_fd().as_raw_fd(), &raw mut bytes) }?;
    usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Flags for opening a file of somebody else's directory: no link in its place is followed, and
/// nothing is waited for, should it be a FIFO.
pub const NO_FOLLOW: i32 = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).bits();

/// The name of this machine; empty where it cannot be told. A plugin has the host's.
pub fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// A file in memory that holds `bytes`.
#[cfg(any(test, feature = "fuzzing"))]
pub fn memory_file(bytes: &[u8]) -> io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::os::unix::fs::FileExt;
    let file = File::from(memfd_create(c"bytes", MFdFlags::MFD_CLOEXEC)?);
    file.write_all_at(bytes, 0)?;
    Ok(file)
}

/// A lock on a file, given back when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Takes the lock on `file`, or fails at once when another process has it.
pub fn lock(file: File) -> io::Result<Lock> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(Lock { _file: file }),
        Err((_, errno)) => Err(errno.into()),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Makes a FIFO and opens it as dockerd does: for reading and writing, so that there is
    /// always a writer while this is held.
    pub(crate) fn fifo(path: &Path) -> File {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        OpenOptions::new().read(true).write(true).open(path).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_fifo_tells_idle_data_and_closed_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mut writer = testing::fifo(&path);
        let reader = open_fifo(&path).unwrap();
        assert_eq!(readiness(&reader).unwrap(), Readiness::Idle);
        writer.write_all(b"abc").unwrap();
        assert_eq!(readiness(&reader).unwrap(), Readiness::Data);
        drop(writer);
        assert_eq!(readiness(&reader).unwrap(), Readiness::Data);
        let out = tempfile::tempfile().unwrap();
        assert_eq!(splice_into(&reader, &out, 0, 2).unwrap(), Moved::Bytes(2));
        assert_eq!(splice_into(&reader, &out, 2, 99).unwrap(), Moved::Bytes(1));
        assert_eq!(readiness(&reader).unwrap(), Readiness::Closed);
        let never_written = open_fifo(&path).unwrap();
        assert_eq!(readiness(&never_written).unwrap(), Readiness::Closed);
        assert_eq!(splice_into(&reader, &out, 3, 99).unwrap(), Moved::Closed);
    }

    #[test]
    fn only_a_fifo_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        File::create(&path).unwrap();
        assert!(open_fifo(&path).is_err());
        assert_eq!(
            open_fifo(&dir.path().join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_lock_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("lock")).unwrap();
        let held = lock(open()).unwrap();
        assert!(lock(open()).is_err());
        drop(held);
        lock(open()).unwrap();
    }
}
