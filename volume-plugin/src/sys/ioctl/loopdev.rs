//! Loop devices.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::sys) struct Info {
    pub(in crate::sys) device: u64,
    pub(in crate::sys) inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    pub(in crate::sys) flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Info {
    pub(in crate::sys) const fn new(flags: u32) -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

mod raw {
    use super::{Config, Info};

    // The loop driver's numbers are older than the scheme that carries direction and size.
    nix::ioctl_read_bad!(get_status, 0x4c05, Info);
    nix::ioctl_write_ptr_bad!(configure, 0x4c0a, Config);
    nix::ioctl_none_bad!(set_capacity, 0x4c07);
    nix::ioctl_none_bad!(get_free, 0x4c82);
}

/// What the loop device `device` is attached to; `ENXIO` when to nothing.
pub(in crate::sys) fn status(device: &File) -> io::Result<Info> {
    let mut info = Info::new(0);
    // SAFETY: the descriptor is open and `info` is a whole loop_info64 for the kernel to fill.
    unsafe { raw::get_status(device.as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

/// Attaches `device` to `backing`; `EBUSY` when it is attached already.
pub(in crate::sys) fn configure(
    device: &File,
    backing: &File,
    block_size: u32,
    flags: u32,
) -> io::Result<()> {
    let fd = u32::try_from(backing.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let config = Config { fd, block_size, info: Info::new(flags), reserved: [0; 8] };
    // SAFETY: both descriptors are open for the call and `config` is a whole loop_config.
    unsafe { raw::configure(device.as_raw_fd(), &raw const config) }?;
    Ok(())
}

/// Has `device` take the size that its file has now.
pub(in crate::sys) fn set_capacity(device: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; the request takes no argument.
    unsafe { raw::set_capacity(device.as_raw_fd()) }?;
    Ok(())
}

/// The number of a loop device that nobody uses, made if need be.
pub(in crate::sys) fn get_free(control: &File) -> io::Result<u32> {
    // SAFETY: the descriptor is open; the request takes no argument.
    let number = unsafe { raw::get_free(control.as_raw_fd()) }?;
    u32::try_from(number).map_err(|_| io::ErrorKind::InvalidData.into())
}
