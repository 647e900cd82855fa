//! Quotas of btrfs, of two kinds. Simple quotas, from kernel 6.7 on, charge a subvolume with all that
//! was written in it, for as long as anything has it, be it a snapshot of the subvolume alone. The
//! groups of older kernels charge it with all that it refers to, whoever else has that too.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{btrfs, ioctl};

/// What a limit is called where there is none.
const NONE: u64 = 0;

/// `BTRFS_QGROUP_STATUS_FLAG_*`.
const ON: u64 = 1;
const RESCAN: u64 = 2;
const INCONSISTENT: u64 = 4;
const SIMPLE: u64 = 8;

/// What a subvolume is charged with, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// As of the last commit.
    pub charged: u64,
    /// The most that it may be charged with.
    pub limit: Option<u64>,
    /// How much of that is for what snapshots may come to hold alone, as far as it was noted.
    pub beside: Option<u64>,
    /// Whether a snapshot of it was ever made, or it is one itself. Then what is older is not
    /// overwritten in place a first time, whoever else still has it.
    pub captured: bool,
    /// What is in `charged`.
    pub count: Count,
}

/// What is counted in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// What was written since counting began.
    Newer,
    /// Everything.
    Whole,
    /// Everything, once the kernel has counted anew; less until then.
    Unfinished,
}

/// Counts what subvolumes are charged with from here on, if that is not done already; tells what.
/// A kernel without simple quotas does not mount a file system any more that has them.
pub fn count(root: &Path) -> io::Result<Count> {
    if let Some(count) = counted(root)? {
        return Ok(count);
    }
    match ioctl::quota::enable(File::open(root)?, ioctl::quota::Kind::Simple) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => count_groups(root)?,
        other => other?,
    }
    counted(root)?.ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Counts as kernels do that have no simple quotas.
pub fn count_groups(root: &Path) -> io::Result<()> {
    ioctl::quota::enable(File::open(root)?, ioctl::quota::Kind::Groups)
}

/// What is counted, as of the last commit; none where nothing is.
pub fn counted(root: &Path) -> io::Result<Option<Count>> {
    counted_in(&File::open(root)?)
}

fn counted_in(directory: &File) -> io::Result<Option<Count>> {
    let flags = match ioctl::search::quota_flags(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(match flags {
        flags if flags & SIMPLE != 0 => Some(Count::Newer),
        flags if flags & ON == 0 => None,
        flags if flags & (RESCAN | INCONSISTENT) != 0 => Some(Count::Unfinished),
        _ => Some(Count::Whole),
    })
}

/// Counts anew where the kernel has lost count, which deleting much at once does.
pub fn count_again(root: &Path) -> io::Result<()> {
    let directory = File::open(root)?;
    let flags = ioctl::search::quota_flags(&directory)?;
    if flags & SIMPLE != 0 || flags & (RESCAN | INCONSISTENT) != INCONSISTENT {
        return Ok(());
    }
    match ioctl::quota::rescan(directory) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => Ok(()),
        other => other,
    }
}

/// What the subvolume with its root at `path` is charged with; none where that is not counted.
pub fn charge(path: &Path, device: &Path) -> io::Result<Option<Charge>> {
    let directory = File::open(path)?;
    let Some(count) = counted_in(&directory)? else { return Ok(None) };
    let number = ioctl::subvolume::info(&directory)?.number;
    let shown = btrfs::known(device)?.join(format!("qgroups/0_{number}"));
    let bytes = |name: &str| -> io::Result<u64> {
        fs::read_to_string(shown.join(name))?.trim().parse().map_err(io::Error::other)
    };
    if !shown.is_dir() {
        return Ok(None);
    }
    let limit = Some(bytes("max_referenced")?).filter(|limit| *limit != NONE);
    let captured = ioctl::search::last_snapshot(&directory, number)? > 0;
    let beside = ioctl::search::limit_note(&directory, number)?;
    let beside = limit.and_then(|limit| limit.checked_sub(beside)).filter(|_| beside != NONE);
    Ok(Some(Charge { charged: bytes("referenced")?, limit, beside, captured, count }))
}

/// How high a tree of the file system on `device` may be for the kernel to keep count when it is
/// deleted.
#[cfg(test)]
pub(crate) fn keep_count_below(device: &Path, height: u8) -> io::Result<()> {
    use std::io::Write;
    let threshold = btrfs::known(device)?.join("qgroups/drop_subtree_threshold");
    File::options().write(true).open(threshold)?.write_all(height.to_string().as_bytes())
}

/// The subvolume with its root at `path` may be charged with `own` bytes and as many as are `beside`,
/// at once, and durably with the next commit.
pub fn limit(path: &Path, own: u64, beside: u64) -> io::Result<()> {
    ioctl::quota::limit(File::open(path)?, own.saturating_add(beside), own)
}

/// The subvolume with its root at `path` may be charged with as much as there is.
pub fn unlimit(path: &Path) -> io::Result<()> {
    ioctl::quota::limit(File::open(path)?, u64::MAX, NONE)
}
