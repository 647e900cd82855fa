//! The `Status` of `docker volume inspect`. Pure: what is known in, JSON out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::catalog::{Entry, Phase, Record};
use super::inspection::Inspection;
use super::mounts::MountIds;
use super::size::Size;
use super::spec::{Access, Layout};
use crate::guard::{Outlook, Running};
use crate::name::{SnapshotName, VolumeName};
use crate::pool::PoolName;
use crate::postgres::control::Cluster;
use crate::snapshot::retention::Keep;
use crate::snapshot::schedule::Schedule;
use crate::snapshot::{Failure, History, Origin, Taken, Unmade, Work};

/// What is known of a volume beside its record.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What was seen in its directories.
    pub inspection: Inspection,
    /// Its mounts.
    pub mounts: MountIds,
    /// Why a pool of it cannot be used at present.
    pub trouble: Option<String>,
    /// What its guard knows.
    pub outlook: Outlook,
    /// What will go wrong unless somebody does something.
    pub alarms: Vec<String>,
    /// Its snapshots.
    pub snapshots: Vec<(SnapshotName, Entry)>,
    /// How far it is, while it is being made.
    pub(crate) making: Option<Making>,
    /// What was to be made of it while nobody waited, and was not.
    pub(crate) unmade: Vec<Unmade>,
    /// When its schedule takes the next, and what became of the last.
    pub(crate) schedule: (Option<Timestamp>, History),
}

/// A copy that is being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Making {
    /// Of what.
    of: VolumeName,
    /// Bytes.
    done: u64,
    /// Bytes in all, where they could be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// It was cancelled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ending: bool,
}

impl Making {
    pub(crate) fn of(work: &Work) -> Self {
        let total = work.progress.total();
        let done = work.progress.done().min(total.unwrap_or(u64::MAX));
        Self { of: work.of.clone(), done, total, ending: work.progress.is_cancelled() }
    }

    /// One that is yet to be begun anew.
    pub(crate) fn left(of: VolumeName) -> Self {
        Self { of, done: 0, total: None, ending: false }
    }
}

/// See the module. Fields that are not known are left out.
#[derive(Debug, Serialize)]
pub struct Status {
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Making>,
    #[serde(flatten)]
    volume: Option<Volume>,
}

#[derive(Debug, Serialize)]
struct Volume {
    layout: Layout,
    access: Access,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<String>,
    labels: BTreeMap<String, String>,
    roles: BTreeMap<String, RoleStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres: Option<Postgres>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guard: Option<Guard>,
    mounts: MountIds,
    /// Of a volume that takes snapshots by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleStatus>,
    /// Those that are whole; of a volume that is no snapshot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<Snapshot>,
    /// What could not be made of it in the background since this process began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmade: Vec<Unmade>,
    /// How many starts of the plugin have begun to make it anew.
    #[serde(skip_serializing_if = "super::record::is_none")]
    begun_anew: u32,
    /// Of a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<Box<Taken>>,
    /// Of a clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Box<Origin>>,
}

/// When snapshots are taken, and what became of that since this process began.
#[derive(Debug, Serialize)]
struct ScheduleStatus {
    cron: Schedule,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<Keep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Timestamp>,
    /// Why the last is not there; it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    /// How many of the last were not taken, since nobody was there.
    #[serde(skip_serializing_if = "is_none")]
    missed: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// A snapshot, as its volume shows it.
#[derive(Debug, Serialize)]
struct Snapshot {
    name: SnapshotName,
    /// In whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(flatten)]
    taken: Option<Box<Taken>>,
    /// Why it is not what it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Snapshot {
    fn new((name, entry): (SnapshotName, Entry)) -> Option<Self> {
        match entry {
            Entry::Unreadable(reason) => {
                Some(Self { name, time: None, taken: None, reason: Some(reason) })
            }
            Entry::Volume(record) if record.phase == Phase::Ready => {
                let time = Some(format!("{:.0}", record.created));
                Some(Self { name, time, taken: record.taken, reason: None })
            }
            Entry::Volume(_) => None,
        }
    }
}

#[derive(Debug, Serialize)]
struct Postgres {
    #[serde(flatten)]
    cluster: Option<Cluster>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    running: Vec<Running>,
}

/// Shown once there is something to tell.
#[derive(Debug, Serialize)]
struct Guard {
    /// Servers that were kept from starting beside another.
    refused: u64,
    /// Opens that were allowed since they could not be judged.
    unjudged: u64,
}

#[derive(Debug, Serialize)]
struct RoleStatus {
    pool: PoolName,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// Of the limit, what is held back from the server, or was until it was released.
    #[serde(skip_serializing_if = "Option::is_none")]
    reserve: Option<Reserve>,
}

#[derive(Debug, Serialize)]
struct Reserve {
    bytes: u64,
    released: bool,
}

impl Status {
    /// The status of the volume with this entry.
    pub fn new(entry: Entry, known: Known) -> Self {
        match entry {
            Entry::Unreadable(reason) => {
                Self { state: "degraded", reason: Some(reason), progress: None, volume: None }
            }
            Entry::Volume(record) => {
                let trouble = known.trouble.as_ref().or(known.inspection.trouble.as_ref());
                let failure = known.schedule.1.failure.as_ref();
                let failure =
                    failure.map(|failure| format!("scheduled snapshots fail: {}", failure.reason));
                let trouble = trouble.or(known.outlook.trouble.as_ref()).or(failure.as_ref());
                let state = match (record.phase, trouble) {
                    (Phase::Creating, _) => "creating",
                    (Phase::Ready, Some(_)) => "degraded",
                    (Phase::Ready, None) => "ok",
                };
                let (reason, progress) = (trouble.cloned(), known.making.clone());
                Self { state, reason, progress, volume: Some(Volume::new(record, known)) }
            }
        }
    }
}

impl Volume {
    fn new(record: Record, known: Known) -> Self {
        let mut roles = BTreeMap::<String, RoleStatus>::new();
        for (role, home, path) in record.places() {
            let pool = home.pool;
            let used = known.inspection.used.get(&role).copied();
            let path = if path.is_empty() { ".".to_owned() } else { path };
            if let Some(shown) = roles.get_mut(&role.to_string()) {
                // Of several clusters.
                shown.path = format!("{}, {path}", shown.path);
                continue;
            }
            let (size, released) = (record.spec.sizes.of(&role), record.spec.sizes.released);
            let size = size.filter(|_| !record.is_snapshot());
            let limit = size.map(Size::bytes);
            let reserve = size.map(|size| Reserve { bytes: size.reserve(), released });
            roles.insert(role.to_string(), RoleStatus { pool, path, used, limit, reserve });
        }
        let Outlook { running, refused, unjudged, .. } = known.outlook;
        let cluster = known.inspection.cluster;
        let (next, History { failure, missed }) = known.schedule;
        let keep = record.spec.keep;
        let schedule = record.spec.schedule;
        let schedule = schedule.map(|cron| ScheduleStatus { cron, keep, next, failure, missed });
        let starts = record.unattended.map_or(record.begun_anew, |asked| asked.starts);
        let some = cluster.is_some() || !running.is_empty();
        Self {
            layout: record.spec.layout,
            access: record.spec.access,
            alarms: known.alarms,
            roles,
            labels: record.spec.labels,
            postgres: some.then_some(Postgres { cluster, running }),
            guard: (refused + unjudged > 0).then_some(Guard { refused, unjudged }),
            mounts: known.mounts,
            schedule,
            snapshots: known.snapshots.into_iter().filter_map(Snapshot::new).collect(),
            unmade: known.unmade,
            begun_anew: starts,
            snapshot: record.taken,
            // What it is to the user is its name.
            origin: record.origin.map(|origin| Box::new(Origin { original: None, ..*origin })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::options;
    use crate::volume::spec::Role;
    use serde_json::json;

    fn record(phase: Phase) -> Record {
        let raw = [("tablespaces", "t"), ("label.a", "b"), ("size", "1G")];
        let raw = raw.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let pools = [PoolName::new("default"), PoolName::new("wal")];
        Record {
            name: "v".parse().unwrap(),
            phase,
            created: "2026-11-22T12:00:00Z".parse().unwrap(),
            share: "v".parse().unwrap(),
            spec: options::parse(&raw.into(), &pools, Layout::Split).unwrap(),
            wal_directories: Vec::new(),
            moving: None,
            restoring: None,
            content: None,
            taken: None,
            origin: None,
            unattended: None,
            begun_anew: 0,
            scheduled_since: None,
        }
    }

    fn json(entry: Entry, known: Known) -> serde_json::Value {
        serde_json::to_value(Status::new(entry, known)).unwrap()
    }

    #[test]
    fn a_volume_shows_its_roles_labels_and_mounts() {
        let known = Known {
            inspection: Inspection { used: [(Role::Data, 4096)].into(), ..Inspection::default() },
            mounts: [("id".parse().unwrap(), 2)].into(),
            ..Known::default()
        };
        assert_eq!(
            json(Entry::Volume(record(Phase::Ready)), known),
            json!({
                "state": "ok",
                "layout": "split",
                "access": "guarded",
                "labels": {"a": "b"},
                "roles": {
                    "data": {
                        "pool": "default", "path": "data", "used": 4096, "limit": 1 << 30,
                        "reserve": {"bytes": 64 << 20, "released": false},
                    },
                    "wal": {"pool": "wal", "path": "wal"},
                    "tablespace.t": {"pool": "default", "path": "tablespaces/t"},
                },
                "mounts": {"id": 2},
            })
        );
    }

    #[test]
    fn a_state_has_its_reason() {
        let known =
            |trouble: Option<&str>| Known { trouble: trouble.map(Into::into), ..Known::default() };
        let degraded = json(Entry::Volume(record(Phase::Ready)), known(Some("no pool")));
        assert_eq!(
            (&degraded["state"], &degraded["reason"]),
            (&json!("degraded"), &json!("no pool"))
        );
        let creating = json(Entry::Volume(record(Phase::Creating)), known(None));
        assert_eq!((&creating["state"], creating.get("reason")), (&json!("creating"), None));
        let unreadable = json(Entry::Unreadable("damaged".into()), known(None));
        assert_eq!(unreadable, json!({"state": "degraded", "reason": "damaged"}));
    }
}
