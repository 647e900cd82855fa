//! Who would give back what.

use plugin_sdk::durable;

use super::*;
use crate::volume::testing::{World, apart};

fn owner(name: &str, family: &str, shown: bool) -> Owner {
    let shown = shown.then(|| name.parse().unwrap());
    Owner { family: family.to_owned(), shown, role: Role::Data }
}

#[test]
fn what_others_have_too_is_not_given_back() {
    let names = [("db", "db"), ("one", "db"), ("two", "db"), ("clone", "clone")];
    let owners = names.map(|(name, family)| owner(name, family, true));
    let claims = vec![
        // Of the volume alone, in two files that are beside each other.
        (0..10, 0),
        (10..15, 0),
        // With one of its snapshots, with both, and with a clone.
        (100..200, 0),
        (100..200, 1),
        (200..300, 1),
        (200..300, 2),
        (300..400, 0),
        (350..500, 3),
        // Of a snapshot alone, reflinked within it.
        (600..700, 2),
        (650..750, 2),
    ];
    let alone = alone(claims, &owners);
    assert_eq!(alone.owners, [(0, 15 + 50), (2, 150), (3, 100)].into());
    let family = |name: &str| alone.families[&(name.to_owned(), Role::Data)];
    assert_eq!((family("db"), family("clone")), (15 + 100 + 100 + 50 + 150, 100));
}

#[test]
fn what_is_in_the_trash_has_its_part() {
    let owners = [owner("db", "db", true), owner("db", "db", false)];
    let alone = alone(vec![(0..100, 0), (50..100, 1)], &owners);
    assert_eq!(alone.owners, [(0, 50)].into());
}

#[test]
fn each_role_has_its_own() {
    apart(|| async {
        let world = World::new();
        for volume in ["a", "b"] {
            world.create(volume, &[]).await.unwrap();
        }
        let wal = world.dir.path().join("wal/a/wal");
        durable::write(&wal.join("file"), &vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(wal.join("file"), wal.join("again")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", wal.join("link")).unwrap();
        let freed = world.service.freed().await;
        let of = |volume: &str, role| freed[&(volume.parse().unwrap(), role)];
        assert!((1 << 20..1 << 21).contains(&of("a", Role::Wal)), "{freed:?}");
        assert_eq!((of("a", Role::Data), of("b", Role::Wal)), (0, 0));
    });
}
