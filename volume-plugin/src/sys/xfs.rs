//! XFS, by its ioctls.

use std::fs::File;
use std::io;
use std::path::Path;

use super::ioctl;

/// Bytes of a block of what is made here.
const BLOCK: u64 = 4096;

/// Has the XFS at `root` keep `bytes` for itself, so that it can go on where nothing is free, until it is
/// unmounted.
pub fn reserve(root: &Path, bytes: u64) -> io::Result<()> {
    ioctl::xfs::reserve(File::open(root)?, bytes / BLOCK)
}

/// Has the XFS at `root`, which is in use, take `bytes` of its device: what it takes, or more.
pub fn grow(root: &Path, bytes: u64) -> io::Result<()> {
    ioctl::xfs::grow(File::open(root)?, bytes / BLOCK)
}
