//! Simple quotas of btrfs, from kernel 6.7 on: a subvolume is charged with all that was written in it
//! for as long as anything has it, be it a snapshot of the subvolume alone.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{btrfs, ioctl};

/// What a limit is called where there is none.
const NONE: u64 = 0;

/// What a subvolume is charged with, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// As of the last commit.
    pub charged: u64,
    /// The most that it may be charged with.
    pub limit: Option<u64>,
    /// Whether a snapshot of it was ever made, or it is one itself. Then what is older is not
    /// overwritten in place a first time, whoever else still has it.
    pub captured: bool,
}

/// Counts what subvolumes are charged with from here on, if that is not done already. `EINVAL`
/// where the kernel cannot do it; afterwards no kernel that cannot will mount the file system.
pub fn count(root: &Path, device: &Path) -> io::Result<()> {
    if is_counted(device)? { Ok(()) } else { ioctl::enable_simple_quota(File::open(root)?) }
}

/// Whether charges are counted.
pub fn is_counted(device: &Path) -> io::Result<bool> {
    match fs::read_to_string(btrfs::known(device)?.join("qgroups/mode")) {
        Ok(mode) => Ok(mode.trim() == "squota"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the subvolume with its root at `path` is charged with; none where that is not counted.
pub fn charge(path: &Path, device: &Path) -> io::Result<Option<Charge>> {
    let directory = File::open(path)?;
    let number = ioctl::subvolume_info(&directory)?.number;
    let shown = btrfs::known(device)?.join(format!("qgroups/0_{number}"));
    let bytes = |name: &str| -> io::Result<u64> {
        fs::read_to_string(shown.join(name))?.trim().parse().map_err(io::Error::other)
    };
    if !shown.is_dir() {
        return Ok(None);
    }
    let limit = Some(bytes("max_referenced")?).filter(|limit| *limit != NONE);
    let captured = ioctl::last_snapshot(&directory, number)? > 0;
    Ok(Some(Charge { charged: bytes("referenced")?, limit, captured }))
}

/// The subvolume with its root at `path` may be charged with `limit` bytes, at once, and durably
/// with the next commit.
pub fn limit(path: &Path, limit: Option<u64>) -> io::Result<()> {
    ioctl::limit_subvolume(File::open(path)?, limit.unwrap_or(u64::MAX))
}
