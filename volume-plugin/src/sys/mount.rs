//! Mounting, binding, detaching.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};

const NOTHING: Option<&str> = None;

/// Error number of a mount when the kernel does not know the file system.
pub const NO_SUCH_FILE_SYSTEM: i32 = Errno::ENODEV as i32;

/// Shows the directory `source` at `target`, without what is mounted below it.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, NOTHING, MsFlags::MS_BIND, NOTHING)?)
}

/// Shows `source` with all that is mounted below it at `target`, in one step.
pub fn bind_tree(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)?)
}

/// Mounts at and below `target` neither reach other namespaces from here on nor come from there.
pub fn make_private(target: &Path) -> io::Result<()> {
    Ok(mount(NOTHING, target, NOTHING, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NOTHING)?)
}

/// Mounts made at and below `target` reach other namespaces, as below the engine's directory.
pub fn make_shared(target: &Path) -> io::Result<()> {
    Ok(mount(NOTHING, target, NOTHING, MsFlags::MS_SHARED | MsFlags::MS_REC, NOTHING)?)
}

/// Nothing can be written by way of the one mount at `target`, which stays as it is in all else.
pub fn make_read_only(target: &Path) -> io::Result<()> {
    let found = statvfs(target)?.flags();
    let kept = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let kept = kept.into_iter().filter(|(shown, _)| found.contains(*shown));
    let flags = kept.fold(MsFlags::MS_RDONLY, |flags, (_, flag)| flags | flag);
    Ok(mount(NOTHING, target, NOTHING, flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND, NOTHING)?)
}

/// The one mount at `target` has no peers any more.
#[cfg(test)]
pub(crate) fn leave_group(target: &Path) -> io::Result<()> {
    Ok(mount(NOTHING, target, NOTHING, MsFlags::MS_PRIVATE, NOTHING)?)
}

/// An empty tmpfs for mount points, seen by this namespace alone.
pub fn private_tmpfs(target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some("mode=0700,size=1m"))?;
    make_private(target)
}

/// Mounts the btrfs on `device`. What was reserved below it stays reserved: nothing is discarded.
pub fn btrfs(device: &Path, target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV;
    Ok(mount(Some(device), target, Some("btrfs"), flags, Some("nodiscard"))?)
}

/// Mounts the XFS on `device`. What was reserved below it stays reserved: nothing is discarded.
pub fn xfs(device: &Path, target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV;
    Ok(mount(Some(device), target, Some("xfs"), flags, Some("nodiscard"))?)
}

/// Whether the kernel knows the file system `name`, loading its module if there is one. It looks
/// for that before it looks at anything else of a mount.
pub fn knows_file_system(name: &str) -> io::Result<bool> {
    let nowhere = Some(Path::new("/dev/null/nothing"));
    match mount(nowhere, Path::new("/proc/self"), Some(name), MsFlags::empty(), NOTHING) {
        Err(Errno::ENODEV) => Ok(false),
        Err(Errno::ENOTDIR | Errno::ENOENT | Errno::ENOTBLK) => Ok(true),
        Err(error) => Err(error.into()),
        Ok(()) => Err(io::Error::other("a mount of nothing was made")),
    }
}

/// Detaches the topmost mount at `target` with all below it; nothing there counts as done.
pub fn detach(target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_or_not() {
        assert!(knows_file_system("btrfs").unwrap());
        assert!(!knows_file_system("no-such-fs").unwrap());
    }
}
