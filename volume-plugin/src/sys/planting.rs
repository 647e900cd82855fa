//! What root of a container may put where the plugin looks, for tests.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

/// A FIFO: whoever opens it to read waits for a writer.
pub(crate) fn fifo(path: &Path) {
    mkfifo(path, Mode::S_IRWXU).unwrap();
}

/// A device: a terminal, whose open may wait, or a disk.
pub(crate) fn device(path: &Path, kind: SFlag, major: u64, minor: u64) {
    mknod(path, kind, Mode::S_IRWXU, makedev(major, minor)).unwrap();
}

/// Every kind of thing, each to be planted at a path where nothing is. `outside` is a directory that
/// holds `file` and must stay as it is; links and hard links lead there.
pub(crate) type Plant = (&'static str, fn(path: &Path, outside: &Path));

/// See [`Plant`].
pub(crate) const PLANTS: [Plant; 11] = [
    ("a link to a directory", |path, outside| symlink(outside, path).unwrap()),
    ("a link to a file", |path, outside| symlink(outside.join("file"), path).unwrap()),
    ("a link to nowhere", |path, _| symlink("/no/where", path).unwrap()),
    ("a link to itself", |path, _| symlink(path, path).unwrap()),
    ("a FIFO", |path, _| fifo(path)),
    ("a socket", |path, _| {
        // By way of the directory: the path may be longer than an address.
        let parent = std::fs::File::open(path.parent().unwrap()).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&parent);
        let name = path.file_name().unwrap();
        drop(UnixListener::bind(Path::new(&format!("/proc/self/fd/{fd}")).join(name)).unwrap());
    }),
    ("a terminal", |path, _| device(path, SFlag::S_IFCHR, 4, 63)),
    ("a disk", |path, _| device(path, SFlag::S_IFBLK, 240, 0)),
    ("a hard link", |path, outside| {
        let file = outside.join("file");
        // Another file system has none.
        if std::fs::hard_link(&file, path).is_err() {
            std::fs::copy(&file, path).unwrap();
        }
    }),
    ("a huge file", |path, _| std::fs::File::create(path).unwrap().set_len(1 << 43).unwrap()),
    ("a directory of strange names", |path, _| {
        let names: [&[u8]; 5] = [&[b'n'; 255], b"new\nline", b"not \xff utf-8", b"\\x41", b" "];
        std::fs::DirBuilder::new().create(path).unwrap();
        for name in names {
            let below = path.join(std::ffi::OsStr::from_bytes(name));
            std::fs::DirBuilder::new().create(&below).unwrap();
            symlink("/etc", below.join("pg_wal")).unwrap();
            fifo(&below.join("PG_VERSION"));
        }
    }),
];
