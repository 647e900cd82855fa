//! Processes killed at every step, and what the next one makes of it.

use std::sync::atomic::Ordering;

use plugin_sdk::durable;

use super::*;
use crate::scratch::Scratch;
use crate::sys::mount;
use crate::volume::purge::Which;
use crate::volume::testing::{Neighbour, World, apart, name};
use crate::volume::trash::Stage;

#[test]
fn a_create_that_cannot_be_undone_is_undone_later() {
    apart(|| async {
        let world = World::new();
        world.wal.creates.store(1, Ordering::SeqCst);
        world.wal.deletes.store(1, Ordering::SeqCst);
        assert!(world.create("v", &[]).await.is_err());
        assert_eq!(world.status("v").await, None);
        assert_eq!(world.service.list(), []);
        assert!(matches!(world.mount("v", "a").await, Err(VolumeError::Incomplete(_))));
        // By the next create of the name, with whatever options, or by the next start.
        world.create("v", &[("cow", "on")]).await.unwrap();
        world.destroy("v").await.unwrap();
        world.wal.creates.store(1, Ordering::SeqCst);
        world.wal.deletes.store(1, Ordering::SeqCst);
        assert!(world.create("v", &[]).await.is_err());
        let world = world.restarted();
        world.service.clone().recover().await;
        world.assert_empty();
    });
}

/// Steps in the pools of one create, or of one remove: before and after each of two shares.
const STEPS: u32 = 4;

#[test]
fn a_create_killed_at_any_step_leaves_nothing() {
    apart(|| async {
        for step in 1..=STEPS {
            let world = World::new();
            world.wal.fuse.0.store(step, Ordering::SeqCst);
            let error = world.create("v", &[]).await.unwrap_err();
            assert!(matches!(error, VolumeError::Internal(_)), "step {step}: {error}");
            let world = world.restarted();
            assert_eq!(world.service.list(), [], "step {step}");
            world.service.clone().recover().await;
            world.assert_empty();
            world.create("v", &[]).await.unwrap();
        }
    });
}

#[test]
fn a_purge_killed_at_any_step_is_finished() {
    apart(|| async {
        for step in 1..=STEPS {
            let world = World::new();
            world.create("v", &[]).await.unwrap();
            world.remove("v").await.unwrap();
            world.service.clone().purge(Which::All).await.unwrap();
            world.wal.fuse.0.store(step, Ordering::SeqCst);
            world.purge_round().await;
            let world = world.restarted();
            let trash = world.service.clone().show_trash().await.unwrap();
            assert_eq!((trash.len(), trash[0].time), (1, None), "step {step}");
            let undelete = world.service.clone().undelete("v".parse().unwrap(), None);
            assert!(matches!(undelete.await, Err(VolumeError::NotInTrash(_))));
            // The name is free, whatever is left of the share.
            world.create("v", &[]).await.unwrap();
            world.service.clone().recover().await;
            world.purge_round().await;
            assert!(world.service.clone().show_trash().await.unwrap().is_empty());
            world.mount("v", "one").await.unwrap();
            world.unmount("v", "one").await.unwrap();
            world.destroy("v").await.unwrap();
            world.assert_empty();
        }
    });
}

/// A remove has three steps after its looks: the view, the ids, and the record's rename.
#[test]
fn a_remove_killed_at_any_step_leaves_a_volume_or_trash() {
    apart(|| async {
        let v = || name("v");
        for step in 0..=3 {
            let world = World::new();
            world.create("v", &[]).await.unwrap();
            let view = world.mount("v", "stale").await.unwrap();
            durable::write(&view.join("data/file"), b"precious").unwrap();
            if step >= 1 {
                world.service.views.drop(&v()).unwrap();
            }
            if step >= 2 {
                world.service.mounts.clear(&v()).unwrap();
            }
            if step >= 3 {
                let Some(Entry::Volume(record)) = world.service.catalog.get(&v()) else { panic!() };
                let since = jiff::Timestamp::now();
                world.service.catalog.discard(record, Stage::Kept { since }).unwrap();
            }
            let world = world.restarted();
            world.service.clone().recover().await;
            if step == 3 {
                assert_eq!(world.status("v").await, None);
                world.service.clone().undelete("v".parse().unwrap(), None).await.unwrap();
            }
            let view = world.mount("v", "next").await.unwrap();
            assert!(view.join("data/file").exists(), "step {step}");
            world.unmount("v", "next").await.unwrap();
            world.unmount("v", "stale").await.unwrap();
            assert!(!view.exists(), "step {step}");
            world.destroy("v").await.unwrap();
            world.assert_empty();
        }
    });
}

#[test]
fn a_view_that_a_killed_mount_left_goes_at_the_next_start() {
    apart(|| async {
        let world = World::new();
        for volume in ["v", "w"] {
            world.create(volume, &[]).await.unwrap();
            world.mount(volume, "one").await.unwrap();
        }
        durable::remove(&world.dir.path().join("mounts/v.record")).unwrap();
        let world = world.restarted();
        world.service.clone().recover().await;
        assert!(!world.dir.path().join("views/v").exists());
        assert!(world.dir.path().join("views/w/data").exists());
    });
}

#[test]
fn a_view_survives_the_plugin_and_is_made_again_when_it_is_gone() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let view = world.mount("v", "one").await.unwrap();
        let world = world.restarted();
        assert_eq!(world.mount("v", "two").await.unwrap(), view);
        world.unmount("v", "one").await.unwrap();
        assert!(view.join("data").exists());
        // As the engine does after a forced disable.
        mount::detach(&view).unwrap();
        let world = world.restarted();
        assert_eq!(world.status("v").await.unwrap()["mounts"], serde_json::json!({}));
        world.mount("v", "three").await.unwrap();
        world.unmount("v", "two").await.unwrap();
        assert!(view.join("wal").exists());
        world.unmount("v", "three").await.unwrap();
        assert!(!view.exists());
    });
}

#[test]
fn a_view_that_nobody_came_for_goes_with_its_ids() {
    apart(|| async {
        let world = World::new();
        for volume in ["taken", "idle"] {
            world.create(volume, &[]).await.unwrap();
        }
        let place = Scratch::new();
        let (share, place) = (world.dir.path().join("default/taken"), place.path().to_owned());
        let script = format!("mount --bind {} {}", share.display(), place.display());
        // Before there is a view, which it would have too.
        let _container = Neighbour::new("private", &script);
        for volume in ["taken", "idle"] {
            world.mount(volume, "one").await.unwrap();
        }
        let world = world.restarted();
        let mounts = &world.service.mounts;
        let noted: Vec<_> =
            mounts.mounted().into_iter().map(|name| (mounts.of(&name), name)).collect();
        assert_eq!(noted.len(), 2);
        // One more since is somebody.
        world.mount("idle", "two").await.unwrap();
        world.service.drop_idle_ids(noted.clone()).await;
        assert_eq!(mounts.mounted().len(), 2);
        world.unmount("idle", "two").await.unwrap();
        world.service.drop_idle_ids(noted).await;
        assert_eq!(mounts.mounted(), [name("taken")]);
        let views: Vec<_> = world.service.views.present().unwrap().into_iter().collect();
        assert_eq!(views, [name("taken")]);
    });
}

#[test]
fn a_mount_point_without_a_view_goes_at_the_next_start() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        durable::create_dir(&world.dir.path().join("views/v"), 0o755).unwrap();
        let world = world.restarted();
        world.service.clone().recover().await;
        assert!(!world.dir.path().join("views/v").exists());
    });
}
