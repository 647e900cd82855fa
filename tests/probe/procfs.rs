//! What /proc tells about processes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// All processes there are.
pub(crate) fn processes() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// A path below a process's directory.
pub(crate) fn of(pid: i32, what: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(what)
}

/// A process's name.
pub(crate) fn comm(pid: i32) -> io::Result<String> {
    Ok(fs::read_to_string(of(pid, "comm"))?.trim_end().to_owned())
}

/// The identity of a process's mount namespace. Of another user's process it takes
/// `CAP_SYS_PTRACE`.
pub(crate) fn mount_namespace(pid: i32) -> io::Result<PathBuf> {
    fs::read_link(of(pid, "ns/mnt"))
}

/// Whether both paths lead to the same file.
pub(crate) fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// The threads of a process; none of one that has ended.
pub(crate) fn threads(pid: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(of(pid, "task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The state letter of a thread, such as `t` for stopped by its tracer; none of one that has ended.
pub(crate) fn state(thread: i32) -> Option<char> {
    let stat = fs::read_to_string(of(thread, "stat")).ok()?;
    // The name, in parentheses, may hold anything.
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
}

/// One line of a mountinfo file.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Its id, as in `STATX_MNT_ID`.
    pub(crate) id: u64,
    /// `major:minor`, of the superblock.
    pub(crate) device: String,
    /// Which directory of the file system is mounted.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) point: PathBuf,
}

/// The mounts that a process sees.
pub(crate) fn mounts(pid: &str) -> io::Result<Vec<Mount>> {
    let text = fs::read_to_string(Path::new("/proc").join(pid).join("mountinfo"))?;
    let parse = |line: &str| {
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        let device = fields.nth(1)?.to_owned();
        let root = fields.next()?.into();
        Some(Mount { id, device, root, point: fields.next()?.into() })
    };
    Ok(text.lines().filter_map(parse).collect())
}
