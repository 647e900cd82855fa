//! What is kept of a snapshot and of a clone, in their records, and shown in Status.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Level;
use crate::name::VolumeName;
use crate::postgres::backup::Backup;

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
    /// Whether servers made a checkpoint before; none where none ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// What the server said of its backup, at the level of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// The clusters in it.
    pub clusters: Vec<ClusterFacts>,
    /// What was looked at, and passed.
    pub checks: Vec<Check>,
    /// Whether it is kept whatever happens.
    #[serde(default)]
    pub protected: bool,
    /// Whether the volume's schedule took it, and its retention may remove it.
    #[serde(default)]
    pub scheduled: bool,
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
}

/// A check that a copy passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What it found.
    pub found: String,
    /// When, where that was later than the copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// Where a clone comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The volume or snapshot.
    pub from: VolumeName,
    /// When.
    pub at: Timestamp,
    /// How consistent it was.
    pub consistency: Level,
    /// What was disarmed; none where that was not wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sanitised: Option<Vec<Disarmed>>,
}

/// Something in a clone that would have reached out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disarmed {
    /// Its cluster's directory below that of the data.
    pub directory: String,
    /// What it was.
    pub what: String,
}
