//! The ioctls.
#![expect(unsafe_code, reason = "ioctl takes untyped arguments; each wrapper here types one")]

pub(super) mod btrfs;
pub(super) mod loopdev;
pub(super) mod quota;
pub(super) mod search;
pub(super) mod subvolume;
pub(super) mod xfs;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

mod raw {
    nix::ioctl_write_int!(clone_file, 0x94, 9);
    nix::ioctl_read!(get_flags, b'f', 1, nix::libc::c_long);
    nix::ioctl_write_ptr!(set_flags, b'f', 2, nix::libc::c_long);
}

/// Makes the empty file `target` share the blocks of `source` (`FICLONE`).
pub(super) fn clone_file(source: &File, target: &File) -> io::Result<()> {
    let source = nix::libc::c_ulong::try_from(source.as_raw_fd()).map_err(io::Error::other)?;
    // SAFETY: both descriptors are open; the request takes a number.
    unsafe { raw::clone_file(target.as_raw_fd(), source) }?;
    Ok(())
}

/// The inode flags (`FS_*_FL`).
pub(super) fn inode_flags(file: impl AsFd) -> io::Result<nix::libc::c_long> {
    let mut flags = 0;
    // SAFETY: the descriptor is open and `flags` is as wide as the request says.
    unsafe { raw::get_flags(file.as_fd().as_raw_fd(), &raw mut flags) }?;
    Ok(flags)
}

/// Sets an inode flag beside those that are set.
pub(super) fn add_inode_flag(file: impl AsFd, flag: nix::libc::c_long) -> io::Result<()> {
    let flags = inode_flags(&file)? | flag;
    // SAFETY: the descriptor is open; the kernel reads a number as wide as the request says.
    unsafe { raw::set_flags(file.as_fd().as_raw_fd(), &raw const flags) }?;
    Ok(())
}
