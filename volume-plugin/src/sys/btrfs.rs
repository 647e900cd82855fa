//! btrfs: subvolumes, files that are overwritten in place, and how large a file system is.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::{beneath::Dir, ioctl};

/// `FS_NOCOW_FL`.
const NOCOW: nix::libc::c_long = 0x0080_0000;

/// Makes the subvolume `name` in the directory at `parent`.
pub fn create_subvolume(parent: &Path, name: &str) -> io::Result<()> {
    ioctl::subvolume::create(File::open(parent)?, name)
}

/// What may be done with a new snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// It is read.
    ReadOnly,
    /// It is a subvolume like any other.
    Writable,
}

/// Makes the subvolume `name` in the directory at `parent`, with all that the subvolume at `source`
/// holds at one instant, but for subvolumes inside. It is durable on return.
pub fn snapshot(source: &Path, parent: &Path, name: &str, kind: Snapshot) -> io::Result<()> {
    let flags = match kind {
        Snapshot::ReadOnly => ioctl::subvolume::READ_ONLY,
        Snapshot::Writable => 0,
    };
    ioctl::subvolume::snapshot(File::open(source)?, File::open(parent)?, name, flags)
}

/// The name of a subvolume that lies in the one with its root at `path`, at any depth but in no other one;
/// none where there is none.
pub fn inside(path: &Path) -> io::Result<Option<OsString>> {
    let directory = File::open(path)?;
    let number = ioctl::subvolume::info(&directory)?.number;
    match ioctl::search::inside(&directory, number) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Deletes the subvolume `name` in the directory at `parent`. `ENOTEMPTY` when it holds another
/// subvolume, which whoever owns a directory on btrfs may make.
pub fn delete_subvolume(parent: &Path, name: &str) -> io::Result<()> {
    ioctl::subvolume::delete(File::open(parent)?, name)
}

/// Makes everything on the file system at `root` durable, and lets the kernel begin at once to
/// give back the space of deleted subvolumes.
pub fn commit(root: &Path) -> io::Result<()> {
    ioctl::btrfs::sync(File::open(root)?)
}

/// Bytes of data on their way to the file system on `device`: written and without a place yet, or
/// with one that is not taken for good. It counts neither as used, and with much memory they may
/// be more than what is free.
pub fn under_way(device: &Path) -> io::Result<u64> {
    let known = known(device)?;
    Ok(counter(&known, "data/bytes_may_use")? + counter(&known, "data/bytes_reserved")?)
}

/// How the file system has divided its only device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// Bytes of the device that the file system takes.
    pub total: u64,
    /// Of these, what is given to neither data nor metadata yet.
    pub unallocated: u64,
    /// Bytes that metadata may take of what it was given.
    pub metadata: u64,
    /// Of these, what it takes.
    pub metadata_used: u64,
}

/// How the file system that `root` is on has divided `device`.
pub fn division(root: &Path, device: &Path) -> io::Result<Division> {
    let info = ioctl::btrfs::device_info(File::open(root)?)?;
    let known = known(device)?;
    let taken = ["used", "may_use", "reserved", "pinned"];
    let taken = taken.map(|kind| counter(&known, &format!("metadata/bytes_{kind}")));
    Ok(Division {
        total: info.total,
        unallocated: info.total.saturating_sub(info.allocated),
        metadata: counter(&known, "metadata/total_bytes")?,
        metadata_used: taken.into_iter().sum::<io::Result<u64>>()?,
    })
}

/// Bytes of its only device that the file system at `root` takes.
pub fn size(root: &Path) -> io::Result<u64> {
    Ok(ioctl::btrfs::device_info(File::open(root)?)?.total)
}

/// Has the file system at `root` take `bytes` of its only device, durably. Less than before moves
/// what lies beyond, for as long as that takes; `ENOSPC` when it has no place.
pub fn resize(root: &Path, bytes: u64) -> io::Result<()> {
    ioctl::btrfs::resize(File::open(root)?, bytes)
}

/// What the kernel shows of the file system on `device`.
pub(super) fn known(device: &Path) -> io::Result<PathBuf> {
    let name = device.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    for found in fs::read_dir("/sys/fs/btrfs")? {
        let found = found?.path();
        if found.join("devices").join(name).exists() {
            return Ok(found);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn counter(known: &Path, counter: &str) -> io::Result<u64> {
    let text = fs::read_to_string(known.join("allocation").join(counter))?;
    text.trim().parse().map_err(io::Error::other)
}

/// What is in the subvolume whose root `dir` is can be changed, also if its owner forbade it.
pub fn make_writable(dir: &Dir) -> io::Result<()> {
    ioctl::subvolume::set_flags(dir, 0)
}

/// New files in `dir` are overwritten in place: no checksums, no fragmentation.
pub fn set_nodatacow(dir: &Dir) -> io::Result<()> {
    ioctl::add_inode_flag(dir, NOCOW)
}

/// As [`set_nodatacow`] for a directory or an empty file, which on file systems without copy-on-write
/// are as they should be already.
pub fn set_nodatacow_if_known(file: impl AsFd) -> io::Result<()> {
    use nix::libc::{EINVAL, ENOTTY, EOPNOTSUPP};
    match ioctl::add_inode_flag(file, NOCOW) {
        Err(error)
            if error.raw_os_error().is_some_and(|n| [ENOTTY, EOPNOTSUPP, EINVAL].contains(&n)) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Whether new files in the directory at `path` are overwritten in place.
#[cfg(test)]
pub(crate) fn is_nodatacow(path: &Path) -> bool {
    ioctl::inode_flags(File::open(path).unwrap()).unwrap() & NOCOW != 0
}

/// Nothing in the subvolume at `path` can be changed, as its owner may wish.
#[cfg(test)]
pub(crate) fn set_read_only(path: &Path) -> io::Result<()> {
    ioctl::subvolume::set_flags(File::open(path)?, ioctl::subvolume::READ_ONLY)
}
