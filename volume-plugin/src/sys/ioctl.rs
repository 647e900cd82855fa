//! The ioctls.
#![expect(unsafe_code, reason = "ioctl takes untyped arguments; each wrapper here types one")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `struct btrfs_ioctl_vol_args`: a name below the directory that the ioctl is sent to.
#[repr(C)]
struct SubvolumeArgs {
    fd: i64,
    name: [u8; 4088],
}

impl SubvolumeArgs {
    fn new(name: &str) -> io::Result<Box<Self>> {
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

/// `struct xfs_growfs_data`.
#[repr(C)]
struct XfsGrowth {
    blocks: u64,
    inodes: u32,
}

/// `struct xfs_fsop_resblks`.
#[repr(C)]
struct XfsReserve {
    blocks: u64,
    available: u64,
}

/// The number that mkfs gives to the one device of a btrfs.
const FIRST_DEVICE: u64 = 1;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LoopInfo {
    pub(super) device: u64,
    pub(super) inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    pub(super) flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    pub(super) const fn new(flags: u32) -> Self {
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
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct btrfs_ioctl_dev_info_args`.
#[repr(C)]
pub(super) struct DeviceInfo {
    number: u64,
    uuid: [u8; 16],
    /// Bytes of the device that are given to data or metadata.
    pub(super) allocated: u64,
    /// Bytes of the device that the file system takes.
    pub(super) total: u64,
    unused: [u64; 379],
    path: [u8; 1024],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct QuotaControl {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct QuotaLimit {
    /// 0 for the subvolume that the request is sent to.
    group: u64,
    flags: u64,
    referenced: u64,
    exclusive: u64,
    reserved: [u64; 2],
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
pub(super) struct SubvolumeInfo {
    pub(super) number: u64,
    name: [u8; 256],
    rest: [u64; 30],
}

/// `struct btrfs_ioctl_search_args`.
#[repr(C)]
struct TreeSearch {
    tree: u64,
    objects: [u64; 2],
    offsets: [u64; 2],
    transactions: [u64; 2],
    types: [u32; 2],
    /// At most so many on the way in, the number found on the way out.
    items: u32,
    unused: [u32; 9],
    found: [u64; 499],
}

mod raw {
    use super::{
        DeviceInfo, LoopConfig, LoopInfo, QuotaControl, QuotaLimit, SnapshotArgs, SubvolumeArgs,
        SubvolumeInfo, TreeSearch, XfsGrowth, XfsReserve,
    };

    nix::ioctl_write_ptr!(subvolume_create, 0x94, 14, SubvolumeArgs);
    nix::ioctl_write_ptr!(snapshot_destroy, 0x94, 15, SubvolumeArgs);
    nix::ioctl_none!(btrfs_sync, 0x94, 8);
    nix::ioctl_write_ptr!(snapshot_create, 0x94, 23, SnapshotArgs);
    nix::ioctl_write_ptr!(btrfs_resize, 0x94, 3, SubvolumeArgs);
    nix::ioctl_readwrite!(device_info, 0x94, 30, DeviceInfo);
    nix::ioctl_readwrite!(tree_search, 0x94, 17, TreeSearch);
    nix::ioctl_readwrite!(quota_control, 0x94, 40, QuotaControl);
    nix::ioctl_read!(quota_limit, 0x94, 43, QuotaLimit);
    nix::ioctl_read!(subvolume_info, 0x94, 60, SubvolumeInfo);
    nix::ioctl_write_ptr!(subvolume_set_flags, 0x94, 26, u64);
    nix::ioctl_write_int!(clone_file, 0x94, 9);
    nix::ioctl_read!(get_flags, b'f', 1, nix::libc::c_long);
    nix::ioctl_write_ptr!(set_flags, b'f', 2, nix::libc::c_long);
    nix::ioctl_write_ptr!(xfs_grow, b'X', 110, XfsGrowth);
    nix::ioctl_readwrite!(xfs_reserve, b'X', 114, XfsReserve);
    // The loop driver's numbers are older than the scheme that carries direction and size.
    nix::ioctl_read_bad!(loop_get_status, 0x4c05, LoopInfo);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4c0a, LoopConfig);
    nix::ioctl_none_bad!(loop_set_capacity, 0x4c07);
    nix::ioctl_none_bad!(loop_get_free, 0x4c82);
}

/// Makes the subvolume `name` in the directory `parent`.
pub(super) fn subvolume_create(parent: impl AsFd, name: &str) -> io::Result<()> {
    let args = SubvolumeArgs::new(name)?;
    // SAFETY: the descriptor is open and `args` is a whole vol_args, its name NUL-terminated.
    unsafe { raw::subvolume_create(parent.as_fd().as_raw_fd(), &raw const *args) }?;
    Ok(())
}

/// Deletes the subvolume `name` in the directory `parent`; its space comes back later.
pub(super) fn subvolume_delete(parent: impl AsFd, name: &str) -> io::Result<()> {
    let args = SubvolumeArgs::new(name)?;
    // SAFETY: the descriptor is open and `args` is a whole vol_args, its name NUL-terminated.
    unsafe { raw::snapshot_destroy(parent.as_fd().as_raw_fd(), &raw const *args) }?;
    Ok(())
}

/// Commits the btrfs that `directory` is on and wakes the thread that cleans it.
pub(super) fn btrfs_sync(directory: impl AsFd) -> io::Result<()> {
    // SAFETY: the descriptor is open; the request takes no argument.
    unsafe { raw::btrfs_sync(directory.as_fd().as_raw_fd()) }?;
    Ok(())
}

/// Makes `name` in the directory `parent` a snapshot of the subvolume whose root `source` is, with
/// these flags. It is durable on return.
pub(super) fn snapshot_create(
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
    unsafe { raw::snapshot_create(parent.as_fd().as_raw_fd(), &raw const *args) }?;
    Ok(())
}

/// Makes the empty file `target` share the blocks of `source` (`FICLONE`).
pub(super) fn clone_file(source: &File, target: &File) -> io::Result<()> {
    let source = nix::libc::c_ulong::try_from(source.as_raw_fd()).map_err(io::Error::other)?;
    // SAFETY: both descriptors are open; the request takes a number.
    unsafe { raw::clone_file(target.as_raw_fd(), source) }?;
    Ok(())
}

/// The only device of the btrfs that `directory` is on.
pub(super) fn device_info(directory: impl AsFd) -> io::Result<Box<DeviceInfo>> {
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
pub(super) fn btrfs_resize(directory: impl AsFd, bytes: u64) -> io::Result<()> {
    let args = SubvolumeArgs::new(&format!("{FIRST_DEVICE}:{bytes}"))?;
    // SAFETY: the descriptor is open and `args` is a whole vol_args, its text NUL-terminated.
    match unsafe { raw::btrfs_resize(directory.as_fd().as_raw_fd(), &raw const *args) }? {
        0 => Ok(()),
        // BTRFS_ERROR_DEV_EXCL_RUN_IN_PROGRESS is no errno: somebody balances or resizes it.
        _ => Err(io::ErrorKind::ResourceBusy.into()),
    }
}

/// Has the XFS that `directory` is on keep this many blocks for itself (`XFS_IOC_SET_RESBLKS`).
pub(super) fn xfs_reserve(directory: impl AsFd, blocks: u64) -> io::Result<()> {
    let mut reserve = XfsReserve { blocks, available: 0 };
    // SAFETY: the descriptor is open and `reserve` is a whole xfs_fsop_resblks.
    unsafe { raw::xfs_reserve(directory.as_fd().as_raw_fd(), &raw mut reserve) }?;
    Ok(())
}

/// Per cent of an XFS that inodes may take, as mkfs has it.
const XFS_INODES: u32 = 25;

/// Has the XFS that `directory` is on take this many blocks (`XFS_IOC_FSGROWFSDATA`).
pub(super) fn xfs_grow(directory: impl AsFd, blocks: u64) -> io::Result<()> {
    let growth = XfsGrowth { blocks, inodes: XFS_INODES };
    // SAFETY: the descriptor is open and `growth` is a whole xfs_growfs_data.
    unsafe { raw::xfs_grow(directory.as_fd().as_raw_fd(), &raw const growth) }?;
    Ok(())
}

/// `BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA`.
const ENABLE_SIMPLE_QUOTA: u64 = 4;

/// Counts what the subvolumes of the btrfs that `directory` is on are charged with.
pub(super) fn enable_simple_quota(directory: impl AsFd) -> io::Result<()> {
    let mut control = QuotaControl { command: ENABLE_SIMPLE_QUOTA, status: 0 };
    // SAFETY: the descriptor is open and `control` is a whole quota_ctl_args.
    unsafe { raw::quota_control(directory.as_fd().as_raw_fd(), &raw mut control) }?;
    Ok(())
}

/// `BTRFS_QGROUP_LIMIT_MAX_RFER`.
const LIMIT_REFERENCED: u64 = 1;

/// The subvolume that `root` is the root of may be charged with `bytes`; the highest number for any.
pub(super) fn limit_subvolume(root: impl AsFd, bytes: u64) -> io::Result<()> {
    let (group, flags) = (0, LIMIT_REFERENCED);
    let mut limit = QuotaLimit { group, flags, referenced: bytes, exclusive: 0, reserved: [0; 2] };
    // SAFETY: the descriptor is open and `limit` is a whole qgroup_limit_args, which is only read.
    unsafe { raw::quota_limit(root.as_fd().as_raw_fd(), &raw mut limit) }?;
    Ok(())
}

/// What there is to tell of the subvolume that `file` is in.
pub(super) fn subvolume_info(file: impl AsFd) -> io::Result<Box<SubvolumeInfo>> {
    let mut info = Box::new(SubvolumeInfo { number: 0, name: [0; 256], rest: [0; 30] });
    // SAFETY: the descriptor is open and `info` is a whole get_subvol_info_args for the kernel.
    unsafe { raw::subvolume_info(file.as_fd().as_raw_fd(), &raw mut *info) }?;
    Ok(info)
}

/// `BTRFS_ROOT_TREE_OBJECTID`, the tree of trees, and `BTRFS_ROOT_ITEM_KEY`, a tree in it.
const TREES: (u64, u32) = (1, 132);

/// Where `last_snapshot` of a `struct btrfs_root_item` is in what a search found, behind a
/// `struct btrfs_ioctl_search_header`, in numbers.
const LAST_SNAPSHOT: usize = (32 + 200) / 8;

/// The transaction in which the last snapshot of the subvolume `number` of the btrfs that
/// `directory` is on was made; 0 for none.
pub(super) fn last_snapshot(directory: impl AsFd, number: u64) -> io::Result<u64> {
    let mut search = Box::new(TreeSearch {
        tree: TREES.0,
        objects: [number; 2],
        offsets: [0, u64::MAX],
        transactions: [0, u64::MAX],
        types: [TREES.1; 2],
        items: 1,
        unused: [0; 9],
        found: [0; 499],
    });
    // SAFETY: the descriptor is open and `search` is a whole search_args for the kernel to fill.
    unsafe { raw::tree_search(directory.as_fd().as_raw_fd(), &raw mut *search) }?;
    if search.items == 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(u64::from_le(search.found[LAST_SNAPSHOT]))
}

/// `BTRFS_SUBVOL_RDONLY`.
pub(super) const SUBVOLUME_READ_ONLY: u64 = 2;

/// Sets the flags of the subvolume that `root` is the root of; `EINVAL` when it is none.
pub(super) fn set_subvolume_flags(root: impl AsFd, flags: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open and `flags` is as wide as the request says.
    unsafe { raw::subvolume_set_flags(root.as_fd().as_raw_fd(), &raw const flags) }?;
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

/// What the loop device `device` is attached to; `ENXIO` when to nothing.
pub(super) fn loop_status(device: &File) -> io::Result<LoopInfo> {
    let mut info = LoopInfo::new(0);
    // SAFETY: the descriptor is open and `info` is a whole loop_info64 for the kernel to fill.
    unsafe { raw::loop_get_status(device.as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

/// Attaches `device` to `backing`; `EBUSY` when it is attached already.
pub(super) fn loop_configure(
    device: &File,
    backing: &File,
    block_size: u32,
    flags: u32,
) -> io::Result<()> {
    let fd = u32::try_from(backing.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let config = LoopConfig { fd, block_size, info: LoopInfo::new(flags), reserved: [0; 8] };
    // SAFETY: both descriptors are open for the call and `config` is a whole loop_config.
    unsafe { raw::loop_configure(device.as_raw_fd(), &raw const config) }?;
    Ok(())
}

/// Has `device` take the size that its file has now.
pub(super) fn loop_set_capacity(device: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; the request takes no argument.
    unsafe { raw::loop_set_capacity(device.as_raw_fd()) }?;
    Ok(())
}

/// The number of a loop device that nobody uses, made if need be.
pub(super) fn loop_get_free(control: &File) -> io::Result<u32> {
    // SAFETY: the descriptor is open; the request takes no argument.
    let number = unsafe { raw::loop_get_free(control.as_raw_fd()) }?;
    u32::try_from(number).map_err(|_| io::ErrorKind::InvalidData.into())
}
