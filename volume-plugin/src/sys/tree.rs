//! Mounts that are taken from one mount namespace to another: what neither `std` nor `nix` wraps.
#![expect(unsafe_code, reason = "raw system calls; each says why it is sound")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc::{self, c_long, c_uint};

/// A mount with those below it that is nowhere; it goes when this is dropped unattached.
#[derive(Debug)]
pub struct Tree(OwnedFd);

/// What is mounted at `path` in the calling thread's namespace, a copy that is in the same peer
/// groups (`open_tree(2)`, Linux 5.2).
pub fn clone_of(path: &Path) -> io::Result<Tree> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as c_uint;
    // SAFETY: the path is a C string that outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = RawFd::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: the call just made this descriptor and nobody else has it.
    Ok(Tree(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Mounts it at `target` in the calling thread's namespace, whichever it comes from
/// (`move_mount(2)`, Linux 5.2).
pub fn attach(tree: &Tree, target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: both paths are C strings that outlive the call.
    let result: c_long = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.0.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)?;
    Ok(())
}
