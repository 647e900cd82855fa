//! The only module that talks to the kernel beyond `std`: each function one call, typed in and
//! out. Everything above works with paths, sizes and names.
//!
//! `unsafe` is allowed in `extents`, `file`, `ioctl` and `tree` alone. Absent: any policy, and any knowledge of volumes.

pub mod beneath;
pub mod btrfs;
pub mod companion;
pub mod extents;
pub mod fanotify;
pub mod file;
pub mod inotify;
mod ioctl;
pub mod loopdev;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
#[cfg(test)]
pub(crate) mod planting;
pub mod process;
pub mod quota;
pub mod tool;
pub mod trace;
pub mod tree;
pub mod xfs;

use std::io;

use plugin_sdk::failpoint;

/// The process has come to `step`: see [`failpoint`].
pub fn step(step: &'static str) -> Result<(), SysError> {
    failpoint::reach(step).doing(|| format!("go on after {step}"))
}

/// A call to the kernel that failed, with what was being done.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct SysError {
    doing: String,
    #[source]
    source: io::Error,
}

impl SysError {
    /// The kind of the underlying error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether it failed for want of space.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self.kind(), StorageFull | QuotaExceeded)
    }

    /// The error number of the underlying error, where it has one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// Says what was being done when something failed.
pub trait Doing<T> {
    /// Wraps the error; `doing` reads like "mount /dev/loop0 on /pools/default".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, SysError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, SysError> {
        self.map_err(|source| SysError { doing: doing(), source: source.into() })
    }
}
