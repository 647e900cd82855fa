//! What is kept of a snapshot and of a clone, in their records, and shown in Status.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Level;
use crate::name::{ShareName, SnapshotName, VolumeName};
use crate::postgres::backup::Backup;
use crate::volume::catalog::Record;

/// How a copy was taken and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// How consistent it is.
    pub consistency: Level,
    /// How long capturing took, in milliseconds.
    pub took_ms: u64,
    /// How often it had to be begun anew, since the server was quicker.
    pub retries: u32,
    /// For how long those who have the volume were stopped for it, in milliseconds; none where they were
    /// not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<u64>,
    /// Of that, what took how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall: Option<Stall>,
    /// Whether servers made a checkpoint before; none where none ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// What the server said of its backup, at the level of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// The clusters in it.
    pub clusters: Vec<ClusterFacts>,
    /// What was looked at, each with what came of it last.
    pub checks: Vec<Check>,
    /// Whether it is kept whatever happens.
    #[serde(default)]
    pub protected: bool,
    /// Whether the volume's schedule took it, and its retention may remove it.
    #[serde(default)]
    pub scheduled: bool,
    /// Of one that is another as its server left it after recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Prepared>,
}

impl Taken {
    /// The clusters whose servers were taking an exclusive backup, by their directories.
    pub(super) fn backed_up(&self) -> BTreeSet<PathBuf> {
        let clusters = self.clusters.iter().filter(|cluster| cluster.exclusive_backup);
        clusters.map(|cluster| PathBuf::from(&cluster.directory)).collect()
    }
}

/// What those who have the volume waited for while they were stopped, in microseconds; the data is captured at
/// the same time as all that follows it here, but where files are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stall {
    /// Until all had stopped.
    pub stopping_us: u64,
    /// Capturing the data, or the control file where files are copied.
    pub data_us: u64,
    /// Holding on to WAL.
    pub holding_us: u64,
    /// Copying files, and capturing tablespaces of other pools.
    pub others_us: u64,
    /// Reading the WAL that was being written.
    pub wal_us: u64,
}

/// What a snapshot was before it was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The snapshot of the same volume that clones are asked for.
    pub of: SnapshotName,
    /// What was disarmed for it, as in a clone.
    pub sanitised: Vec<Disarmed>,
}

/// Whether a checkpoint was made before a copy, which then has less to recover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checkpoint {
    /// It took so many milliseconds.
    TookMs(u64),
    /// It was not, and why.
    NotMade(String),
}

/// A cluster of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// Its directory below that of the data; empty for that itself.
    pub directory: String,
    /// The major version.
    pub version: String,
    /// The cluster's own number.
    pub system_identifier: String,
    /// Of the last checkpoint.
    pub timeline: u32,
    /// The checkpoint that recovery begins with.
    pub checkpoint: String,
    /// Where it begins to read.
    pub redo: String,
    /// Where the WAL of the copy ends.
    pub wal_end: String,
    /// Whether its server was taking an exclusive backup, of which a label is in the copy that is not
    /// for whoever recovers from this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclusive_backup: bool,
}

/// A check of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Outcome::is_passed")]
    pub outcome: Outcome,
    /// What it found.
    pub found: String,
    /// When, where that was later than the copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl Check {
    /// One that was passed.
    pub fn passed(name: &str, found: String) -> Self {
        Self { name: name.to_owned(), outcome: Outcome::Passed, found, at: None }
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing is wrong.
    #[default]
    Passed,
    /// It found what should not be.
    Failed,
    /// It could not be made.
    NotPossible,
}

impl Outcome {
    /// Whether it is [`Self::Passed`].
    pub fn is_passed(&self) -> bool {
        *self == Self::Passed
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotPossible => "not possible",
        })
    }
}

/// Where a clone comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The volume or snapshot, as it was called then.
    pub from: VolumeName,
    /// Which one that was of all that ever had the name; none in records of before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
    /// When.
    pub at: Timestamp,
    /// How consistent it was.
    pub consistency: Level,
    /// Whether it was made of what the snapshot was prepared to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prepared: bool,
    /// What was disarmed; none where that was not wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sanitised: Option<Vec<Disarmed>>,
}

/// A volume or snapshot, whatever it is called by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// Its share, of whose name there may be another when it is deleted.
    share: ShareName,
    created: Timestamp,
}

impl Original {
    /// That of `record`.
    pub fn of(record: &Record) -> Self {
        Self { share: record.share.clone(), created: record.created }
    }
}

/// Something in a clone that would have reached out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disarmed {
    /// Its cluster's directory below that of the data.
    pub directory: String,
    /// What it was.
    pub what: String,
}
