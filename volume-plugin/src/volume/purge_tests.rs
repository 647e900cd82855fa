//! What goes of the trash, when, and what does not.

use std::fs;
use std::sync::atomic::Ordering;

use super::*;
use crate::scratch::Scratch;
use crate::volume::catalog::CatalogError;
use crate::volume::testing::{World, apart};

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
        // The host's disk may be full of anything.
        world.wal.roomy.store(3, Ordering::SeqCst);
        world.service.purge_round(&mut rounds).await;
        assert_eq!(world.shares("wal").len(), 4);
        world.default.roomy.store(3, Ordering::SeqCst);
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
fn nothing_is_over_while_settings_are_wrong() {
    apart(|| async {
        let world = World::new();
        for volume in ["old", "named"] {
            world.create(volume, &[]).await.unwrap();
            world.remove(volume).await.unwrap();
            world.age(volume);
        }
        let bad = "setting TRASH=90days: allowed are 0 and whole numbers with s, m, h or d";
        let world = World::at(world.dir, Some(bad));
        let mut rounds = Rounds::default();
        world.service.purge_round(&mut rounds).await;
        rounds.pass(Duration::from_hours(1));
        // What somebody names goes all the same.
        world.purge("named").await.unwrap();
        world.service.purge_round(&mut rounds).await;
        assert_eq!(
            (world.trash().await, world.shares("wal")),
            (vec!["old~0".into()], vec!["old".into()])
        );
    });
}

/// Growing takes a while under load, which is when it is needed.
#[test]
fn a_pool_that_somebody_makes_larger_costs_nothing_of_the_trash() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        world.remove("v").await.unwrap();
        world.default.growing.store(5, Ordering::SeqCst);
        world.default.creates.store(1, Ordering::SeqCst);
        world.create("w", &[]).await.unwrap();
        assert_eq!(world.trash().await, ["v~0"]);
    });
}
