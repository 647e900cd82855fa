//! Operations, what they refuse and what they leave.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use plugin_sdk::durable;

use super::*;
use crate::sys::mount;
use crate::volume::catalog::CatalogError;
use crate::volume::purge::Which;
use crate::volume::testing::{World, apart, name};

#[test]
fn create_is_idempotent_and_tells_conflicts() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("uid", "70")]).await.unwrap();
        world.create("v", &[("uid", "70"), ("mode", "700")]).await.unwrap();
        let error = world.create("v", &[]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "volume v exists with other options: `uid` is `70`, not `999`"
        );
        let volumes = world.service.list();
        assert_eq!(volumes, [(name("v"), None)]);
    });
}

#[test]
fn labels_are_changed_for_good() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("label.a", "1")]).await.unwrap();
        let set = |key: &str| [(key.to_owned(), "2".to_owned())].into();
        let change = |name, set, unset| world.service.clone().change(name, set, unset);
        change(name("v"), set("label.b"), vec!["label.a".to_owned()]).await.unwrap();
        assert!(change(name("v"), set("uid"), vec![]).await.is_err());
        let missing = change(name("w"), set("label.b"), vec![]).await;
        assert!(matches!(missing, Err(VolumeError::Missing(_))));
        let world = world.restarted();
        let labels = &world.status("v").await.unwrap()["labels"];
        assert_eq!(labels, &serde_json::json!({"b": "2"}));
    });
}

#[test]
fn a_create_that_fails_leaves_nothing() {
    apart(|| async {
        let world = World::new();
        for pool in [&world.default, &world.wal] {
            pool.creates.store(1, Ordering::SeqCst);
            let error = world.create("v", &[]).await.unwrap_err();
            assert!(matches!(error, VolumeError::Pool { .. }), "{error}");
            world.assert_empty();
        }
        assert!(world.create("v", &[("colour", "red")]).await.is_err());
        world.assert_empty();
        world.create("v", &[]).await.unwrap();
    });
}

#[test]
fn data_that_no_record_speaks_of_is_kept() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let view = world.mount("v", "a").await.unwrap();
        durable::write(&view.join("wal/file"), b"precious").unwrap();
        world.unmount("v", "a").await.unwrap();
        durable::remove(&world.dir.path().join("catalog/v.record")).unwrap();
        let world = world.restarted();
        let error = world.create("v", &[]).await.unwrap_err();
        assert!(matches!(error, VolumeError::Orphan { .. }), "{error}");
        assert!(world.dir.path().join("wal/v/wal/file").exists());
    });
}

#[test]
fn a_mount_shows_every_role_until_its_last_id_goes() {
    apart(|| async {
        let world = World::new();
        let options = [("tablespaces", "a,b"), ("tablespace.b.pool", "wal")];
        world.create("v", &options).await.unwrap();
        let view = world.mount("v", "one").await.unwrap();
        assert_eq!(view, world.dir.path().join("views/v"));
        for path in ["data", "wal", "tablespaces/a", "tablespaces/b"] {
            durable::write(&view.join(path).join("file"), path.as_bytes()).unwrap();
        }
        for path in
            ["default/v/data", "wal/v/wal", "default/v/tablespaces/a", "wal/v/tablespaces/b"]
        {
            assert!(world.dir.path().join(path).join("file").exists(), "{path}");
        }
        // docker cp repeats the id of the running container.
        world.mount("v", "one").await.unwrap();
        world.mount("v", "two").await.unwrap();
        assert_eq!(world.status("v").await.unwrap()["mounts"]["one"], 2);
        for id in ["one", "two", "never", "one"] {
            assert!(view.join("data").exists(), "before {id}");
            world.unmount("v", id).await.unwrap();
        }
        assert!(!view.exists());
        world.unmount("v", "one").await.unwrap();
        world.unmount("unknown", "one").await.unwrap();
        world.destroy("v").await.unwrap();
        world.assert_empty();
    });
}

#[test]
fn a_view_that_shows_something_else_is_replaced() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let view = world.mount("v", "one").await.unwrap();
        mount::detach(&view.join("wal")).unwrap();
        world.mount("v", "two").await.unwrap();
        durable::write(&view.join("wal/file"), b"x").unwrap();
        assert!(world.dir.path().join("wal/v/wal/file").exists());
        mount::private_tmpfs(&view).unwrap();
        world.mount("v", "three").await.unwrap();
        assert!(view.join("wal/file").exists());
    });
}

#[test]
fn what_a_container_did_to_the_root_is_mended_or_told() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let root = world.dir.path().join("default/v");
        fs::remove_dir(root.join("wal")).unwrap();
        let view = world.mount("v", "one").await.unwrap();
        durable::write(&view.join("wal/file"), b"x").unwrap();
        world.unmount("v", "one").await.unwrap();
        fs::remove_dir(root.join("wal")).unwrap();
        let outside = world.dir.path().join("outside");
        durable::create_dir(&outside, 0o700).unwrap();
        symlink(&outside, root.join("wal")).unwrap();
        let error = world.mount("v", "one").await.unwrap_err();
        assert!(error.to_string().contains("wal"), "{error}");
        assert!(!view.exists());
        assert_eq!(world.status("v").await.unwrap()["mounts"], serde_json::json!({}));
    });
}

#[test]
fn an_unreadable_record_is_shown_and_never_touched() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        durable::write(&world.dir.path().join("catalog/v.record"), b"not a record").unwrap();
        let world = world.restarted();
        assert_eq!(world.status("v").await.unwrap()["state"], "degraded");
        assert_eq!(world.service.list().len(), 1);
        let refused = [
            world.create("v", &[]).await,
            world.remove("v").await,
            world.mount("v", "a").await.map(drop),
        ];
        for refused in refused {
            assert!(matches!(refused, Err(VolumeError::Unreadable { .. })), "{refused:?}");
        }
        assert!(world.dir.path().join("default/v/data").exists());
    });
}

#[test]
fn bad_settings_keep_nobody_from_their_volumes() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let world = World::at(world.dir, Some("POOL_SIZE=lots"));
        let error = world.create("w", &[]).await.unwrap_err();
        assert!(error.to_string().contains("POOL_SIZE=lots"), "{error}");
        world.mount("v", "one").await.unwrap();
        world.unmount("v", "one").await.unwrap();
        world.destroy("v").await.unwrap();
        world.assert_empty();
    });
}

#[test]
fn a_share_that_is_gone_is_told() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        fs::remove_dir_all(world.dir.path().join("wal/v")).unwrap();
        let status = world.status("v").await.unwrap();
        assert_eq!(status["state"], "degraded");
        assert!(status["reason"].as_str().unwrap().contains("pool wal"), "{status}");
        assert!(matches!(world.mount("v", "a").await, Err(VolumeError::Pool { .. })));
        assert!(!Path::new(&world.dir.path().join("views/v")).exists());
    });
}

#[test]
fn a_pool_that_hangs_keeps_no_answer_waiting() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        assert_eq!(world.status("v").await.unwrap()["roles"]["data"]["used"], 0);
        world.default.slow.store(2000, Ordering::SeqCst);
        let begun = Instant::now();
        for _ in 0..3 {
            // What was seen before is shown meanwhile.
            let status = world.status("v").await.unwrap();
            assert_eq!(
                (&status["state"], &status["roles"]["data"]["used"]),
                (&"ok".into(), &0.into())
            );
        }
        assert_eq!(world.service.list().len(), 1);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        world.default.slow.store(0, Ordering::SeqCst);
    });
}

#[test]
fn operations_on_one_volume_come_one_after_another() {
    apart(|| async {
        let world = Arc::new(World::new());
        let mut tasks = Vec::new();
        for number in 0..12_u32 {
            let world = Arc::clone(&world);
            tasks.push(tokio::spawn(async move {
                let id = number.to_string();
                world.create("v", &[]).await.unwrap();
                // Removed by another meanwhile, or mounted.
                if world.mount("v", &id).await.is_ok() {
                    world.unmount("v", &id).await.unwrap();
                }
                world.remove("v").await.unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert!(world.service.list().is_empty());
        world.service.clone().purge(Which::All).await.unwrap();
        world.purge_round().await;
        world.assert_empty();
    });
}

#[test]
fn on_a_full_disk_a_volume_can_be_mounted_and_removed() {
    apart(|| async {
        let dir = crate::scratch::Scratch::new();
        crate::sys::mount::private_tmpfs(dir.path()).unwrap();
        let world = World::at(dir, None);
        for volume in ["kept", "v"] {
            world.create(volume, &[]).await.unwrap();
        }
        let filler = world.dir.path().join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        assert!(world.create("w", &[]).await.is_err());
        let view = world.mount("v", "1").await.unwrap();
        world.mount("v", "2").await.unwrap();
        world.unmount("v", "1").await.unwrap();
        assert!(view.join("wal").is_dir());
        world.unmount("v", "2").await.unwrap();
        assert!(!view.exists());
        world.remove("v").await.unwrap();
        let undelete = |name| world.service.clone().undelete("v".parse().unwrap(), name);
        undelete(None).await.unwrap();
        assert!(world.mount("v", "3").await.is_ok());
        world.unmount("v", "3").await.unwrap();
        world.remove("v").await.unwrap();
        let full = undelete(Some(name("w"))).await.unwrap_err();
        assert!(
            matches!(full, VolumeError::Catalog(CatalogError::System(error)) if error.is_full())
        );
        let world = world.restarted();
        let names: Vec<_> = world.service.list().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [name("kept")]);
    });
}
