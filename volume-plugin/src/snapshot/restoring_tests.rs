//! Restores in place, finished and cut short.

use std::fs;

use plugin_sdk::durable;

use super::super::tests::{TAKE, checks, names, user_of_v};
use super::Restoring;
use crate::volume::error::VolumeError;
use crate::volume::testing::{World, apart};

/// What is in the cluster of `v` is `rows` or `later`, and the other one in its snapshot.
async fn with_snapshot_and_later() -> World {
    let world = World::with_cluster(1).await;
    world.create("v@s", TAKE).await.unwrap();
    durable::write(&world.file("default/v/data/base/5/1259"), b"later").unwrap();
    world
}

impl World {
    async fn restore(&self, from: &str, keep: &str) -> Result<(), VolumeError> {
        let (from, keep) = (from.parse().unwrap(), keep.parse().unwrap());
        self.service.clone().restore(from, keep).await
    }

    /// What is seen in a file of this volume or snapshot by whoever mounts it.
    async fn rows(&self, name: &str) -> String {
        let view = self.mount(name, "1").await.unwrap();
        let rows = fs::read_to_string(view.join("data/base/5/1259")).unwrap();
        assert!(view.join("wal/000000010000000000000003").exists(), "{name}");
        self.unmount(name, "1").await.unwrap();
        rows
    }
}

#[test]
fn a_volume_is_restored_in_place_and_what_it_was_is_kept() {
    apart(|| async {
        let world = with_snapshot_and_later().await;
        durable::write(&world.file("default/v@s/data/postmaster.pid"), b"1\n/pg/data\n").unwrap();
        world.restore("v@s", "v@before").await.unwrap();
        assert_eq!((&*world.rows("v").await, &*world.rows("v@before").await), ("rows", "later"));
        let view = world.mount("v", "1").await.unwrap();
        assert!(!view.join("data/postmaster.pid").exists());
        durable::write(&view.join("data/base/5/1259"), b"third").unwrap();
        world.unmount("v", "1").await.unwrap();
        let status = world.status("v@before").await.unwrap();
        assert_eq!(status["snapshot"]["consistency"], "offline");
        assert_eq!(checks(&status), ["control", "wal", "tablespaces"]);
        // And back again, and by a process that comes after.
        world.restore("v@before", "v@third").await.unwrap();
        let world = world.restarted();
        for (name, rows) in
            [("v", "later"), ("v@before", "later"), ("v@third", "third"), ("v@s", "rows")]
        {
            assert_eq!(world.rows(name).await, rows, "{name}");
        }
        // Shares are nobody else's.
        world.create("v-1", &[]).await.unwrap();
        world.create("c", &[("from", "v@third")]).await.unwrap();
        assert_eq!(world.rows("c").await, "third");
        world.remove("v@before").await.unwrap();
        assert_eq!(world.rows("v").await, "later");
        world.remove("v").await.unwrap();
        world.create("v", &[("tablespaces", "fast")]).await.unwrap();
        world.undelete("v~0", Some("old")).await.unwrap();
        assert_eq!(world.rows("old").await, "later");
        assert_eq!(world.rows("old@third").await, "third");
        for name in ["old", "v", "c", "v-1"] {
            world.destroy(name).await.unwrap();
        }
        world.assert_empty();
    });
}

#[test]
fn what_cannot_be_restored_stays_as_it_is() {
    apart(|| async {
        let world = with_snapshot_and_later().await;
        let said = async |from, keep| world.restore(from, keep).await.unwrap_err().to_string();
        assert!(said("v@s", "v@s").await.contains("there is a snapshot v@s already"));
        assert!(said("v@s", "w@t").await.contains("w@t is no name of a snapshot of it"));
        assert!(said("v@s", "v").await.contains("v is no snapshot"));
        assert!(said("v", "v@t").await.contains("v is no snapshot"));
        assert!(said("v@no", "v@t").await.contains("no such snapshot: v@no"));
        let user = user_of_v(&world).await;
        let in_use = said("v@s", "v@t").await;
        assert!(in_use.contains(&format!("in use by process {}", user.0.id())), "{in_use}");
        drop(user);
        world.unmount("v", "1").await.unwrap();
        world.wal.creates.store(1, std::sync::atomic::Ordering::SeqCst);
        assert!(said("v@s", "v@t").await.contains("pool wal"));
        assert_eq!(names(&world), ["v", "v@s"]);
        assert_eq!(
            (world.shares("default"), world.rows("v").await),
            (vec!["v".into(), "v@s".into()], "later".into())
        );
        // Whatever is wrong with what there is may be why it is restored.
        durable::write(&world.file("default/v/data/global/pg_control"), &[7; 8192]).unwrap();
        world.restore("v@s", "v@broken").await.unwrap();
        let status = world.status("v@broken").await.unwrap();
        assert_eq!(checks(&status), ["state"]);
        assert_eq!(world.rows("v").await, "rows");
    });
}

#[test]
fn a_restore_leaves_room_for_servers() {
    apart(|| async {
        let world = with_snapshot_and_later().await;
        world.wal.roomy.store(1, std::sync::atomic::Ordering::SeqCst);
        let error = world.restore("v@s", "v@before").await.unwrap_err();
        assert!(plugin_sdk::chain::chain(&error).contains("a twentieth of the pool"), "{error}");
        assert_eq!(names(&world), ["v", "v@s"]);
        assert_eq!(world.rows("v").await, "later");
    });
}

#[test]
fn a_restore_killed_after_its_commit_is_finished() {
    apart(|| async {
        for way in ["start", "snapshot", "same", "undelete", "remove"] {
            let world = with_snapshot_and_later().await;
            if way == "undelete" {
                world.create("v@t", TAKE).await.unwrap();
                world.remove("v@t").await.unwrap();
            }
            world.restore("v@s", "v@t").await.unwrap();
            let catalog = &world.service.catalog;
            let record = |name: &str| world.service.ready(&name.parse().unwrap()).unwrap();
            let (kept, mut volume) = (record("v@t"), record("v"));
            catalog.forget(&kept).unwrap();
            volume.restoring = Some(Box::new(Restoring::Keeping(Box::new(kept))));
            catalog.put(volume).unwrap();
            let world = world.restarted();
            assert_eq!(
                (names(&world), &*world.rows("v").await),
                (vec!["v".into(), "v@s".into()], "rows")
            );
            // Whoever comes first.
            match way {
                "start" => world.service.clone().recover().await,
                "snapshot" => {
                    world.create("v@next", TAKE).await.unwrap();
                    world.remove("v@next").await.unwrap();
                }
                // Under the name of what is yet to be written.
                "same" => world.create("v@t", TAKE).await.unwrap(),
                "undelete" => {
                    let error = world.undelete("v@t~0", None).await.unwrap_err();
                    assert!(matches!(error, VolumeError::Taken(_)), "{error}");
                }
                _ => {
                    world.remove("v@s").await.unwrap();
                    world.undelete("v@s~0", None).await.unwrap();
                }
            }
            assert_eq!(names(&world), ["v", "v@s", "v@t"]);
            assert_eq!(&*world.rows("v@t").await, "later");
            assert_eq!(world.service.ready(&"v".parse().unwrap()).unwrap().restoring, None);
        }
    });
}

#[test]
fn a_restore_killed_at_any_point_is_undone() {
    apart(|| async {
        for at in 1.. {
            let world = with_snapshot_and_later().await;
            world.default.fuse.0.store(at, std::sync::atomic::Ordering::SeqCst);
            let outcome = world.restore("v@s", "v@t").await;
            if world.default.fuse.0.load(std::sync::atomic::Ordering::SeqCst) != 0 {
                outcome.unwrap();
                assert!(at > 3, "{at}");
                break;
            }
            outcome.unwrap_err();
            let world = world.restarted();
            assert_eq!(
                (names(&world), &*world.rows("v").await),
                (vec!["v".into(), "v@s".into()], "later")
            );
            world.service.clone().recover().await;
            for pool in ["default", "wal"] {
                assert_eq!(world.shares(pool), ["v", "v@s"], "killed at {at}");
            }
            world.restore("v@s", "v@t").await.unwrap();
            assert_eq!((&*world.rows("v").await, &*world.rows("v@t").await), ("rows", "later"));
        }
    });
}

#[test]
fn what_was_kept_is_not_written_anew() {
    apart(|| async {
        let world = with_snapshot_and_later().await;
        world.restore("v@s", "v@t").await.unwrap();
        let record = |name: &str| world.service.ready(&name.parse().unwrap()).unwrap();
        let (kept, mut volume) = (record("v@t"), record("v"));
        volume.restoring = Some(Box::new(Restoring::Keeping(Box::new(kept))));
        world.service.catalog.put(volume).unwrap();
        world.service.clone().protect("v@t".parse().unwrap(), true).await.unwrap();
        let world = world.restarted();
        world.service.clone().recover().await;
        assert_eq!(world.service.ready(&"v".parse().unwrap()).unwrap().restoring, None);
        assert!(world.service.ready(&"v@t".parse().unwrap()).unwrap().is_protected());
    });
}
