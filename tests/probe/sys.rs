//! System calls that neither the standard library nor `nix` wraps; all unsafe code is here.
#![expect(unsafe_code, reason = "raw system calls; each says why it is sound")]

use std::ffi::CString;
use std::fs::File;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::Result;
use nix::errno::Errno;
use nix::libc::{self, c_long, c_uint};

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

fn owned(result: c_long) -> Result<OwnedFd> {
    let fd = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call just made this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A detached copy of the mount at `path`, with what is mounted below it.
pub(crate) fn clone_mount(path: &Path) -> Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as c_uint;
    // SAFETY: the path is a C string that outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    owned(result)
}

/// Takes a detached mount out of the peer group it was cloned from.
pub(crate) fn make_private(tree: &OwnedFd) -> Result<()> {
    let attributes =
        libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    // SAFETY: the strings and the struct outlive the call, and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            mem::size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Mounts a detached mount at `target`.
pub(crate) fn attach_mount(tree: &OwnedFd, target: &Path) -> Result<()> {
    let target = c_path(target)?;
    // SAFETY: both paths are C strings that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}

/// The id of the mount that `path` is on, links followed, as in mountinfo.
pub(crate) fn mount_id(path: &Path) -> Result<u64> {
    const STATX_MNT_ID: c_uint = 0x1000;
    let path = c_path(path)?;
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut found: libc::statx = unsafe { mem::zeroed() };
    // SAFETY: the path is a C string and `found` a whole struct, both outlive the call.
    let result = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_NO_AUTOMOUNT,
            STATX_MNT_ID,
            &raw mut found,
        )
    };
    Errno::result(result)?;
    Ok(found.stx_mnt_id)
}

const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64` of the kernel.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names_and_key: [u8; 160],
    init: [u64; 2],
}

/// `struct loop_config` of the kernel.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// The number of a loop device that is free now.
pub(crate) fn free_loop(control: &File) -> Result<u32> {
    // SAFETY: takes no argument.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(Errno::result(result)?).map_err(|_| Errno::ENODEV)
}

/// An open loop device.
#[derive(Debug)]
pub(crate) struct Loop(pub(crate) File);

impl Loop {
    /// Device and inode of its backing file; ENXIO when it has none.
    pub(crate) fn status(&self) -> Result<(u64, u64)> {
        // SAFETY: all-zero is a valid value of this plain struct.
        let mut info: LoopInfo = unsafe { mem::zeroed() };
        // SAFETY: the struct has the kernel's layout and outlives the call.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
        Errno::result(result)?;
        Ok((info.device, info.inode))
    }

    /// Attaches a file, to be detached by the last close, and read and written past the cache.
    pub(crate) fn configure(&self, image: &File) -> Result<()> {
        // SAFETY: all-zero is a valid value of this plain struct.
        let mut config: LoopConfig = unsafe { mem::zeroed() };
        config.fd = u32::try_from(image.as_raw_fd()).map_err(|_| Errno::EBADF)?;
        config.info.flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
        // SAFETY: the struct has the kernel's layout and outlives the call.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        Errno::result(result).map(drop)
    }
}
