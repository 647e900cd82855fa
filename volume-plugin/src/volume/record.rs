//! What is known of a volume, as it is stored.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::relocation::Moving;
use super::spec::VolumeSpec;
use crate::name::{ShareName, VolumeName};
use crate::snapshot::{Origin, Restoring, Taken, Unattended};

/// How far a volume has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its shares are being made; to be undone if that ends early.
    Creating,
    /// It is whole.
    Ready,
}

/// What is known of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Record {
    /// Its name; a record under another file name is not believed.
    pub name: VolumeName,
    /// How far it has come.
    pub phase: Phase,
    /// When it was created.
    pub created: Timestamp,
    /// What its share is called in each pool, unless `content` says otherwise. No other record, in the
    /// trash or not, has the same; its snapshots are found by it.
    pub share: ShareName,
    /// What its share is called in each pool since it was restored, and that of a snapshot of what was
    /// before a restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<ShareName>,
    /// What it consists of.
    pub spec: VolumeSpec,
    /// Directories below the root that live in the pool of the WAL, each under the same path there:
    /// the `pg_wal` of clusters in the layout `pgdata`, which has no other roles.
    pub wal_directories: Vec<String>,
    /// A move of the WAL that is not finished.
    pub moving: Option<Box<Moving>>,
    /// A restore that is not finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restoring: Option<Box<Restoring>>,
    /// How it was taken; of a snapshot that is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<Box<Taken>>,
    /// Where it comes from; of a clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Box<Origin>>,
    /// What was asked for; of a copy that is being made while nobody waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unattended: Option<Box<Unattended>>,
    /// How many starts of the plugin have begun to make it anew.
    #[serde(skip_serializing_if = "is_none")]
    pub begun_anew: u32,
    /// Since when its schedule is in force, where that is not its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_since: Option<Timestamp>,
}

impl Record {
    /// That of a volume which is made from now on, with nothing of another's.
    pub fn creating(name: VolumeName, share: ShareName, spec: VolumeSpec) -> Self {
        Self {
            name,
            phase: Phase::Creating,
            created: Timestamp::now(),
            share,
            content: None,
            spec,
            wal_directories: Vec::new(),
            moving: None,
            restoring: None,
            taken: None,
            origin: None,
            unattended: None,
            begun_anew: 0,
            scheduled_since: None,
        }
    }

    /// What its share is called in each pool.
    pub fn content(&self) -> &ShareName {
        self.content.as_ref().unwrap_or(&self.share)
    }

    /// Whether it has a share called `share`, or is about to.
    pub fn has_share(&self, share: &ShareName) -> bool {
        let others = match self.restoring.as_deref() {
            Some(Restoring::Copying(other) | Restoring::Keeping(other)) => other.has_share(share),
            None => false,
        };
        others || self.share == *share || self.content() == share
    }

    /// Whether it is a snapshot's.
    pub fn is_snapshot(&self) -> bool {
        self.share.snapshot().is_some()
    }

    /// Whether it is a snapshot that a schedule took.
    pub fn is_scheduled(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.scheduled)
    }

    /// Whether it is a snapshot that is kept whatever happens.
    pub fn is_protected(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.protected)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
pub(super) fn is_none(count: &u32) -> bool {
    *count == 0
}

/// A record of any version.
#[derive(Debug, Deserialize)]
struct Stored {
    name: VolumeName,
    phase: Phase,
    created: Timestamp,
    /// None in version 1, which called the share like the volume.
    share: Option<ShareName>,
    spec: VolumeSpec,
    /// Not before version 3, and neither is the next.
    #[serde(default)]
    wal_directories: Vec<String>,
    moving: Option<Box<Moving>>,
    /// Not before version 5, and neither is `content`.
    restoring: Option<Box<Restoring>>,
    content: Option<ShareName>,
    #[serde(default)]
    taken: Option<Box<Taken>>,
    #[serde(default)]
    origin: Option<Box<Origin>>,
    unattended: Option<Box<Unattended>>,
    #[serde(default)]
    begun_anew: u32,
    scheduled_since: Option<Timestamp>,
}

impl From<Stored> for Record {
    fn from(stored: Stored) -> Self {
        Self {
            share: stored.share.unwrap_or_else(|| stored.name.clone().into()),
            name: stored.name,
            phase: stored.phase,
            created: stored.created,
            spec: stored.spec,
            wal_directories: stored.wal_directories,
            moving: stored.moving,
            restoring: stored.restoring,
            content: stored.content,
            taken: stored.taken,
            origin: stored.origin,
            unattended: stored.unattended,
            begun_anew: stored.begun_anew,
            scheduled_since: stored.scheduled_since,
        }
    }
}
