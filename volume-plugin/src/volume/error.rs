//! Why an operation on a volume is refused, in words for the user.

use super::catalog::CatalogError;
use super::options::OptionError;
use super::trash::Target;
use crate::name::{ShareName, VolumeName};
use crate::pool::{PoolError, PoolName};
use crate::snapshot::SnapshotError;
use crate::sys::SysError;

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No such volume.
    #[error("no such {kind}: {0}", kind = kind(.0))]
    Missing(VolumeName),
    /// The name is taken by a volume that differs.
    #[error("volume {name} exists with other options: {differences}")]
    Conflict {
        /// The volume.
        name: VolumeName,
        /// What differs.
        differences: String,
    },
    /// A pool holds data under the name that no record speaks of.
    #[error(
        "pool {pool} holds data of a volume {share} that the catalog does not know; \
         move it away or create the volume under another name"
    )]
    Orphan {
        /// What it is called in the pool.
        share: ShareName,
        /// The pool.
        pool: PoolName,
    },
    /// Its record cannot be read.
    #[error("the record of volume {name} cannot be read: {reason}")]
    Unreadable {
        /// The volume.
        name: VolumeName,
        /// Why.
        reason: String,
    },
    /// It is on its way in or out.
    #[error("volume {0} is not whole: creating it was interrupted; remove it")]
    Incomplete(VolumeName),
    /// It is not there yet.
    #[error("volume {0} is being made; `docker pgvol inspect {0}` shows how far it is")]
    BeingMade(VolumeName),
    /// A copy of it is under way.
    #[error(
        "{of} is being copied to {name}: wait for that, or end it by `docker pgvol cancel {name}`"
    )]
    Copied {
        /// What is copied.
        of: VolumeName,
        /// What is made.
        name: VolumeName,
    },
    /// Something that takes long is done with it.
    #[error("something else works on {0}, such as a restore: try again when that is done")]
    Busy(VolumeName),
    /// There is nothing to cancel.
    #[error("nothing is being made under the name {0}")]
    NotMade(VolumeName),
    /// Somebody uses it.
    #[error("volume {name} is in use by {holder}")]
    InUse {
        /// The volume.
        name: VolumeName,
        /// Who has it.
        holder: String,
    },
    /// It is for one container alone, and another has it.
    #[error("volume {name} has `access=exclusive` and is in use by {holder}")]
    Exclusive {
        /// The volume.
        name: VolumeName,
        /// Who has it.
        holder: String,
    },
    /// Its WAL stays where it is.
    #[error("the WAL of volume {name} cannot be moved now: {reason}")]
    Unmoved {
        /// The volume.
        name: VolumeName,
        /// Why.
        reason: String,
    },
    /// It stays as it is.
    #[error("volume {name} cannot be restored: {reason}")]
    Unrestored {
        /// The volume.
        name: VolumeName,
        /// Why.
        reason: String,
    },
    /// It stays as it is.
    #[error("snapshot {name} cannot be prepared: {reason}")]
    Unprepared {
        /// The snapshot.
        name: VolumeName,
        /// Why.
        reason: String,
    },
    /// Nothing of that name was removed, or it is being deleted.
    #[error("the trash has no {0}, or it is being deleted already")]
    NotInTrash(Target),
    /// The name that a volume of the trash should get is another's.
    #[error("volume {0} exists: undelete the other one under a name of its own, with --as NAME")]
    Taken(VolumeName),
    /// A pool that knows no limits was asked for one.
    #[error("option `{key}`: pool {pool}")]
    NoLimit {
        /// The option.
        key: String,
        /// The pool.
        pool: PoolName,
        /// What it said.
        source: PoolError,
    },
    /// Nothing is held back of a volume without a size.
    #[error("volume {0} has no size: nothing of it is held back")]
    Unlimited(VolumeName),
    /// A name of the wrong kind.
    #[error(
        "`{0}` is no name for it: volumes are not called like snapshots, and a snapshot keeps its own"
    )]
    Unfit(VolumeName),
    /// Nothing is created while settings are wrong.
    #[error("nothing is created until the plugin's settings are right: {0}")]
    Settings(String),
    /// A snapshot of it is in the way.
    #[error("volume {name} has snapshots that keep it: {}", kept.join(", "))]
    Snapshots {
        /// The volume.
        name: VolumeName,
        /// Its snapshots, each with why.
        kept: Vec<String>,
    },
    /// It is to be kept.
    #[error(
        "snapshot {0} is protected: take that away by `docker pgvol snapshot protect --off {0}`"
    )]
    Protected(VolumeName),
    /// It is a volume.
    #[error("{0} is no snapshot: those are called VOLUME@SNAPSHOT")]
    NoSnapshot(VolumeName),
    /// It is something else.
    #[error("{clone} is no clone of {of}")]
    NoClone {
        /// What was named as one.
        clone: VolumeName,
        /// A snapshot.
        of: VolumeName,
    },
    /// A snapshot whose volume is not there.
    #[error("snapshot {0} goes with its volume, which is not there: take that out of the trash")]
    Widowed(VolumeName),
    /// No copy was made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The options are refused.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// The catalog cannot be written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A pool refused.
    #[error("pool {pool}")]
    Pool {
        /// The pool.
        pool: PoolName,
        /// What it said.
        source: PoolError,
    },
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
    /// A fault of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

impl VolumeError {
    /// Whether it failed for want of space, whatever it is that was full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::System(error)
            | Self::Catalog(CatalogError::System(error))
            | Self::Pool { source: PoolError::System(error), .. } => error.is_full(),
            _ => false,
        }
    }

    /// The pool that it failed for want of space in; none where something else was full.
    pub fn full_pool(&self) -> Option<&PoolName> {
        match self {
            Self::Pool { pool, source: PoolError::System(error) } if error.is_full() => Some(pool),
            _ => None,
        }
    }
}

/// What a name is one of.
fn kind(name: &VolumeName) -> &'static str {
    if name.snapshot().is_some() { "snapshot" } else { "volume" }
}
