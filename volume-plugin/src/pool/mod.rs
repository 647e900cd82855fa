//! Where the parts of volumes are stored.
//!
//! A volume has a *share* in each pool that one of its roles lives in: a directory tree of its
//! own, called the same in each. All roles of one volume in one pool lie in one share.

pub mod ahead;
#[cfg(test)]
mod conformance;
pub mod copy;
mod dir;
mod dir_limits;
mod erase;
mod image;
mod image_growth;
mod image_limits;
mod image_size;
#[cfg(all(test, feature = "failpoints"))]
#[path = "killed_tests.rs"]
mod killed;
mod pace;
mod registry;
mod tree;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use dir::DirPool;
pub use erase::empty;
pub use image::{ImagePlan, ImagePool};
pub use image_size::{Bounds, ImageLimit, ImageLimitError, ImageSize, ImageSizeError, parse_bytes};
pub use pace::{Pace, Progress};
pub use registry::{Opener, PoolRegistry};

use crate::name::ShareName;
use crate::sys::SysError;
pub use crate::sys::file::Space;
pub use crate::sys::quota::{Charge, Count};

/// A pool's name as options and Status give it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolName(String);

impl PoolName {
    /// The pool of data and tablespaces where no option says otherwise.
    pub const DEFAULT: &'static str = "default";
    /// The pool of WAL where no option says otherwise.
    pub const WAL: &'static str = "wal";

    /// A name; whether there is such a pool is for [`PoolRegistry`] to say.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who owns a directory, and its permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Owner {
    /// root, for all to pass through.
    pub const ROOT: Self = Self { uid: 0, gid: 0, mode: 0o755 };
}

/// How files below a directory are overwritten, where the pool knows a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overwrite {
    /// In place.
    InPlace,
    /// Copy-on-write, with checksums.
    Copy,
}

/// A directory of a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its path below the share's root, empty for the root itself; one level is made at a time, so
    /// each parent is listed before.
    pub path: String,
    /// Its owner.
    pub owner: Owner,
    /// For the files that will be below it.
    pub overwrite: Overwrite,
}

/// How a pool makes a share with the content of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// All of the share at one instant, whatever its size and whoever writes in it.
    AtOnce,
    /// One file after the other: what is written meanwhile is in some and not in others.
    FileByFile,
}

/// What may be done with a captured share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Captured {
    /// It is read; where the pool can see to that, nothing in it can be changed.
    ReadOnly,
    /// It is a share like any other.
    Writable,
}

/// What a share may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In bytes, beside what only snapshots and clones of it still have.
    pub size: u64,
    /// Of these, what cannot be filled.
    pub held_back: u64,
    /// Of these, what it held before the pool counted.
    pub uncounted: u64,
}

impl Limit {
    /// Bytes that can be filled.
    pub fn to_fill(self) -> u64 {
        self.size.saturating_sub(self.held_back)
    }
}

/// A share that has a file system for itself, and what else is in that; both by one mount, so that files
/// can be linked from the one into the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// The root of the share.
    pub share: PathBuf,
    /// A directory that no container sees. The next process that opens the share empties it.
    pub beside: PathBuf,
}

/// What there is to tell of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// `image` or `dir`.
    pub kind: &'static str,
    /// Its image file or directory, in this process's mount namespace.
    pub path: PathBuf,
    /// The device that its image is attached to.
    pub device: Option<PathBuf>,
    /// What its file system holds.
    pub space: Space,
    /// Bytes by which that may still grow.
    pub growable: u64,
}

impl Description {
    /// Whether its file system has nothing but the pool, so that deleting is what makes room.
    pub fn is_alone(&self) -> bool {
        self.device.is_some()
    }
}

/// What a pool cannot do.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// There is a share of this name already.
    #[error("pool has a share {0} already")]
    Exists(ShareName),
    /// There is no such share.
    #[error("pool has no share {0}")]
    Missing(ShareName),
    /// No such pool.
    #[error("there is no pool {name}; allowed are {known}")]
    Unknown {
        /// What was asked for.
        name: PoolName,
        /// Those that there are.
        known: String,
    },
    /// The pool cannot be made: the host has no room, or the settings are wrong.
    #[error("{0}")]
    NotMade(String),
    /// The pool's image is in use by somebody else, where two writers would destroy it.
    #[error("{0}")]
    Taken(String),
    /// Copying takes too long.
    #[error("copying the files of {0} takes too long")]
    TimeOut(ShareName),
    /// What a container has made in a share would be missing in a copy without a word.
    #[error("there is a btrfs subvolume `{name}` in {share}, which no snapshot holds")]
    Inside {
        /// The share.
        share: ShareName,
        /// The subvolume, as it is called in its directory.
        name: String,
    },
    /// What would be reserved in full cannot be: whoever asks for it may ask for less.
    #[error(
        "{} MiB of the host's disk are wanted, and {} MiB can be had; `docker pgvol purge` gives back what \
         is in the trash",
        wanted >> 20, room >> 20
    )]
    NoRoom {
        /// Bytes that are asked for.
        wanted: u64,
        /// Bytes that the host has free above its floor.
        room: u64,
    },
    /// What a share holds cannot be limited, and why.
    #[error("it knows no limits: {0}")]
    NoLimits(&'static str),
    /// A fault of ours.
    #[error("internal error: {0}")]
    Internal(String),
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

/// A place for shares. Calls block; each may be made for different shares at once, while calls
/// for one share come one after another: the caller sees to that.
///
/// A share's life: `create` or `snapshot`, then `locate` any number of times, then `delete`. A process that is
/// killed in `create`, `snapshot` or `delete` leaves part of a share behind, which `delete` removes: the
/// caller knows from its catalog that it has to call it.
///
/// What is in a share is written by containers, so no path below one is trusted.
pub trait Pool: Send + Sync + fmt::Debug {
    /// Makes the share `name`, its root owned by root (0755) unless listed, with these directories and
    /// what it may hold, as [`Pool::limit`] says. It is
    /// durable on return. [`PoolError::Exists`] leaves the share that is there as it is; after
    /// any other error part of the new one may be there, for `delete`.
    fn create(
        &self,
        name: &ShareName,
        directories: &[Directory],
        limit: Option<Limit>,
    ) -> Result<(), PoolError>;

    /// How [`Pool::snapshot`] captures the share `name`.
    fn capture(&self, name: &ShareName) -> Capture;

    /// Makes the share `new` with the content of the share `of`, which is left as it is. It is
    /// durable on return and lives on its own: either can be deleted. Errors are those of `create`;
    /// [`PoolError::Inside`]; where files are copied also [`PoolError::TimeOut`], when that is not done in
    /// time, and whatever `pace` says to a copy that nobody wants any more.
    fn snapshot(
        &self,
        of: &ShareName,
        new: &ShareName,
        kind: Captured,
        pace: &Pace,
    ) -> Result<(), PoolError>;

    /// The root of the share, to be bound elsewhere. The path is valid in this process's mount
    /// namespace. [`PoolError::Missing`] when there is none.
    fn locate(&self, name: &ShareName) -> Result<PathBuf, PoolError>;

    /// Deletes the share `name` with all its content; none there is success.
    fn delete(&self, name: &ShareName) -> Result<(), PoolError>;

    /// What the pool is and how full.
    fn describe(&self) -> Result<Description, PoolError>;

    /// Whether shares of this pool can have limits, before any is asked for.
    fn prepare_limits(&self) -> Result<(), PoolError>;

    /// From here on the share may hold that, or as much as there is. A pool that is closed forgets
    /// some of it: it is told again after a start. [`PoolError::NoLimits`] where that cannot be
    /// changed.
    fn limit(&self, name: &ShareName, limit: Option<Limit>) -> Result<(), PoolError>;

    /// What the share is charged with by the pool's own count, and the most that it may be; none
    /// where that is not counted.
    fn charge(&self, name: &ShareName) -> Result<Option<Charge>, PoolError>;

    /// The share beside a directory of the same file system, where that is not the pool's.
    fn aside(&self, _: &ShareName) -> Result<Option<Aside>, PoolError> {
        Ok(None)
    }

    /// Called every half second: sees to it that there is room ahead of use. Tells whether there
    /// is more now.
    fn tend(&self) -> Result<bool, PoolError> {
        Ok(false)
    }

    /// Gives the host back what is not needed ahead of use, and tells how many bytes. It takes
    /// as long as moving what is in the way; killed or failing half-way, what was given back by
    /// then is.
    fn give_back(&self) -> Result<u64, PoolError> {
        Ok(0)
    }
}
