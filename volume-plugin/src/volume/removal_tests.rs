//! What goes to the trash, comes back and goes for good.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use plugin_sdk::durable;

use super::*;
use crate::pool::PoolName;
use crate::scratch::Scratch;
use crate::volume::catalog::CatalogError;
use crate::volume::purge::{Rounds, Which};
use crate::volume::testing::{Neighbour, World, apart, name};

impl World {
    /// Writes `word` where both pools have it.
    async fn write(&self, volume: &str, word: &str) {
        let view = self.mount(volume, "w").await.unwrap();
        for role in ["data", "wal"] {
            durable::write(&view.join(role).join("word"), word.as_bytes()).unwrap();
        }
        self.unmount(volume, "w").await.unwrap();
    }

    async fn read(&self, volume: &str) -> String {
        let view = self.mount(volume, "r").await.unwrap();
        let words =
            ["data", "wal"].map(|role| fs::read_to_string(view.join(role).join("word")).unwrap());
        self.unmount(volume, "r").await.unwrap();
        assert_eq!(words[0], words[1]);
        words[0].clone()
    }

    async fn undelete(&self, target: &str, new: Option<&str>) -> Result<String, VolumeError> {
        let service = Arc::clone(&self.service);
        let name = service.undelete(target.parse().unwrap(), new.map(name)).await?;
        Ok(name.to_string())
    }

    async fn purge(&self, target: &str) -> Result<Vec<String>, VolumeError> {
        self.service.clone().purge(Which::These(vec![target.parse().unwrap()])).await
    }

    /// Ids of all that can be had back, as it is shown.
    async fn trash(&self) -> Vec<String> {
        let shown = self.service.clone().show_trash().await.unwrap();
        shown.into_iter().filter(|shown| shown.time.is_some()).map(|shown| shown.id).collect()
    }

    /// The file of what is in the trash with this share.
    fn kept_record(&self, share: &str) -> PathBuf {
        let is_it = |path: &PathBuf| {
            let file = path.file_name().unwrap().to_str().unwrap();
            file.starts_with(&format!("{share}.")) && file.ends_with(".trashed")
        };
        let entries = fs::read_dir(self.dir.path().join("catalog")).unwrap();
        entries.map(|entry| entry.unwrap().path()).find(is_it).unwrap()
    }

    /// What was removed was so a month ago, by the clock.
    fn age(&self, share: &str) {
        let month_ago = Timestamp::now().as_second() - 30 * 24 * 3600;
        let aged = self.dir.path().join(format!("catalog/{share}.{month_ago}.trashed"));
        durable::rename(&self.kept_record(share), &aged).unwrap();
    }

    /// The directories of a pool.
    fn shares(&self, pool: &str) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join(pool)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn what_was_removed_comes_back_as_it_was() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("label.team", "billing")]).await.unwrap();
        world.write("v", "precious").await;
        let before = world.status("v").await;
        world.remove("v").await.unwrap();
        assert_eq!((world.status("v").await, world.service.list()), (None, vec![]));
        assert!(matches!(world.mount("v", "a").await, Err(VolumeError::Missing(_))));
        world.remove("v").await.unwrap();
        world.purge_round().await;
        let world = world.restarted();
        assert_eq!(world.undelete("v", None).await.unwrap(), "v");
        assert_eq!((world.status("v").await, world.read("v").await), (before, "precious".into()));
        assert!(matches!(world.undelete("v", None).await, Err(VolumeError::NotInTrash(_))));
    });
}

#[test]
fn a_name_is_free_and_its_older_volumes_are_kept_apart() {
    apart(|| async {
        let world = World::new();
        for word in ["one", "two", "three"] {
            world.create("v", &[]).await.unwrap();
            world.write("v", word).await;
            world.remove("v").await.unwrap();
        }
        assert_eq!(world.trash().await, ["v~0", "v~1", "v~2"]);
        let world = world.restarted();
        world.create("v", &[]).await.unwrap();
        world.write("v", "four").await;
        let taken = world.undelete("v", None).await.unwrap_err();
        assert_eq!(
            taken.to_string(),
            "volume v exists: undelete the other one under a name of its own, with --as NAME"
        );
        // The last one, unless another is named.
        assert_eq!(world.undelete("v", Some("w")).await.unwrap(), "w");
        assert_eq!(world.undelete("v~0", Some("x")).await.unwrap(), "x");
        for (volume, word) in [("v", "four"), ("w", "three"), ("x", "one")] {
            assert_eq!(world.read(volume).await, word);
        }
        // A share keeps its name, whatever its volume is called.
        world.remove("w").await.unwrap();
        assert_eq!(world.undelete("w", Some("y")).await.unwrap(), "y");
        let world = world.restarted();
        assert_eq!(
            (world.read("y").await, world.trash().await),
            ("three".into(), vec!["v~1".into()])
        );
        for volume in ["v", "x", "y"] {
            world.destroy(volume).await.unwrap();
        }
        world.assert_empty();
    });
}

#[test]
fn what_nobody_named_and_what_is_not_to_be_kept_goes_at_once() {
    apart(|| async {
        let world = World::new();
        let anonymous = "0f".repeat(32);
        world.create(&anonymous, &[]).await.unwrap();
        world.remove(&anonymous).await.unwrap();
        assert!(matches!(world.undelete(&anonymous, None).await, Err(VolumeError::NotInTrash(_))));
        world.purge_round().await;
        world.assert_empty();
        let world = World::keeping(world.dir, None, "0");
        world.create("v", &[]).await.unwrap();
        world.remove("v").await.unwrap();
        world.purge_round().await;
        world.assert_empty();
    });
}

#[test]
fn what_is_old_enough_goes_by_itself() {
    apart(|| async {
        let world = World::new();
        for volume in ["old", "new"] {
            world.create(volume, &[]).await.unwrap();
            world.remove(volume).await.unwrap();
        }
        world.age("old");
        let gone = async |world: &World, left: &[&str]| {
            let keeper = tokio::spawn(Arc::clone(&world.service).keep_trash());
            let begun = Instant::now();
            while world.shares("wal") != left {
                assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", world.shares("wal"));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            keeper.abort();
        };
        let world = World::keeping(world.dir, None, "365d");
        // Woken by what is to go at once.
        world.purge("new").await.unwrap();
        gone(&world, &["old"]).await;
        let world = World::keeping(world.dir, None, "1s");
        gone(&world, &[]).await;
    });
}

#[test]
fn what_seems_to_be_old_after_a_start_is_kept_for_an_hour() {
    apart(|| async {
        let world = World::new();
        for volume in ["old", "new"] {
            world.create(volume, &[]).await.unwrap();
            world.remove(volume).await.unwrap();
        }
        world.age("old");
        // The clock may have jumped while there was no plugin.
        let world = world.restarted();
        let mut rounds = Rounds::default();
        world.service.purge_round(&mut rounds).await;
        rounds.pass(Duration::from_mins(59));
        world.service.purge_round(&mut rounds).await;
        assert_eq!(world.trash().await, ["old~0", "new~0"]);
        rounds.pass(Duration::from_mins(1));
        world.service.purge_round(&mut rounds).await;
        assert_eq!(
            (world.trash().await, world.shares("wal")),
            (vec!["new~0".into()], vec!["new".into()])
        );
    });
}

#[test]
fn one_or_all_of_a_name_are_purged() {
    apart(|| async {
        let world = World::new();
        for volume in ["v", "v", "v", "w"] {
            world.create(volume, &[]).await.unwrap();
            world.remove(volume).await.unwrap();
        }
        assert_eq!(world.purge("v~1").await.unwrap(), ["v~1"]);
        assert!(matches!(world.purge("v~1").await, Err(VolumeError::NotInTrash(_))));
        assert_eq!(world.purge("v").await.unwrap(), ["v~0", "v~2"]);
        assert!(matches!(world.undelete("v", None).await, Err(VolumeError::NotInTrash(_))));
        world.purge_round().await;
        assert_eq!(
            (world.shares("default"), world.trash().await),
            (vec!["w".into()], vec!["w~0".into()])
        );
    });
}

#[test]
fn a_volume_in_use_is_neither_removed_nor_purged() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let place = Scratch::new();
        let using = |pool: &str| {
            let share = world.dir.path().join(pool).join("v");
            let (share, place) = (share.display(), place.path().display());
            Neighbour::new("private", &format!("mount --bind {share} {place}"))
        };
        for pool in ["default", "wal"] {
            let _container = using(pool);
            let error = world.remove("v").await.unwrap_err();
            let point = place.path().display().to_string();
            assert!(matches!(error, VolumeError::InUse { .. }), "{error}");
            assert!(error.to_string().contains(&point), "{error}");
        }
        world.remove("v").await.unwrap();
        for pool in ["default", "wal"] {
            let _rescuer = using(pool);
            assert!(matches!(world.purge("v").await, Err(VolumeError::InUse { .. })));
            // Nor when a pool fills.
            assert!(!world.service.make_room(&PoolName::new(pool)).await);
        }
        assert_eq!(world.undelete("v", None).await.unwrap(), "v");
        world.destroy("v").await.unwrap();
        world.assert_empty();
    });
}

#[test]
fn what_cannot_be_deleted_is_tried_again() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        world.remove("v").await.unwrap();
        world.wal.deletes.store(1, Ordering::SeqCst);
        world.purge("v").await.unwrap();
        let mut rounds = Rounds::default();
        world.service.purge_round(&mut rounds).await;
        // Not at once, or a broken pool would keep a core busy.
        world.service.purge_round(&mut rounds).await;
        assert_eq!(world.shares("wal"), ["v"]);
        world.purge_round().await;
        world.assert_empty();
    });
}

#[test]
fn the_oldest_makes_room_when_a_pool_fills() {
    apart(|| async {
        let world = World::new();
        for volume in ["a", "b", "c", "used"] {
            world.create(volume, &[]).await.unwrap();
        }
        for volume in ["b", "a", "c"] {
            world.remove(volume).await.unwrap();
        }
        let mut rounds = Rounds::default();
        world.service.purge_round(&mut rounds).await;
        assert_eq!(world.shares("wal").len(), 4);
        world.wal.roomy.store(3, Ordering::SeqCst);
        world.service.purge_round(&mut rounds).await;
        world.service.purge_round(&mut rounds).await;
        assert_eq!(world.shares("wal"), ["a", "c", "used"]);
        // Whoever finds it full gets room before anything is refused.
        world.wal.creates.store(2, Ordering::SeqCst);
        world.create("d", &[]).await.unwrap();
        assert_eq!(world.shares("wal"), ["d", "used"]);
        world.wal.creates.store(1, Ordering::SeqCst);
        assert!(world.create("e", &[]).await.unwrap_err().full_pool().is_some());
        assert_eq!(world.shares("default"), ["d", "used"]);
    });
}

#[test]
fn what_cannot_be_deleted_costs_one_other_and_not_all() {
    apart(|| async {
        let world = World::new();
        for volume in ["a", "b", "c"] {
            world.create(volume, &[]).await.unwrap();
            world.remove(volume).await.unwrap();
        }
        // The oldest fails; the next makes the room.
        world.wal.deletes.store(1, Ordering::SeqCst);
        assert!(world.service.make_room(&PoolName::new("wal")).await);
        assert_eq!((world.trash().await, world.shares("wal").len()), (vec!["c~0".to_owned()], 2));
        // What is being deleted already is waited for before anything else is.
        assert!(world.service.make_room(&PoolName::new("wal")).await);
        assert_eq!(
            (world.trash().await, world.shares("wal")),
            (vec!["c~0".into()], vec!["c".into()])
        );
    });
}

#[test]
fn room_is_made_only_where_it_helps() {
    apart(|| async {
        let world = World::new();
        world.create("elsewhere", &[("wal.pool", "default")]).await.unwrap();
        for volume in ["a", "b"] {
            world.create(volume, &[]).await.unwrap();
        }
        for volume in ["elsewhere", "a", "b"] {
            world.remove(volume).await.unwrap();
        }
        world.wal.creates.store(1, Ordering::SeqCst);
        world.create("c", &[]).await.unwrap();
        assert_eq!(world.trash().await, ["elsewhere~0", "b~0"]);
        // Deleting gives nothing back: that is tried once.
        world.default.stuck.store(1, Ordering::SeqCst);
        world.default.creates.store(5, Ordering::SeqCst);
        assert!(world.create("d", &[]).await.unwrap_err().full_pool().is_some());
        assert_eq!(world.trash().await, ["b~0"]);
    });
}

#[test]
fn a_full_disk_below_the_catalog_costs_nothing_of_the_trash() {
    apart(|| async {
        let dir = Scratch::new();
        crate::sys::mount::private_tmpfs(dir.path()).unwrap();
        let world = World::at(dir, None);
        world.create("v", &[]).await.unwrap();
        world.remove("v").await.unwrap();
        let mut filler = fs::File::create(world.dir.path().join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[1; 4096]).is_ok() {}
        let error = world.create("w", &[]).await.unwrap_err();
        assert!(
            matches!(&error, VolumeError::Catalog(CatalogError::System(error)) if error.is_full())
        );
        assert_eq!(error.full_pool(), None);
        assert_eq!(
            (world.trash().await, world.shares("wal")),
            (vec!["v~0".into()], vec!["v".into()])
        );
    });
}

#[test]
fn what_is_not_whole_stays_in_the_trash() {
    apart(|| async {
        let world = World::new();
        for volume in ["v", "w"] {
            world.create(volume, &[]).await.unwrap();
            world.remove(volume).await.unwrap();
        }
        fs::remove_dir_all(world.dir.path().join("wal/v")).unwrap();
        assert!(matches!(world.undelete("v", None).await, Err(VolumeError::Pool { .. })));
        durable::write(&world.kept_record("w"), b"not a record").unwrap();
        let world = World::keeping(world.dir, None, "0");
        let shown = world.service.clone().show_trash().await.unwrap();
        let damaged = shown.iter().find(|shown| shown.id == "w~0").unwrap();
        assert!(damaged.reason.as_ref().unwrap().contains("not a pgvol-volume record"));
        // Whatever its time: nobody knows what it is.
        world.purge_round().await;
        assert_eq!(
            (world.shares("wal"), world.shares("default")),
            (vec!["w".into()], vec!["w".into()])
        );
    });
}
