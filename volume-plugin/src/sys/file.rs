//! Single files: space reserved for one, a lock on one, and what their file system has left.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use nix::unistd::{SysconfVar, sysconf};

/// What tells a file from every other while it is there, by whatever path it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The file system; on btrfs, the subvolume.
    pub device: u64,
    /// The file on it.
    pub inode: u64,
}

impl FileId {
    /// The file that was looked at.
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What a file system holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its size.
    pub total: u64,
    /// What may still be written.
    pub free: u64,
}

/// The space of the file system that `path` is on.
pub fn space(path: &Path) -> io::Result<Space> {
    let found = statvfs(path)?;
    let block = found.fragment_size();
    Ok(Space { total: found.blocks() * block, free: found.blocks_available() * block })
}

/// Makes `file` at least as long as `bytes` end, with these backed by the file system. Ask for no more than
/// the file lacks: XFS wants room for all of it, also for what the file has already.
pub fn reserve(file: &File, bytes: Range<u64>) -> io::Result<()> {
    let number = |value: u64| i64::try_from(value).map_err(|_| io::ErrorKind::InvalidInput);
    let (start, length) = (number(bytes.start)?, number(bytes.end.saturating_sub(bytes.start))?);
    Ok(fallocate(file, FallocateFlags::empty(), start, length)?)
}

/// Makes the empty file `target` share the blocks of `source`, where their file system can do that;
/// tells whether it could.
pub fn shared(source: &File, target: &File) -> io::Result<bool> {
    use nix::libc::{EINVAL, ENOTTY, EOPNOTSUPP, EXDEV};
    match super::ioctl::clone_file(source, target) {
        Ok(()) => Ok(true),
        // No such call here, another file system, or files that are overwritten in other ways.
        Err(error)
            if error
                .raw_os_error()
                .is_some_and(|n| [ENOTTY, EOPNOTSUPP, EXDEV, EINVAL].contains(&n)) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Bytes of a page of memory, which no block of a file system that is mounted exceeds.
pub fn page_size() -> io::Result<i64> {
    sysconf(SysconfVar::PAGE_SIZE)?.ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Has what was written to `file` on its disk, without what is needed to find it there after a power cut. What
/// somebody writes to it by a mapping from then on changes its times anew.
#[expect(unsafe_code, reason = "nix has no wrapper of it")]
pub fn write_back(file: &File) -> io::Result<()> {
    use nix::libc::{
        SYNC_FILE_RANGE_WAIT_AFTER, SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE,
        sync_file_range,
    };
    let flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: it takes a descriptor, which is open for as long as the borrow lasts, and numbers.
    let told = unsafe { sync_file_range(file.as_raw_fd(), 0, 0, flags) };
    match Errno::result(told) {
        // A directory has nothing of the kind.
        Ok(_) | Err(Errno::ESPIPE | Errno::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Bytes that the file system has set aside for `file`, which holes are not part of.
pub fn reserved(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

/// Opens `path` for reading and writing, made if missing, and locks it against every other
/// opener that locks; `None` when another holds it. The lock ends with the handle.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    hold(file)
}

/// Locks `file` against every other opener that locks; `None` when another holds it.
pub fn hold(file: File) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_and_ends_with_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap().unwrap();
        assert!(lock(&path).unwrap().is_none());
        drop(held);
        assert!(lock(&path).unwrap().is_some());
    }

    #[test]
    fn reserved_space_is_taken_from_the_file_system() {
        let file = tempfile::tempfile().unwrap();
        reserve(&file, 0..1 << 19).unwrap();
        reserve(&file, 1 << 19..1 << 20).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 1 << 20);
        assert!(metadata.blocks() * 512 >= 1 << 20);
    }

    #[test]
    fn there_is_space() {
        let space = space(Path::new("/")).unwrap();
        assert!(space.total > space.free && space.free > 0);
    }
}
