//! A btrfs as a whole.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::subvolume::SubvolumeArgs;

/// The number that mkfs gives to the one device of a btrfs.
const FIRST_DEVICE: u64 = 1;

/// `struct btrfs_ioctl_dev_info_args`.
#[repr(C)]
pub(in crate::sys) struct DeviceInfo {
    number: u64,
    uuid: [u8; 16],
    /// Bytes of the device that are given to data or metadata.
    pub(in crate::sys) allocated: u64,
    /// Bytes of the device that the file system takes.
    pub(in crate::sys) total: u64,
    unused: [u64; 379],
    path: [u8; 1024],
}

mod raw {
    use super::{DeviceInfo, SubvolumeArgs};

    nix::ioctl_none!(sync, 0x94, 8);
    nix::ioctl_write_ptr!(resize, 0x94, 3, SubvolumeArgs);
    nix::ioctl_readwrite!(device_info, 0x94, 30, DeviceInfo);
}

/// Commits the btrfs that `directory` is on and wakes the thread that cleans it.
pub(in crate::sys) fn sync(directory: impl AsFd) -> io::Result<()> {
    // SAFETY: the descriptor is open; the request takes no argument.
    unsafe { raw::sync(directory.as_fd().as_raw_fd()) }?;
    Ok(())
}

/// The only device of the btrfs that `directory` is on.
pub(in crate::sys) fn device_info(directory: impl AsFd) -> io::Result<Box<DeviceInfo>> {
    let mut info = Box::new(DeviceInfo {
        number: FIRST_DEVICE,
        uuid: [0; 16],
        allocated: 0,
        total: 0,
        unused: [0; 379],
        path: [0; 1024],
    });
    // SAFETY: the descriptor is open and `info` is a whole dev_info_args for the kernel to fill.
    unsafe { raw::device_info(directory.as_fd().as_raw_fd(), &raw mut *info) }?;
    Ok(info)
}

/// Has the btrfs that `directory` is on take `bytes` of its only device; durable on return.
pub(in crate::sys) fn resize(directory: impl AsFd, bytes: u64) -> io::Result<()> {
    let args = SubvolumeArgs::new(&format!("{FIRST_DEVICE}:{bytes}"))?;
    // SAFETY: the descriptor is open and `args` is a whole vol_args, its text NUL-terminated.
    match unsafe { raw::resize(directory.as_fd().as_raw_fd(), &raw const *args) }? {
        0 => Ok(()),
        // BTRFS_ERROR_DEV_EXCL_RUN_IN_PROGRESS is no errno: somebody balances or resizes it.
        _ => Err(io::ErrorKind::ResourceBusy.into()),
    }
}
