//! Copies that a process leaves unfinished when it ends, and what the next one makes of them.

use std::sync::atomic::Ordering;

use plugin_sdk::durable;

use super::super::tests::{TAKE, names};
use super::*;
use crate::volume::testing::{World, apart, name};

const CLONE: &[(&str, &str)] = &[("from", "v@s"), ("label.a", "b")];

impl World {
    /// Ends, as by a kill, while it makes this copy, which nobody waits for.
    async fn ended_while_making(self, volume: &str, options: &[(&str, &str)]) -> Self {
        self.default.fuse.0.store(1, Ordering::SeqCst);
        let making = self.begin(volume, options).await.unwrap().unwrap();
        making.made().await.unwrap_err();
        // A fault of the process alone is not mended by itself.
        assert!(self.status(volume).await.is_none());
        self.restarted()
    }

    async fn recovered(&self, volume: &str) {
        self.service.clone().recover().await;
        if let Some(work) = self.service.copies.of(&name(volume)) {
            assert!(work.ended(std::time::Duration::from_secs(10)).await);
        }
    }
}

#[test]
fn what_was_being_made_is_begun_anew() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@s", TAKE).await.unwrap();
        let mut world = world;
        for (copy, options) in [("v@t", TAKE), ("c", CLONE)] {
            world = world.ended_while_making(copy, options).await;
            // Seen, and not used, before it is begun.
            let status = world.status(copy).await.unwrap();
            assert_eq!(status["state"], "creating");
            assert!(status["progress"]["of"].as_str().unwrap().starts_with('v'), "{status}");
            assert!(names(&world).contains(&copy.to_owned()));
            let refused = world.mount(copy, "1").await.unwrap_err().to_string();
            assert!(refused.contains("is being made"), "{refused}");
            world = world.restarted();
            world.recovered(copy).await;
            let status = world.status(copy).await.unwrap();
            assert_eq!((&status["state"], &status["begun_anew"]), (&"ok".into(), &1.into()));
        }
        assert_eq!(world.status("c").await.unwrap()["labels"]["a"], "b");
        assert_eq!(names(&world), ["c", "v", "v@s", "v@t"]);
        let all = ["c", "v", "v@s", "v@t"].map(String::from);
        assert_eq!((world.shares("default"), world.shares("wal")), (all.to_vec(), all.to_vec()));
        // What is whole is not made again.
        let world = world.restarted();
        world.recovered("v@t").await;
        assert_eq!(world.status("v@t").await.unwrap()["begun_anew"], 1);
    });
}

#[test]
fn what_somebody_waited_for_is_cleared_away() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.default.fuse.0.store(1, Ordering::SeqCst);
        world.create("v@s", TAKE).await.unwrap_err();
        let world = world.restarted();
        assert!(world.status("v@s").await.is_none());
        world.recovered("v@s").await;
        assert_eq!((names(&world), world.shares("wal")), (vec!["v".into()], vec!["v".into()]));
    });
}

#[test]
fn what_cannot_be_begun_anew_is_told() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@old", TAKE).await.unwrap();
        let world = world.ended_while_making("c", &[("from", "v@old")]).await;
        world.destroy("v@old").await.unwrap();
        let world = world.ended_while_making("v@s", TAKE).await;
        durable::write(&world.file("default/v/data/PG_VERSION"), b"16\n").unwrap();
        world.recovered("v@s").await;
        let status = world.status("v").await.unwrap();
        let unmade = |at: usize| {
            let unmade = &status["unmade"][at];
            (unmade["name"].as_str().unwrap(), unmade["reason"].as_str().unwrap())
        };
        assert!(unmade(0).0 == "v@s" && unmade(0).1.contains("the check `version`"), "{status}");
        assert!(unmade(1) == ("c", "no such snapshot: v@old"), "{status}");
        assert_eq!((names(&world), world.shares("wal")), (vec!["v".into()], vec!["v".into()]));
        // Until it is there.
        durable::write(&world.file("default/v/data/PG_VERSION"), b"17\n").unwrap();
        world.create("v@s", TAKE).await.unwrap();
        world.create("c", &[("from", "v@s")]).await.unwrap();
        assert!(world.status("v").await.unwrap().get("unmade").is_none());
    });
}

#[test]
fn what_ends_the_plugin_every_time_is_given_up() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        let mut world = world.ended_while_making("v@s", TAKE).await;
        for _ in 0..MOST_STARTS {
            // Past the deletion of two shares.
            world.default.fuse.0.store(5, Ordering::SeqCst);
            world.recovered("v@s").await;
            assert!(world.file("catalog/v@s.snapshot").exists());
            world = world.restarted();
        }
        world.recovered("v@s").await;
        let status = world.status("v").await.unwrap();
        let reason = status["unmade"][0]["reason"].as_str().unwrap();
        assert_eq!(reason, "the plugin ended 6 times while it was being made");
        assert_eq!((names(&world), world.shares("wal")), (vec!["v".into()], vec!["v".into()]));
    });
}

#[test]
fn what_is_cancelled_or_removed_before_it_is_begun_anew_is_not() {
    apart(|| async {
        let mut world = World::with_cluster(1).await;
        for by_removal in [true, false] {
            world = world.ended_while_making("v@s", TAKE).await;
            if by_removal {
                world.remove("v@s").await.unwrap();
            } else {
                world.service.cancel(&name("v@s")).await.unwrap();
            }
            world.recovered("v@s").await;
            assert_eq!((names(&world), world.shares("wal")), (vec!["v".into()], vec!["v".into()]));
        }
        // Nor where somebody else has made it since.
        let world = world.ended_while_making("v@s", TAKE).await;
        world.create("v@s", TAKE).await.unwrap();
        world.recovered("v@s").await;
        assert!(world.status("v@s").await.unwrap().get("begun_anew").is_none());
    });
}
