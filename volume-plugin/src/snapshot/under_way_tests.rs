//! Copies that are made while nobody waits for them, held up where their shares are made.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::Making;
use super::super::tests::{TAKE, names};
use super::*;
use crate::volume::options::RawOptions;
use crate::volume::testing::{World, apart, name};

impl World {
    /// Begins to make a snapshot or clone that goes no further than to its first share.
    async fn held_up(&self, volume: &str, options: &[(&str, &str)]) -> Making {
        self.wal.held.store(1, Ordering::SeqCst);
        self.default.held.store(1, Ordering::SeqCst);
        let making = self.begin(volume, options).await.unwrap().unwrap();
        while self.default.held.load(Ordering::SeqCst) != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        making
    }

    pub(in crate::snapshot) async fn begin(
        &self,
        volume: &str,
        options: &[(&str, &str)],
    ) -> Result<Option<Making>, VolumeError> {
        let raw: RawOptions = options.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        Arc::clone(&self.service).copy_for(name(volume), &raw, Waiting::Nobody).await
    }

    fn let_go(&self) {
        self.wal.held.store(0, Ordering::SeqCst);
        self.default.held.store(0, Ordering::SeqCst);
    }
}

#[test]
fn what_is_being_made_is_seen_and_not_used() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        for (copy, options) in [("v@s", TAKE), ("c", &[("from", "v")][..])] {
            let making = world.held_up(copy, options).await;
            let status = world.status(copy).await.unwrap();
            assert_eq!(
                (&status["state"], &status["progress"]["of"]),
                (&"creating".into(), &"v".into())
            );
            assert!(status["progress"]["total"].as_u64().unwrap() > SIZE, "{status}");
            assert!(names(&world).contains(&copy.to_owned()));
            let refused = world.mount(copy, "1").await.unwrap_err().to_string();
            assert!(refused.contains("is being made"), "{refused}");
            // Whoever has the volume goes on.
            world.mount("v", "1").await.unwrap();
            world.unmount("v", "1").await.unwrap();
            let id = making.work.id;
            world.let_go();
            making.made().await.unwrap();
            let work = world.service.copies.numbered(id).unwrap();
            assert_eq!(work.outcome(), Some(Ok(())));
            assert!(work.progress.done() >= SIZE);
            let status = world.status(copy).await.unwrap();
            assert_eq!((&status["state"], status.get("progress")), (&"ok".into(), None));
            assert!(world.begin(copy, options).await.unwrap().is_none());
        }
        assert!(world.service.copies.numbered(17).is_none());
    });
}

/// Until those who have the volume are stopped, others come and go.
#[test]
fn what_is_copied_ahead_of_a_barrier_keeps_nobody_waiting() {
    apart(|| async {
        let world = World::with_cluster(6).await;
        let options = [TAKE, &[("consistency", "barrier")]].concat();
        let making = world.held_up("v@s", &options).await;
        let soon = Duration::from_secs(10);
        let come_and_go = async {
            world.mount("v", "1").await?;
            world.unmount("v", "1").await
        };
        let come_and_gone = tokio::time::timeout(soon, come_and_go).await;
        world.let_go();
        come_and_gone.unwrap().unwrap();
        making.made().await.unwrap();
        let status = world.status("v@s").await.unwrap();
        assert_eq!(status["snapshot"]["consistency"], "barrier");
    });
}

/// Of the WAL of the cluster at least.
const SIZE: u64 = 1 << 20;

#[test]
fn what_is_being_copied_stays_until_that_is_over() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@old", TAKE).await.unwrap();
        let making = world.held_up("v@s", TAKE).await;
        let restore = world.service.clone().restore(name("v@old"), name("v@kept"));
        let to = crate::pool::PoolName::new("default");
        let moved = world.service.clone().move_wal(name("v"), to);
        let (removed, restored, moved, again) =
            tokio::join!(world.remove("v"), restore, moved, world.create("v@other", TAKE));
        for outcome in [removed, restored, moved, again] {
            let said = outcome.unwrap_err().to_string();
            let expected = "v is being copied to v@s: wait for that, or end it by \
                            `docker pgvol cancel v@s`";
            assert_eq!(said, expected);
        }
        // What is not copied is not concerned.
        world.remove("v@old").await.unwrap();
        world.let_go();
        making.made().await.unwrap();
        world.remove("v").await.unwrap();
    });
}

/// Docker waits for 30 s.
#[test]
fn nobody_waits_for_ever_for_a_turn() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@s", TAKE).await.unwrap();
        let turn = world.service.turn(&name("v")).await;
        let restore = world.service.clone().restore(name("v@s"), name("v@kept"));
        let (removed, restored, taken, cloned) = tokio::join!(
            world.remove("v@s"),
            restore,
            world.create("v@t", TAKE),
            world.create("c", &[("from", "v@s")])
        );
        for outcome in [removed, restored, taken, cloned] {
            let said = outcome.unwrap_err().to_string();
            assert!(said.starts_with("something else works on v, "), "{said}");
        }
        drop(turn);
        world.create("v@t", TAKE).await.unwrap();
        assert_eq!(names(&world), ["v", "v@s", "v@t"]);
    });
}

#[test]
fn whoever_is_patient_is_served_after_it() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        let making = world.held_up("v@s", TAKE).await;
        let let_go = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            world.let_go();
        };
        let (same, other, ()) =
            tokio::join!(world.create("v@s", TAKE), world.create("v@t", TAKE), let_go);
        same.unwrap();
        other.unwrap();
        making.made().await.unwrap();
        assert_eq!(names(&world), ["v", "v@s", "v@t"]);
    });
}

#[test]
fn what_is_cancelled_leaves_nothing() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        let service = world.service.clone();
        let refused = service.cancel(&name("v@s")).await.unwrap_err().to_string();
        assert_eq!(refused, "nothing is being made under the name v@s");
        for by_removal in [true, false] {
            let making = world.held_up("v@s", TAKE).await;
            let end = async {
                if by_removal {
                    world.remove("v@s").await
                } else {
                    service.cancel(&name("v@s")).await
                }
            };
            let let_go = async {
                while !making.work.progress.is_cancelled() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                world.let_go();
            };
            let (ended, ()) = tokio::join!(end, let_go);
            ended.unwrap();
            let id = making.work.id;
            assert_eq!(making.made().await.unwrap_err().to_string(), "it was cancelled");
            let outcome = world.service.copies.numbered(id).unwrap().outcome();
            assert_eq!(outcome, Some(Err("it was cancelled".to_owned())));
            assert_eq!(names(&world), ["v"]);
            assert_eq!(
                (world.shares("default"), world.shares("wal")),
                (vec!["v".into()], vec!["v".into()])
            );
        }
        world.create("v@s", TAKE).await.unwrap();
    });
}

/// What is told too late is no success: the copy is there.
#[test]
fn what_is_made_already_is_not_cancelled() {
    apart(|| async {
        let world = World::new();
        let going = world.service.copies.begin(&name("v@s"), &name("v"), Waiting::Nobody);
        let cancelled = name("v@s");
        let end = async {
            while !going.work.progress.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            going.end(Ok(()));
        };
        let (outcome, ()) = tokio::join!(world.service.cancel(&cancelled), end);
        assert!(matches!(outcome, Err(VolumeError::NotMade(_))), "{outcome:?}");
    });
}

/// A copy of nothing but files of which no control file tells whether they changed.
#[test]
fn a_mount_meanwhile_is_noticed_where_there_is_no_cluster() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let options = [TAKE, &[("consistency", "offline")]].concat();
        let making = world.held_up("v@s", &options).await;
        world.mount("v", "1").await.unwrap();
        world.let_go();
        let said = making.made().await.unwrap_err().to_string();
        assert!(said.contains("somebody mounted it meanwhile"), "{said}");
    });
}

#[test]
fn a_start_leaves_what_is_being_made() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        let making = world.held_up("v@s", TAKE).await;
        // One that begins while the start still puts things in order.
        world.service.clone().recover().await;
        world.let_go();
        making.made().await.unwrap();
        assert_eq!(names(&world), ["v", "v@s"]);
    });
}
