//! Schedules over hours, on plain directories.

use std::sync::atomic::Ordering;

use super::*;
use crate::snapshot::Unattended;
use crate::volume::listing::ListedSnapshots;
use crate::volume::purge::Rounds;
use crate::volume::testing::{World, apart, name};

const HOURLY: &[(&str, &str)] = &[("snapshot.schedule", "@hourly"), ("snapshot.keep", "hourly=2")];

impl World {
    /// Whole hours, the first being the next since the schedule of `v` is in force.
    fn hour(&self, hours: i64) -> Timestamp {
        let Some(Entry::Volume(record)) = self.service.catalog.get(&name("v")) else {
            panic!("no volume v");
        };
        let since = record.scheduled_since.unwrap_or(record.created);
        let first = "@hourly".parse::<Schedule>().unwrap().next(since).unwrap();
        first + SignedDuration::from_hours(hours - 1)
    }

    /// What happens at that hour; gives the names of the snapshots that there are then.
    async fn pass(&self, hours: i64) -> Vec<String> {
        self.pass_at(self.hour(hours)).await
    }

    async fn pass_at(&self, time: Timestamp) -> Vec<String> {
        self.service.schedule_round(time).await;
        let all = self.service.catalog.all().into_iter();
        all.map(|(name, _)| name.to_string()).filter(|name| name.contains('@')).collect()
    }

    fn called(&self, volume: &str, hours: i64) -> String {
        self.hour(hours).strftime(&format!("{volume}@auto-%Y%m%dT%H%M%SZ")).to_string()
    }
}

#[test]
fn one_is_taken_each_hour_and_two_are_kept() {
    apart(|| async {
        let world = World::new();
        world.create("v", HOURLY).await.unwrap();
        world.create("v@asked", &[("snapshot", "now")]).await.unwrap();
        world.create("w", &[]).await.unwrap();
        let called = |hours| world.called("v", hours);
        let before = world.hour(1) - SignedDuration::from_secs(1);
        assert_eq!(world.pass_at(before).await, ["v@asked"]);
        assert_eq!(world.pass(1).await, ["v@asked".to_owned(), called(1)]);
        // Asked again within the hour it has nothing to do.
        assert_eq!(world.pass(1).await.len(), 2);
        world.pass(2).await;
        assert_eq!(world.pass(3).await, ["v@asked".to_owned(), called(2), called(3)]);
        // Those of schedules answer to their names and are not listed.
        let listed: Vec<_> =
            world.service.list().into_iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(listed, ["v", "v@asked", "w"]);
        assert_eq!(world.status(&called(3)).await.unwrap()["snapshot"]["scheduled"], true);
        let status = world.status("v").await.unwrap();
        assert_eq!(status["schedule"]["cron"], "@hourly");
        assert_eq!(status["schedule"]["keep"], "hourly=2");
        assert_eq!(status["snapshots"].as_array().unwrap().len(), 3);
        // What goes is deleted, not kept in the trash.
        world.purge_round().await;
        assert!(world.service.catalog.trash().is_empty());
    });
}

#[test]
fn what_is_protected_mounted_or_cloned_stays() {
    apart(|| async {
        let world = World::new();
        world.create("v", HOURLY).await.unwrap();
        for hours in 1..=2 {
            world.pass(hours).await;
        }
        let (mounted, cloned) = (world.called("v", 1), world.called("v", 2));
        world.mount(&mounted, "1").await.unwrap();
        world.create("c", &[("from", &cloned)]).await.unwrap();
        world.pass(3).await;
        let protected = world.called("v", 3);
        let protect = |on| Arc::clone(&world.service).protect(name(&protected), on);
        protect(true).await.unwrap();
        for hours in 4..=6 {
            world.pass(hours).await;
        }
        let last = [world.called("v", 5), world.called("v", 6)];
        let kept = [&[mounted.clone(), cloned.clone(), protected.clone()], &last[..]].concat();
        assert_eq!(world.pass(6).await, kept);
        protect(false).await.unwrap();
        world.unmount(&mounted, "1").await.unwrap();
        world.remove("c").await.unwrap();
        assert_eq!(world.pass(7).await, [world.called("v", 6), world.called("v", 7)]);
    });
}

#[test]
fn a_clone_is_of_one_snapshot_whatever_is_called_how_by_now() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        world.create("v@s", &[("snapshot", "now")]).await.unwrap();
        world.create("c", &[("from", "v@s")]).await.unwrap();
        world.remove("v").await.unwrap();
        assert_eq!(world.undelete("v", Some("w")).await.unwrap(), "w");
        world.create("v", &[]).await.unwrap();
        world.create("v@s", &[("snapshot", "now")]).await.unwrap();
        let world = world.restarted();
        let drop = async |snapshot: &str| {
            let record = world.service.ready(&name(snapshot)).unwrap();
            world.service.drop_scheduled(&record).await.unwrap()
        };
        assert_eq!((drop("w@s").await, drop("v@s").await), (false, true));
        world.remove("c").await.unwrap();
        assert!(drop("w@s").await);
        // Records of before have no more than its name.
        world.create("v@s", &[("snapshot", "now")]).await.unwrap();
        world.create("d", &[("from", "v@s")]).await.unwrap();
        let mut old = world.service.ready(&name("d")).unwrap();
        old.origin.as_mut().unwrap().original = None;
        world.service.catalog.put(old).unwrap();
        let world = world.restarted();
        let record = world.service.ready(&name("v@s")).unwrap();
        assert!(!world.service.drop_scheduled(&record).await.unwrap());
    });
}

#[test]
fn a_stop_of_the_machine_is_made_up_for_once() {
    apart(|| async {
        let world = World::new();
        world.create("v", HOURLY).await.unwrap();
        world.pass(1).await;
        let world = world.restarted();
        assert_eq!(world.pass(9).await, [world.called("v", 1), world.called("v", 9)]);
        assert_eq!(world.status("v").await.unwrap()["schedule"]["missed"], 7);
        world.pass(10).await;
        assert_eq!(world.status("v").await.unwrap()["schedule"].get("missed"), None);
    });
}

#[test]
fn a_schedule_begins_when_it_is_given() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let set = HOURLY.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let service = || Arc::clone(&world.service);
        service().change(name("v"), set, Vec::new()).await.unwrap();
        let Some(Entry::Volume(record)) = world.service.catalog.get(&name("v")) else {
            panic!("no volume");
        };
        assert!(record.scheduled_since.unwrap() > record.created);
        assert_eq!(world.pass(1).await.len(), 1);
        let unset = vec!["snapshot.schedule".to_owned(), "snapshot.keep".to_owned()];
        service().change(name("v"), [].into(), unset).await.unwrap();
        assert_eq!(world.pass(2).await.len(), 1);
        assert_eq!(world.status("v").await.unwrap().get("schedule"), None);
    });
}

#[test]
fn a_failure_is_shown_and_tried_again() {
    apart(|| async {
        let world = World::new();
        world.create("v", HOURLY).await.unwrap();
        let hour = world.hour(1);
        // A wrong setting is one of the things that keep snapshots from being taken.
        let world = World::at(world.dir, Some("POOL_SIZE: `x`"));
        assert!(world.pass(1).await.is_empty());
        let status = world.status("v").await.unwrap();
        assert_eq!(
            (&status["state"], &status["schedule"]["failure"]["tries"]),
            (&"degraded".into(), &1.into())
        );
        assert!(status["reason"].as_str().unwrap().contains("POOL_SIZE"), "{status}");
        // Not at once.
        assert!(world.pass(1).await.is_empty());
        assert_eq!(world.status("v").await.unwrap()["schedule"]["failure"]["tries"], 1);
        let world = world.restarted();
        world.service.schedule_round(hour).await;
        assert_eq!(world.status("v").await.unwrap()["state"], "ok");
    });
}

#[test]
fn a_pool_that_fills_loses_the_oldest_that_a_schedule_took() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("snapshot.schedule", "@hourly")]).await.unwrap();
        world.create("v@asked", &[("snapshot", "now")]).await.unwrap();
        for hours in 1..=3 {
            world.pass(hours).await;
        }
        let called = |hours| world.called("v", hours);
        Arc::clone(&world.service).protect(name(&called(1)), true).await.unwrap();
        // Five shares are there; one too many, and only two of them may go.
        world.default.roomy.store(4, Ordering::SeqCst);
        world.purge_round().await;
        world.purge_round().await;
        assert_eq!(world.pass(3).await, ["v@asked".to_owned(), called(1), called(3)]);
        world.default.roomy.store(1, Ordering::SeqCst);
        for _ in 0..4 {
            world.purge_round().await;
        }
        assert_eq!(world.pass(3).await.len(), 2, "what may not go went");
    });
}

#[test]
fn all_are_listed_where_that_is_set() {
    apart(|| async {
        let mut world = World::new();
        world.create("v", HOURLY).await.unwrap();
        world.pass(1).await;
        let scheduled = name(&world.called("v", 1));
        let listed =
            |world: &World| world.service.list().into_iter().any(|(name, _)| name == scheduled);
        assert!(!listed(&world));
        Arc::get_mut(&mut world.service).unwrap().listed = ListedSnapshots::All;
        assert!(listed(&world));
    });
}

#[test]
fn neither_a_snapshot_nor_a_clone_has_the_schedule_of_its_origin() {
    apart(|| async {
        let world = World::new();
        world.create("v", HOURLY).await.unwrap();
        world.create("v@s", &[("snapshot", "now")]).await.unwrap();
        world.create("c", &[("from", "v@s")]).await.unwrap();
        for volume in ["v@s", "c"] {
            assert_eq!(world.status(volume).await.unwrap().get("schedule"), None, "{volume}");
        }
        let set = [("snapshot.schedule".to_owned(), "@daily".to_owned())].into();
        let error = Arc::clone(&world.service).change(name("v@s"), set, Vec::new()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("a snapshot has no option `snapshot.schedule`"), "{error}");
    });
}

#[test]
fn what_a_clock_that_was_ahead_has_dated_holds_up_nothing() {
    apart(|| async {
        let world = World::new();
        world.create("v", HOURLY).await.unwrap();
        world.pass(1).await;
        let year = 24 * 365;
        let far = world.called("v", year);
        assert_eq!(world.pass(year).await, [world.called("v", 1), far.clone()]);
        // The clock is right again. What it has dated is one of the two that are kept.
        for hours in 2..=3 {
            assert_eq!(world.pass(hours).await, [world.called("v", hours), far.clone()]);
        }
        // A little of that takes none twice.
        let kept = [world.called("v", 3), far];
        assert_eq!(world.pass_at(world.hour(3) - LATE / 2).await, kept);
        assert_eq!(world.pass(3).await, kept);
    });
}

#[test]
fn a_volume_made_while_the_clock_was_ahead_has_a_schedule() {
    apart(|| async {
        let world = World::new();
        world.create("v", HOURLY).await.unwrap();
        // Its first hour comes later than this by a year.
        for hours in -24 * 365..=-24 * 365 + 1 {
            world.pass(hours).await;
        }
        let called = |hours| world.called("v", hours);
        assert_eq!(world.pass(-24 * 365 + 1).await, [called(-24 * 365), called(-24 * 365 + 1)]);
    });
}

#[test]
fn a_failure_is_of_one_schedule_of_one_volume() {
    apart(|| async {
        let world = World::new();
        world.create("v", HOURLY).await.unwrap();
        let world = World::at(world.dir, Some("POOL_SIZE: `x`"));
        world.pass(1).await;
        assert_eq!(world.status("v").await.unwrap()["state"], "degraded");
        let unset = vec!["snapshot.schedule".to_owned(), "snapshot.keep".to_owned()];
        Arc::clone(&world.service).change(name("v"), [].into(), unset).await.unwrap();
        assert_eq!(world.status("v").await.unwrap()["state"], "ok");
    });
}

impl World {
    fn there(&self) -> Vec<String> {
        let all = self.service.catalog.all().into_iter();
        all.map(|(name, _)| name.to_string()).filter(|name| name.contains('@')).collect()
    }
}

#[test]
fn of_what_gives_no_space_back_one_goes_and_not_all() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("snapshot.schedule", "@hourly")]).await.unwrap();
        for hours in 1..=4 {
            world.pass(hours).await;
        }
        world.default.roomy.store(1, Ordering::SeqCst);
        world.default.stuck.store(1, Ordering::SeqCst);
        let mut rounds = Rounds::default();
        for _ in 0..4 {
            world.service.purge_round(&mut rounds).await;
        }
        assert_eq!(world.there(), [2, 3, 4].map(|hours| world.called("v", hours)));
        // A while later it may be otherwise, and what one gives back may be enough for now.
        world.default.stuck.store(0, Ordering::SeqCst);
        let mut rounds = Rounds::default();
        for _ in 0..4 {
            world.service.purge_round(&mut rounds).await;
        }
        assert_eq!(world.there(), [3, 4].map(|hours| world.called("v", hours)));
    });
}

#[test]
fn a_clone_that_begins_meanwhile_keeps_its_snapshot() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        world.create("v@s", &[("snapshot", "now")]).await.unwrap();
        let snapshot = world.service.ready(&name("v@s")).unwrap();
        let turn = world.service.turn(&name("v")).await;
        let go = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            drop(turn);
        };
        let clone = [("from", "v@s")];
        let (cloned, dropped, ()) =
            tokio::join!(world.create("c", &clone), world.service.drop_scheduled(&snapshot), go);
        cloned.unwrap();
        assert!(!dropped.unwrap());
        assert_eq!(world.there(), ["v@s"]);
        // Or one that the next start begins anew.
        let mut left = world.service.ready(&name("c")).unwrap();
        let options = clone.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        left.unattended = Some(Box::new(Unattended { options, starts: 0 }));
        (left.origin, left.phase) = (None, Phase::Creating);
        world.service.catalog.put(left).unwrap();
        assert!(!world.service.drop_scheduled(&snapshot).await.unwrap());
        world.remove("c").await.unwrap();
        assert!(world.service.drop_scheduled(&snapshot).await.unwrap());
        // Another of the name is another one.
        world.create("v@s", &[("snapshot", "now")]).await.unwrap();
        assert!(!world.service.drop_scheduled(&snapshot).await.unwrap());
    });
}

#[test]
fn what_is_kept_goes_by_what_is_set_by_then() {
    apart(|| async {
        let world = World::new();
        world.create("v", HOURLY).await.unwrap();
        for hours in 1..=2 {
            world.pass(hours).await;
        }
        let mut old = world.service.ready(&name("v")).unwrap();
        old.spec.keep = Some("hourly=1".parse().unwrap());
        world.service.thin_out(&old).await;
        assert_eq!(world.there().len(), 2);
    });
}
