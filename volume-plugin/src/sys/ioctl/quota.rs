//! Quotas of btrfs.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct Control {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct Limit {
    /// 0 for the subvolume that the request is sent to.
    group: u64,
    flags: u64,
    referenced: u64,
    exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

/// `struct btrfs_ioctl_quota_rescan_args`.
#[repr(C)]
struct Rescan {
    flags: u64,
    progress: u64,
    reserved: [u64; 6],
}

mod raw {
    use super::{Control, Limit, Rescan};

    nix::ioctl_readwrite!(control, 0x94, 40, Control);
    nix::ioctl_read!(limit, 0x94, 43, Limit);
    nix::ioctl_write_ptr!(rescan, 0x94, 44, Rescan);
}

/// How the subvolumes of a btrfs come to be charged.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(in crate::sys) enum Kind {
    /// `BTRFS_QUOTA_CTL_ENABLE`: with what they refer to.
    Groups = 1,
    /// `BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA`: with what was written in them.
    Simple = 4,
}

/// Counts what the subvolumes of the btrfs that `directory` is on are charged with.
pub(in crate::sys) fn enable(directory: impl AsFd, kind: Kind) -> io::Result<()> {
    let mut control = Control { command: kind as u64, status: 0 };
    // SAFETY: the descriptor is open and `control` is a whole quota_ctl_args.
    unsafe { raw::control(directory.as_fd().as_raw_fd(), &raw mut control) }?;
    Ok(())
}

/// Begins to count anew what the subvolumes of the btrfs that `directory` is on refer to;
/// `EINPROGRESS` while that is done already.
pub(in crate::sys) fn rescan(directory: impl AsFd) -> io::Result<()> {
    let args = Rescan { flags: 0, progress: 0, reserved: [0; 6] };
    // SAFETY: the descriptor is open and `args` is a whole quota_rescan_args.
    unsafe { raw::rescan(directory.as_fd().as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// `BTRFS_QGROUP_LIMIT_MAX_RFER` and `BTRFS_QGROUP_LIMIT_RSV_RFER`.
const REFERENCED: u64 = 1;
const RESERVED_REFERENCED: u64 = 4;

/// The subvolume that `root` is the root of may be charged with `bytes`; the highest number for any.
/// `note` is kept beside that, in a field that every kernel stores and none acts on.
pub(in crate::sys) fn limit(root: impl AsFd, bytes: u64, note: u64) -> io::Result<()> {
    let mut limit = Limit {
        group: 0,
        flags: REFERENCED | RESERVED_REFERENCED,
        referenced: bytes,
        exclusive: 0,
        reserved_referenced: note,
        reserved_exclusive: 0,
    };
    // SAFETY: the descriptor is open and `limit` is a whole qgroup_limit_args, which is only read.
    unsafe { raw::limit(root.as_fd().as_raw_fd(), &raw mut limit) }?;
    Ok(())
}
