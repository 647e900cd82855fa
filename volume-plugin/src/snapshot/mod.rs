//! Snapshots and clones: copies of a volume that recover.
//!
//! What makes a copy of a running server's files recoverable is their order: the data with its control
//! file first, tablespaces of other pools next, the WAL last, from the redo point of that control file on
//! without a gap. `capture` sees to the order and `checks` looks at the result before anybody hears of it;
//! a copy of WAL that was taken before the data starts without a complaint and is corrupt.
//!
//! A snapshot is a volume, `VOLUME@SNAPSHOT`, that is mounted read-only; a clone is a volume of its own.
//! Both are made as volumes are: a record that says so first, the shares, the record that all is there
//! last.

mod anew;
mod backing_up;
mod barrier;
mod capture;
mod checks;
mod checksum;
mod cloning;
mod copying;
mod facts;
mod hot;
mod inside;
mod keeping;
mod links;
mod live;
mod pages;
mod preparing;
mod restoring;
pub mod retention;
mod sanitise;
pub mod schedule;
mod stopping;
mod taking;
#[cfg(test)]
mod tests;
mod trying;
mod under_way;
mod verifying;
mod walcopy;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pool::PoolName;
use crate::postgres::wal::WalError;

pub(crate) use keeping::{Failure, History, Schedules};
pub(crate) use taking::{Cause, Making};
pub(crate) use under_way::{UnderWay, Unmade, Waiting, Work};

pub use anew::Unattended;
pub use facts::{
    Check, Checkpoint, ClusterFacts, Disarmed, Origin, Original, Outcome, Prepared, Stall, Taken,
};
pub use restoring::Restoring;
pub use taking::Listed;
pub use trying::Placed;
pub use verifying::Depth;

/// How consistent a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// No server ran, and the last one had ended cleanly: nothing has to be recovered.
    Offline,
    /// No server ran; the last one had crashed.
    OfflineUnclean,
    /// Everything at one instant.
    Atomic,
    /// The data at one instant or after its control file, tablespaces of other pools, WAL last.
    Ordered,
    /// Everything while all that may write was stopped.
    Barrier,
    /// File by file while the server took a backup of itself, whose label recovery needs.
    Backup,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offline => "offline",
            Self::OfflineUnclean => "offline-unclean",
            Self::Atomic => "atomic",
            Self::Ordered => "ordered",
            Self::Barrier => "barrier",
            Self::Backup => "backup",
        })
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// The best that can be had.
    #[default]
    Auto,
    /// With no server running.
    Offline,
    /// All at one instant.
    Atomic,
    /// In order.
    Ordered,
    /// With all stopped that may write.
    Barrier,
    /// Under a backup of the server.
    Backup,
}

impl Consistency {
    /// `auto`, and what it tries, in that order.
    pub const ALL: [Self; 6] =
        [Self::Auto, Self::Offline, Self::Atomic, Self::Ordered, Self::Barrier, Self::Backup];
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Offline => "offline",
            Self::Atomic => "atomic",
            Self::Ordered => "ordered",
            Self::Barrier => "barrier",
            Self::Backup => "backup",
        })
    }
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// What was asked for is not to be had.
    #[error("option `consistency`: `{wanted}` cannot be had: {why}")]
    Level {
        /// What was asked for.
        wanted: Consistency,
        /// Why not.
        why: String,
    },
    /// The copy did not pass a check.
    #[error("the copy did not pass the check `{check}`: {reason}")]
    Check {
        /// Its name.
        check: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The WAL of the copy is not enough.
    #[error("the copy did not pass the check `wal`, tried {tries} times: {source}")]
    Wal {
        /// How often.
        tries: u32,
        /// What was wrong with the last.
        source: WalError,
    },
    /// It was not done in time.
    #[error("copying was not done in time")]
    TimeOut,
    /// It takes longer than Docker waits.
    #[error(
        "copying takes longer than the {} s that Docker can be made to wait; `{command}` does it in the background",
        limit.as_secs()
    )]
    TooLong {
        /// How long it may take.
        limit: Duration,
        /// What may take longer.
        command: String,
    },
    /// Nothing good comes of it.
    #[error("the plugin ended {} times while it was being made", anew::MOST_STARTS + 1)]
    GivenUp,
    /// Somebody wants it no more.
    #[error("it was cancelled")]
    Cancelled,
    /// No room.
    #[error("pool {0} is short of space: no snapshots are taken until there is more")]
    Short(PoolName),
}
