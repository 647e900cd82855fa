//! Sizes from options to the pool, killed on the way, and what is held back of them.

use std::sync::atomic::Ordering;

use plugin_sdk::durable;

use super::*;
use crate::name::ShareName;
use crate::pool::{Limit, PoolName};
use crate::volume::options::RawOptions;
use crate::volume::testing::{World, apart, name};

const MIB: u64 = 1 << 20;

impl World {
    async fn resized(&self, volume: &str, size: &str) -> Result<(), VolumeError> {
        self.set(volume, "size", size).await
    }

    async fn set(&self, volume: &str, key: &str, size: &str) -> Result<(), VolumeError> {
        let set: RawOptions = [(key.to_owned(), size.to_owned())].into();
        self.service.clone().change(name(volume), set, Vec::new()).await
    }

    /// What the pool was told of the volume `v`, in MiB.
    fn told(&self) -> Option<u64> {
        self.told_of(None)
    }

    /// The same of a role that is alone.
    fn told_of(&self, role: Option<&str>) -> Option<u64> {
        let share: ShareName = "v".parse().unwrap();
        let share = role.map_or_else(|| share.clone(), |role| share.part(role));
        let limits = self.default.limits.lock().unwrap();
        limits.get(&share).map(|limit: &Limit| limit.to_fill() / MIB)
    }

    async fn reserve(&self) -> serde_json::Value {
        self.status("v").await.unwrap()["roles"]["data"]["reserve"]["released"].clone()
    }
}

#[test]
fn a_size_is_in_force_from_creation_on_and_after_a_start() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("size", "160M")]).await.unwrap();
        assert_eq!(world.told(), Some(150));
        // The same again is the same volume, another size is another.
        world.create("v", &[("size", "160M")]).await.unwrap();
        let error = world.create("v", &[("size", "161M")]).await.unwrap_err();
        assert!(error.to_string().contains("`size` is `160M`, not `161M`"), "{error}");
        let world = world.restarted();
        assert_eq!(world.told(), None);
        world.service.clone().recover().await;
        assert_eq!(world.told(), Some(150));
        world.resized("v", "none").await.unwrap();
        assert_eq!(world.told(), None);
    });
}

#[test]
fn a_pool_without_limits_refuses_them_by_name_and_nothing_is_made() {
    apart(|| async {
        let world = World::new();
        let error = world.create("v", &[("pool", "wal"), ("size", "1G")]).await.unwrap_err();
        assert_eq!(chain(&error), "option `size`: pool wal: it knows no limits: it is a test's");
        world.assert_empty();
    });
}

#[test]
fn what_a_volume_holds_is_the_least_that_it_may() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let file = world.dir.path().join("default/v/data/file");
        durable::write(&file, &vec![1; 130 << 20]).unwrap();
        let error = world.resized("v", "128M").await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains("`size`: `128M`") && said.contains("holds 130 MiB"), "{said}");
        assert_eq!(world.told(), None);
        // What was there before anything was counted is taken off.
        world.resized("v", "160M").await.unwrap();
        let limits = world.default.limits.lock().unwrap();
        let told = limits[&"v".parse().unwrap()];
        assert_eq!((told.to_fill() / MIB, told.uncounted / MIB), (150, 130));
    });
}

#[test]
fn what_is_held_back_is_lent_until_there_is_room_again() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let release = |world: &World| world.service.clone().release_reserve(name("v"));
        let error = release(&world).await.unwrap_err();
        assert!(error.to_string().contains("has no size"), "{error}");
        world.resized("v", "160M").await.unwrap();
        assert_eq!(world.reserve().await, false);
        world.default.charged.store(149 * MIB, Ordering::SeqCst);
        world.service.look_at_limits().await;
        let alarms = world.status("v").await.unwrap()["alarms"].to_string();
        assert!(alarms.contains("data: 100 % of its size is in use"), "{alarms}");
        release(&world).await.unwrap();
        world.service.look_at_limits().await;
        assert_eq!((world.reserve().await, world.told()), (true.into(), Some(160)));
        let world = world.restarted();
        world.service.clone().recover().await;
        assert_eq!((world.reserve().await, world.told()), (true.into(), Some(160)));
        world.default.charged.store(100 * MIB, Ordering::SeqCst);
        world.service.look_at_limits().await;
        assert_eq!((world.reserve().await, world.told()), (false.into(), Some(150)));
        // So does a new size.
        release(&world).await.unwrap();
        world.resized("v", "320M").await.unwrap();
        assert_eq!((world.reserve().await, world.told()), (false.into(), Some(300)));
    });
}

#[test]
fn a_role_with_a_size_is_held_to_it_alone() {
    apart(|| async {
        let world = World::new();
        let options = [
            ("tablespaces", "t"),
            ("tablespace.t.size", "320M"),
            ("wal.pool", "default"),
            ("wal.size", "160M"),
        ];
        world.create("v", &options).await.unwrap();
        let all =
            |world: &World| (world.told(), world.told_of(Some("wal")), world.told_of(Some("t.t")));
        assert_eq!(all(&world), (None, Some(150), Some(300)));
        // It is where it was in the volume.
        let view = world.mount("v", "id").await.unwrap();
        durable::write(&view.join("wal/file"), b"mine").unwrap();
        let file = world.dir.path().join("default/v+wal/wal/file");
        assert_eq!(std::fs::read(file).unwrap(), b"mine");
        world.unmount("v", "id").await.unwrap();
        world.set("v", "wal.size", "320M").await.unwrap();
        assert_eq!(all(&world), (None, Some(300), Some(300)));
        world.service.clone().release_reserve(name("v")).await.unwrap();
        assert_eq!(all(&world), (None, Some(320), Some(320)));
        let world = world.restarted();
        world.service.clone().recover().await;
        assert_eq!(all(&world), (None, Some(320), Some(320)));
        let roles = world.status("v").await.unwrap()["roles"].clone();
        assert_eq!(
            (&roles["wal"]["limit"], &roles["wal"]["path"]),
            (&(320 * MIB).into(), &"wal".into())
        );
        let error = world.service.clone().move_wal(name("v"), PoolName::new("wal")).await;
        assert!(matches!(error, Err(VolumeError::Unmoved { .. })), "{error:?}");
        world.destroy("v").await.unwrap();
        world.assert_empty();
    });
}

/// What the pool refuses is as it was before.
#[test]
fn a_size_that_cannot_be_had_changes_nothing() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("size", "160M")]).await.unwrap();
        world.default.full.store(1, Ordering::SeqCst);
        assert!(world.resized("v", "320M").await.unwrap_err().is_full());
        assert_eq!(world.told(), Some(150));
        let shown = world.status("v").await.unwrap()["roles"]["data"]["limit"].clone();
        assert_eq!(shown, 160 * MIB);
    });
}

/// Killed between the record and the pool: a start brings into force what the record says.
#[test]
fn a_resize_that_was_interrupted_is_finished() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("size", "160M")]).await.unwrap();
        world.default.fuse.0.store(1, Ordering::SeqCst);
        assert!(matches!(world.resized("v", "320M").await, Err(VolumeError::Internal(_))));
        assert_eq!(world.told(), Some(150));
        let world = world.restarted();
        world.service.clone().recover().await;
        assert_eq!(world.told(), Some(300));
        let shown = world.status("v").await.unwrap()["roles"]["data"]["limit"].clone();
        assert_eq!(shown, 320 * MIB);
    });
}

/// The rest of what is looked after waits behind it.
#[test]
fn a_volume_that_somebody_works_on_keeps_nothing_waiting() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("size", "160M")]).await.unwrap();
        world.service.clone().release_reserve(name("v")).await.unwrap();
        let turn = world.service.turn(&name("v")).await;
        let looked = world.service.look_at_limits();
        tokio::time::timeout(Duration::from_secs(10), looked).await.unwrap();
        assert_eq!(world.told(), Some(160));
        drop(turn);
        world.service.look_at_limits().await;
        assert_eq!(world.told(), Some(150));
    });
}

#[test]
fn what_was_lent_to_one_role_is_left_to_it_when_another_is_resized() {
    apart(|| async {
        let world = World::new();
        world
            .create("v", &[("size", "160M"), ("wal.pool", "default"), ("wal.size", "160M")])
            .await
            .unwrap();
        world.service.clone().release_reserve(name("v")).await.unwrap();
        world.set("v", "wal.size", "320M").await.unwrap();
        assert_eq!((world.told(), world.told_of(Some("wal"))), (Some(160), Some(320)));
        // All roles together are held back again.
        world.service.look_at_limits().await;
        assert_eq!((world.told(), world.told_of(Some("wal"))), (Some(150), Some(300)));
    });
}
