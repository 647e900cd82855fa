//! Items in the trees of a btrfs.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;

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
    nix::ioctl_readwrite!(tree_search, 0x94, 17, super::TreeSearch);
}

/// Where an item's numbers begin in what a search found, behind a `struct btrfs_ioctl_search_header`.
const HEADER: usize = 32 / 8;

/// The only item, or the first, with this object and type, and one of these offsets, in `tree` of the
/// btrfs that `directory` is on, as numbers; `ENOENT` where there is none or no such tree.
fn item(
    directory: impl AsFd,
    tree: u64,
    object: u64,
    kind: u32,
    offsets: [u64; 2],
) -> io::Result<Box<TreeSearch>> {
    let mut search = Box::new(TreeSearch {
        tree,
        objects: [object; 2],
        offsets,
        transactions: [0, u64::MAX],
        types: [kind; 2],
        items: 1,
        unused: [0; 9],
        found: [0; 499],
    });
    // SAFETY: the descriptor is open and `search` is a whole search_args for the kernel to fill.
    unsafe { raw::tree_search(directory.as_fd().as_raw_fd(), &raw mut *search) }?;
    if search.items == 0 { Err(io::ErrorKind::NotFound.into()) } else { Ok(search) }
}

impl TreeSearch {
    /// The number at `offset` bytes into the item.
    fn number(&self, offset: usize) -> u64 {
        u64::from_le(self.found[HEADER + offset / 8])
    }
}

const ANY: [u64; 2] = [0, u64::MAX];

/// `BTRFS_ROOT_TREE_OBJECTID`, the tree of trees, and `BTRFS_ROOT_ITEM_KEY`, a tree in it.
const TREES: (u64, u32) = (1, 132);

/// Where `last_snapshot` is in a `struct btrfs_root_item`.
const LAST_SNAPSHOT: usize = 200;

/// The transaction in which the last snapshot of the subvolume `number` of the btrfs that
/// `directory` is on was made; 0 for none.
pub(in crate::sys) fn last_snapshot(directory: impl AsFd, number: u64) -> io::Result<u64> {
    Ok(item(directory, TREES.0, number, TREES.1, ANY)?.number(LAST_SNAPSHOT))
}

/// `BTRFS_ROOT_REF_KEY`, a subvolume in another, and where the length of its name and the name are in a `struct
/// btrfs_root_ref`.
const INSIDE: u32 = 156;
const NAME_LENGTH: usize = 16;
const NAME: usize = 18;

/// The name of a subvolume that lies in the subvolume `number` of the btrfs that `directory` is on; `ENOENT`
/// where there is none.
pub(in crate::sys) fn inside(directory: impl AsFd, number: u64) -> io::Result<OsString> {
    let search = item(directory, TREES.0, number, INSIDE, ANY)?;
    let bytes: Vec<u8> = search.found[HEADER..].iter().flat_map(|it| it.to_ne_bytes()).collect();
    let length = u16::from_le_bytes([bytes[NAME_LENGTH], bytes[NAME_LENGTH + 1]]);
    let name = bytes.get(NAME..NAME + usize::from(length)).ok_or(io::ErrorKind::InvalidData)?;
    Ok(OsString::from_vec(name.to_vec()))
}

/// `BTRFS_QUOTA_TREE_OBJECTID`, and `BTRFS_QGROUP_STATUS_KEY` in it.
const QUOTAS: (u64, u32) = (8, 240);

/// Where `flags` is in a `struct btrfs_qgroup_status_item`.
const STATUS_FLAGS: usize = 16;

/// `BTRFS_QGROUP_STATUS_FLAG_*` of the btrfs that `directory` is on, as of its last commit; `ENOENT`
/// where nothing is counted.
pub(in crate::sys) fn quota_flags(directory: impl AsFd) -> io::Result<u64> {
    Ok(item(directory, QUOTAS.0, 0, QUOTAS.1, ANY)?.number(STATUS_FLAGS))
}

/// `BTRFS_QGROUP_LIMIT_KEY`, and where `rsv_rfer` is in a `struct btrfs_qgroup_limit_item`.
const LIMIT: u32 = 244;
const RESERVED_REFERENCED: usize = 24;

/// What was noted beside the limit on the subvolume `number` of the btrfs that `directory` is on; 0 for
/// nothing.
pub(in crate::sys) fn limit_note(directory: impl AsFd, number: u64) -> io::Result<u64> {
    match item(directory, QUOTAS.0, 0, LIMIT, [number; 2]) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        other => Ok(other?.number(RESERVED_REFERENCED)),
    }
}
