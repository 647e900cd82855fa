//! Subvolumes of btrfs.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `struct btrfs_ioctl_vol_args`: a name below the directory that the ioctl is sent to.
#[repr(C)]
pub(super) struct SubvolumeArgs {
    fd: i64,
    name: [u8; 4088],
}

impl SubvolumeArgs {
    pub(super) fn new(name: &str) -> io::Result<Box<Self>> {
        let mut args = Box::new(Self { fd: 0, name: [0; 4088] });
        if name.is_empty() || name.len() > 255 || name.contains(['/', '\0']) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        args.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(args)
    }
}

/// `struct btrfs_ioctl_vol_args_v2`, as far as a snapshot needs it.
#[repr(C)]
struct SnapshotArgs {
    /// The subvolume that is snapshotted.
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
pub(in crate::sys) struct Info {
    pub(in crate::sys) number: u64,
    name: [u8; 256],
    rest: [u64; 30],
}

mod raw {
    use super::{Info, SnapshotArgs, SubvolumeArgs};

    nix::ioctl_write_ptr!(create, 0x94, 14, SubvolumeArgs);
    nix::ioctl_write_ptr!(destroy, 0x94, 15, SubvolumeArgs);
    nix::ioctl_write_ptr!(snapshot, 0x94, 23, SnapshotArgs);
    nix::ioctl_read!(info, 0x94, 60, Info);
    nix::ioctl_write_ptr!(set_flags, 0x94, 26, u64);
}

/// Makes the subvolume `name` in the directory `parent`.
pub(in crate::sys) fn create(parent: impl AsFd, name: &str) -> io::Result<()> {
    let args = SubvolumeArgs::new(name)?;
    // SAFETY: the descriptor is open and `args` is a whole vol_args, its name NUL-terminated.
    unsafe { raw::create(parent.as_fd().as_raw_fd(), &raw const *args) }?;
    Ok(())
}

/// Deletes the subvolume `name` in the directory `parent`; its space comes back later.
pub(in crate::sys) fn delete(parent: impl AsFd, name: &str) -> io::Result<()> {
    let args = SubvolumeArgs::new(name)?;
    // SAFETY: the descriptor is open and `args` is a whole vol_args, its name NUL-terminated.
    unsafe { raw::destroy(parent.as_fd().as_raw_fd(), &raw const *args) }?;
    Ok(())
}

/// Makes `name` in the directory `parent` a snapshot of the subvolume whose root `source` is, with
/// these flags. It is durable on return.
pub(in crate::sys) fn snapshot(
    source: impl AsFd,
    parent: impl AsFd,
    name: &str,
    flags: u64,
) -> io::Result<()> {
    let mut args = Box::new(SnapshotArgs {
        fd: source.as_fd().as_raw_fd().into(),
        transid: 0,
        flags,
        unused: [0; 4],
        name: [0; 4040],
    });
    if name.is_empty() || name.len() > 255 || name.contains(['/', '\0']) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    args.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: both descriptors are open and `args` is a whole vol_args_v2, its name NUL-terminated.
    unsafe { raw::snapshot(parent.as_fd().as_raw_fd(), &raw const *args) }?;
    Ok(())
}

/// What there is to tell of the subvolume that `file` is in.
pub(in crate::sys) fn info(file: impl AsFd) -> io::Result<Box<Info>> {
    let mut info = Box::new(Info { number: 0, name: [0; 256], rest: [0; 30] });
    // SAFETY: the descriptor is open and `info` is a whole get_subvol_info_args for the kernel.
    unsafe { raw::info(file.as_fd().as_raw_fd(), &raw mut *info) }?;
    Ok(info)
}

/// `BTRFS_SUBVOL_RDONLY`.
pub(in crate::sys) const READ_ONLY: u64 = 2;

/// Sets the flags of the subvolume that `root` is the root of; `EINVAL` when it is none.
pub(in crate::sys) fn set_flags(root: impl AsFd, flags: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open and `flags` is as wide as the request says.
    unsafe { raw::set_flags(root.as_fd().as_raw_fd(), &raw const flags) }?;
    Ok(())
}
