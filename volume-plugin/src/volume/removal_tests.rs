//! What goes to the trash, comes back and goes for good.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use plugin_sdk::durable;

use super::*;
use crate::pool::PoolName;
use crate::scratch::Scratch;
use crate::volume::purge::Which;
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

    pub(crate) async fn undelete(
        &self,
        target: &str,
        new: Option<&str>,
    ) -> Result<String, VolumeError> {
        let service = Arc::clone(&self.service);
        let name = service.undelete(target.parse().unwrap(), new.map(name)).await?;
        Ok(name.to_string())
    }

    pub(crate) async fn purge(&self, target: &str) -> Result<Vec<String>, VolumeError> {
        self.service.clone().purge(Which::These(vec![target.parse().unwrap()])).await
    }

    /// Ids of all that can be had back, as it is shown.
    pub(crate) async fn trash(&self) -> Vec<String> {
        let shown = self.service.clone().show_trash().await.unwrap();
        shown.into_iter().filter(|shown| shown.time.is_some()).map(|shown| shown.id).collect()
    }

    /// The file of what is in the trash with this share.
    pub(crate) fn kept_record(&self, share: &str) -> PathBuf {
        let is_it = |path: &PathBuf| {
            let file = path.file_name().unwrap().to_str().unwrap();
            file.starts_with(&format!("{share}.")) && file.ends_with(".trashed")
        };
        let entries = fs::read_dir(self.dir.path().join("catalog")).unwrap();
        entries.map(|entry| entry.unwrap().path()).find(is_it).unwrap()
    }

    /// What was removed was so a month ago, by the clock.
    pub(crate) fn age(&self, share: &str) {
        let month_ago = Timestamp::now().as_second() - 30 * 24 * 3600;
        let aged = self.dir.path().join(format!("catalog/{share}.{month_ago}.trashed"));
        durable::rename(&self.kept_record(share), &aged).unwrap();
    }

    /// The directories of a pool.
    pub(crate) fn shares(&self, pool: &str) -> Vec<String> {
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
fn a_volume_that_could_not_be_removed_stays_guarded() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        world.mount("v", "1").await.unwrap();
        world.unmount("v", "1").await.unwrap();
        let root = world.dir.path().join("default/v");
        // The guard holds the directories that it watches.
        let held = || {
            let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
            links.filter_map(|link| fs::read_link(link.path()).ok()).any(|to| to.starts_with(&root))
        };
        assert!(held());
        let record = world.dir.path().join("catalog/v.record");
        let aside = world.dir.path().join("aside");
        durable::rename(&record, &aside).unwrap();
        assert!(world.remove("v").await.is_err());
        assert!(held());
        durable::rename(&aside, &record).unwrap();
        world.remove("v").await.unwrap();
        assert!(!held());
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
