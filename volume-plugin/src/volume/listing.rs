//! What Docker is told of volumes: which there are, where they are, and all about one.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::catalog::{Entry, Phase, Record};
use super::error::VolumeError;
use super::inspection::RolePlace;
use super::service::Service;
use super::status::{Known, Making, Status};
use super::{trash, usage};
use crate::name::VolumeName;
use crate::sys::beneath::Dir;

/// Which snapshots `docker volume ls` shows. All of them answer to their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedSnapshots {
    /// Those that somebody has asked for.
    Asked,
    /// Those that schedules took too.
    All,
}

/// `asked` or `all`.
#[derive(Debug, thiserror::Error)]
#[error("allowed are asked and all")]
pub struct ListedError;

impl FromStr for ListedSnapshots {
    type Err = ListedError;

    fn from_str(text: &str) -> Result<Self, ListedError> {
        match text {
            "asked" => Ok(Self::Asked),
            "all" => Ok(Self::All),
            _ => Err(ListedError),
        }
    }
}

/// How long measuring what is in the trash may take.
const MEASURE: Duration = Duration::from_secs(2);

/// A volume in the trash as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Names it alone.
    pub id: String,
    /// What it was called; none where its record cannot be read.
    pub name: Option<VolumeName>,
    /// When it was removed and when it goes by itself; none once it is being deleted.
    pub time: Option<(Timestamp, Timestamp)>,
    /// Bytes that it takes; none where that takes long to find out.
    pub used: Option<u64>,
    /// Why it cannot be had back, beside being deleted.
    pub reason: Option<String>,
}

impl Service {
    /// Where `name` is mounted, if it is.
    pub fn path(&self, name: &VolumeName) -> Result<Option<PathBuf>, VolumeError> {
        if self.catalog.get(name).is_none() {
            return Err(VolumeError::Missing(name.clone()));
        }
        Ok((!self.mounts.of(name).is_empty()).then(|| self.views.path(name)))
    }

    /// The volume `name` as it is shown, with all that can be told within a moment. A volume of
    /// ours always has an answer; one that is only being made is not there yet, unless it takes longer than
    /// anybody waits for an answer.
    pub async fn get(&self, name: &VolumeName) -> Option<(Entry, Status)> {
        let making = self.making(name);
        let entry = self.catalog.get(name).filter(|entry| is_whole(entry) || making.is_some())?;
        let mut known = Known { mounts: self.mounts.of(name), making, ..Known::default() };
        if let Entry::Volume(record) = &entry {
            let (places, trouble) = self.places(record);
            known.trouble = trouble;
            known.outlook = self.guard.outlook(name);
            known.alarms = self.alarms(record);
            known.inspection = self.inspector.inspect(name, places).await;
            if !record.is_snapshot() {
                known.snapshots = self.catalog.snapshots(&record.share);
                known.schedule = (self.next_of(record), self.schedules.history(record));
                let is_there = |name: &VolumeName| {
                    self.catalog.get(name).is_some_and(|entry| is_whole(&entry))
                };
                known.unmade = self.copies.unmade(name);
                known.unmade.retain(|unmade| !is_there(&unmade.name));
            }
        }
        Some((entry.clone(), Status::new(entry, known)))
    }

    /// Names of all volumes and where the mounted ones are.
    pub fn list(&self) -> Vec<(VolumeName, Option<PathBuf>)> {
        let listed = |entry: &Entry| match entry {
            Entry::Volume(record) => self.listed == ListedSnapshots::All || !record.is_scheduled(),
            Entry::Unreadable(_) => true,
        };
        let all = self.catalog.all().into_iter();
        let is_made = |name: &VolumeName| match self.copies.shown(name) {
            Some(work) => work.is_listed(),
            None => self.left_of(name).is_some(),
        };
        all.filter(|(name, entry)| (is_whole(entry) || is_made(name)) && listed(entry))
            .map(|(name, _)| {
                let view = (!self.mounts.of(&name).is_empty()).then(|| self.views.path(&name));
                (name, view)
            })
            .collect()
    }

    /// How far `name` is, if it is being made, or was when the plugin was started and will be again.
    pub(crate) fn making(&self, name: &VolumeName) -> Option<Making> {
        let work = self.copies.shown(name).map(|work| Making::of(&work));
        work.or_else(|| self.left_of(name).map(Making::left))
    }

    /// The roles in pools that are open, and what is wrong with the others.
    pub(super) fn places(&self, record: &Record) -> (Vec<RolePlace>, Option<String>) {
        let mut places = Vec::new();
        let mut trouble = None;
        for (role, home, path) in record.places() {
            let (share, pool_name) = (record.share_at(&home), home.pool);
            if let Some(pool) = self.pools.open_already(&pool_name) {
                places.push(RolePlace { role, share, pool_name, path, pool });
            } else if let Some(reason) = self.pools.trouble(&pool_name) {
                trouble.get_or_insert_with(|| format!("pool {pool_name}: {reason}"));
            }
        }
        (places, trouble)
    }

    /// What is to be told of the pools that the volume lives in.
    pub(super) fn alarms(&self, record: &Record) -> Vec<String> {
        let mut pools: Vec<_> =
            record.spec.shares().into_iter().map(|(home, _)| home.pool).collect();
        pools.sort();
        pools.dedup();
        pools
            .into_iter()
            .filter_map(|pool| Some(format!("pool {pool}: {}", self.upkeep.alarm(&pool)?)))
            .chain(self.upkeep.fullness(&record.name))
            .collect()
    }

    /// All that is in the trash, the last removed at the end.
    pub async fn show_trash(self: Arc<Self>) -> Result<Vec<Shown>, VolumeError> {
        let mut all = self.catalog.trash();
        all.sort_by_key(|(_, trashed)| trashed.since());
        let mut shown = Vec::new();
        let deadline = Instant::now() + MEASURE;
        for (share, trashed) in all {
            let used = match &trashed.record {
                Ok(record) => self.measure(record, deadline).await,
                Err(_) => None,
            };
            shown.push(Shown {
                id: trash::id(&share),
                time: trashed.since().map(|since| (since, self.trash_time.end(since))),
                name: trashed.record.as_ref().ok().map(|record| record.name.clone()),
                used,
                reason: trashed.record.err(),
            });
        }
        Ok(shown)
    }

    async fn measure(self: &Arc<Self>, record: &Record, deadline: Instant) -> Option<u64> {
        let shares = self.shares(record).await.ok()?;
        let measured = self.blocking(move |_| {
            let mut total = 0;
            for path in shares.iter().filter_map(|share| share.find().ok()?) {
                let used = Dir::open(&path).and_then(|dir| usage::used(&dir, deadline));
                match used {
                    Ok(Some(bytes)) => total += bytes,
                    _ => return Ok(None),
                }
            }
            Ok(Some(total))
        });
        measured.await.ok()?
    }
}

fn is_whole(entry: &Entry) -> bool {
    !matches!(entry, Entry::Volume(record) if record.phase == Phase::Creating)
}
