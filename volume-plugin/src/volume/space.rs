//! What each role of each volume takes, measured one volume after the other.

use std::sync::Arc;
use std::time::Duration;

use super::catalog::Entry;
use super::freed::Freed;
use super::inspection::Effort;
use super::service::Service;
use super::size::Size;
use super::spec::Role;
use crate::name::VolumeName;
use crate::pool::PoolName;

/// Whoever asks for this waits for it; a pool that hangs is given up all the same.
const EFFORT: Effort =
    Effort { patience: Duration::from_mins(1), measure: Duration::from_secs(30) };

/// A role and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSpace {
    /// The volume.
    pub volume: VolumeName,
    /// Its role.
    pub role: Role,
    /// Where the role lives.
    pub pool: PoolName,
    /// Bytes allocated; none where that could not be seen.
    pub used: Option<u64>,
    /// Bytes that it may hold; none for as much as there is.
    pub limit: Option<u64>,
    /// Bytes that deleting the volume would give back; none where nobody asked or that could not be
    /// seen.
    pub freed: Option<u64>,
}

/// How closely roles are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closely {
    /// What files take.
    Files,
    /// Also who else has the same.
    Extents,
}

impl Service {
    /// Every role of every volume whose record can be read.
    pub async fn role_space(self: &Arc<Self>, closely: Closely) -> Vec<RoleSpace> {
        let mut all = Vec::new();
        let freed = match closely {
            Closely::Files => Freed::new(),
            Closely::Extents => self.freed().await,
        };
        for (volume, entry) in self.catalog.all() {
            let Entry::Volume(record) = entry else { continue };
            let places = self.places(&record).0;
            let mut seen = self.inspector.inspect_with(&volume, places, EFFORT).await;
            let mut roles: Vec<_> =
                record.places().into_iter().map(|(role, home, _)| (role, home.pool)).collect();
            roles.dedup();
            all.extend(roles.into_iter().map(|(role, pool)| RoleSpace {
                volume: volume.clone(),
                used: seen.used.remove(&role),
                freed: freed.get(&(volume.clone(), role.clone())).copied(),
                limit: record.spec.sizes.of(&role).map(Size::bytes),
                role,
                pool,
            }));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, apart};
    use super::Closely;
    use plugin_sdk::durable;

    #[test]
    fn every_role_is_measured_where_it_lives() {
        apart(|| async {
            let world = World::new();
            world.create("v", &[("tablespaces", "t")]).await.unwrap();
            let file = world.dir.path().join("wal/v/wal/file");
            durable::write(&file, &vec![1; 1 << 20]).unwrap();
            let space = world.service.role_space(Closely::Files).await;
            let shown = |at: usize| (space[at].role.to_string(), space[at].pool.to_string());
            assert_eq!(shown(0), ("data".to_owned(), "default".to_owned()));
            assert_eq!(shown(1), ("wal".to_owned(), "wal".to_owned()));
            assert_eq!(shown(2), ("tablespace.t".to_owned(), "default".to_owned()));
            assert!((1 << 20..1 << 21).contains(&space[1].used.unwrap()), "{space:?}");
            assert!(space[0].used.unwrap() < 1 << 20);
        });
    }

    #[test]
    fn what_cannot_be_seen_has_no_size() {
        apart(|| async {
            let world = World::new();
            world.create("v", &[]).await.unwrap();
            std::fs::remove_dir_all(world.dir.path().join("wal/v")).unwrap();
            let space = world.service.role_space(Closely::Files).await;
            assert!(space[0].used.is_some() && space[1].used.is_none(), "{space:?}");
        });
    }
}
