//! All volumes and pools at a glance: what is known without a look into any directory of a volume, so that
//! it is answered at once whatever hangs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use plugin_sdk::chain::chain;

use super::catalog::Entry;
use super::error::VolumeError;
use super::service::Service;
use super::status::{Known, Status};
use crate::name::VolumeName;
use crate::pool::{Description, PoolName};
use crate::sys::mountinfo;

/// A volume at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// Its name.
    pub name: VolumeName,
    /// As in Status.
    pub state: &'static str,
    /// Why it is in that state.
    pub reason: Option<String>,
    /// What its record says; none where the record cannot be read.
    pub recorded: Option<Recorded>,
    /// How many mount ids it is mounted for.
    pub mounts: usize,
}

/// What stays the same for as long as the volume lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// When it was created.
    pub created: Timestamp,
    /// How it is laid out, by the option's word.
    pub layout: String,
    /// The user's own words.
    pub labels: BTreeMap<String, String>,
}

/// A pool at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolGlance {
    /// Its name.
    pub name: PoolName,
    /// What it is; none while it is not open.
    pub description: Option<Description>,
    /// Why it cannot be used.
    pub trouble: Option<String>,
    /// What will go wrong unless somebody does something.
    pub alarm: Option<String>,
}

impl Service {
    /// Every volume, those that are being made among them.
    pub fn glance(&self) -> Vec<Glance> {
        self.catalog.all().into_iter().map(|(name, entry)| self.glance_at(name, entry)).collect()
    }

    fn glance_at(&self, name: VolumeName, entry: Entry) -> Glance {
        let ids = self.mounts.of(&name);
        let mounts = ids.len();
        let making = self.making(&name);
        let (mut known, mut recorded) = (Known { mounts: ids, making, ..Known::default() }, None);
        if let Entry::Volume(record) = &entry {
            known.trouble = self.places(record).1.or(self.inspector.last(&name).trouble);
            known.outlook = self.guard.outlook(&name);
            recorded = Some(Recorded {
                created: record.created,
                layout: record.spec.layout.to_string(),
                labels: record.spec.labels.clone(),
            });
        }
        let Status { state, reason, .. } = Status::new(entry, known);
        Glance { name, state, reason, recorded, mounts }
    }

    /// Every pool. Asks their file systems, away from those that answer calls.
    pub async fn glance_at_pools(
        self: &std::sync::Arc<Self>,
    ) -> Result<Vec<PoolGlance>, VolumeError> {
        self.blocking(|service| Ok(service.pools.names().map(|name| service.pool(name)).collect()))
            .await
    }

    fn pool(&self, name: &PoolName) -> PoolGlance {
        let described = self.pools.open_already(name).map(|pool| pool.describe()).transpose();
        let (description, trouble) = match described {
            Ok(description) => (description, self.pools.trouble(name)),
            Err(error) => (None, Some(chain(&error))),
        };
        PoolGlance { name: name.clone(), description, trouble, alarm: self.upkeep.alarm(name) }
    }
}

/// What the host calls `path` of this process's mount namespace; none where that cannot be seen.
pub fn on_host(path: &Path) -> Option<PathBuf> {
    let place = mountinfo::place(&mountinfo::own().ok()?, path)?;
    mountinfo::points_of(&mountinfo::of("1").ok()?, &place).next()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, apart, name};
    use super::*;
    use plugin_sdk::durable;

    #[test]
    fn volumes_are_seen_with_their_state_and_mounts() {
        apart(|| async {
            let world = World::new();
            world.create("v", &[("label.a", "b")]).await.unwrap();
            world.mount("v", "1").await.unwrap();
            let [glance] = &world.service.glance()[..] else { panic!() };
            assert_eq!((glance.state, glance.mounts, glance.reason.as_deref()), ("ok", 1, None));
            let recorded = glance.recorded.as_ref().unwrap();
            assert_eq!((&*recorded.layout, &*recorded.labels["a"]), ("split", "b"));
        });
    }

    #[test]
    fn a_record_that_cannot_be_read_is_seen_as_degraded() {
        apart(|| async {
            let world = World::new();
            durable::write(&world.dir.path().join("catalog/v.record"), b"torn").unwrap();
            let world = world.restarted();
            let [glance] = &world.service.glance()[..] else { panic!() };
            assert_eq!((glance.state, &glance.recorded), ("degraded", &None));
            assert!(glance.reason.is_some());
        });
    }

    #[test]
    fn a_pool_is_described_once_it_is_open() {
        apart(|| async {
            let world = World::new();
            let pools = world.service.glance_at_pools().await.unwrap();
            assert!(pools.iter().all(|pool| pool.description.is_none() && pool.trouble.is_none()));
            world.create("v", &[]).await.unwrap();
            let pools = world.service.glance_at_pools().await.unwrap();
            assert_eq!(pools.len(), 2);
            for pool in pools {
                assert_eq!(pool.description.unwrap().kind, "dir", "{}", pool.name);
            }
        });
    }

    #[test]
    fn a_volume_whose_share_is_gone_is_degraded_once_it_was_looked_at() {
        apart(|| async {
            let world = World::new();
            world.create("v", &[]).await.unwrap();
            std::fs::remove_dir_all(world.dir.path().join("wal/v")).unwrap();
            world.service.get(&name("v")).await.unwrap();
            let [glance] = &world.service.glance()[..] else { panic!() };
            assert_eq!(glance.state, "degraded");
            assert!(glance.reason.as_ref().unwrap().contains("pool wal"));
        });
    }

    #[test]
    fn the_host_s_path_of_a_file_is_found() {
        // Here both namespaces are the same.
        let dir = tempfile::tempdir().unwrap();
        assert!(on_host(dir.path()).is_some());
    }
}
