//! XFS.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `struct xfs_growfs_data`.
#[repr(C)]
struct Growth {
    blocks: u64,
    inodes: u32,
}

/// `struct xfs_fsop_resblks`.
#[repr(C)]
struct Reserve {
    blocks: u64,
    available: u64,
}

mod raw {
    use super::{Growth, Reserve};

    nix::ioctl_write_ptr!(grow, b'X', 110, Growth);
    nix::ioctl_readwrite!(reserve, b'X', 114, Reserve);
}

/// Has the XFS that `directory` is on keep this many blocks for itself (`XFS_IOC_SET_RESBLKS`).
pub(in crate::sys) fn reserve(directory: impl AsFd, blocks: u64) -> io::Result<()> {
    let mut reserve = Reserve { blocks, available: 0 };
    // SAFETY: the descriptor is open and `reserve` is a whole xfs_fsop_resblks.
    unsafe { raw::reserve(directory.as_fd().as_raw_fd(), &raw mut reserve) }?;
    Ok(())
}

/// Per cent of an XFS that inodes may take, as mkfs has it.
const INODES: u32 = 25;

/// Has the XFS that `directory` is on take this many blocks (`XFS_IOC_FSGROWFSDATA`).
pub(in crate::sys) fn grow(directory: impl AsFd, blocks: u64) -> io::Result<()> {
    let growth = Growth { blocks, inodes: INODES };
    // SAFETY: the descriptor is open and `growth` is a whole xfs_growfs_data.
    unsafe { raw::grow(directory.as_fd().as_raw_fd(), &raw const growth) }?;
    Ok(())
}
