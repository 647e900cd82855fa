//! Levels that what is in the WAL leaves.

use super::super::tests::{TAKE, ended, fill, user_of_v};
use crate::volume::testing::{World, apart};

/// The control file tells of the last checkpoint alone.
#[test]
fn a_server_that_has_stopped_to_write_whole_pages_is_not_copied_in_order() {
    apart(|| async {
        let world = World::with_cluster(6).await;
        let (mut sample, control) = ended(6);
        sample.record(0, 0x80, &[255, 1, 0]);
        fill(&world.file("default/v/data"), &world.file("wal/v/wal"), &(sample, control));
        let _user = user_of_v(&world).await;
        let said = world.refused("v@s", &[("snapshot", "now"), ("consistency", "ordered")]).await;
        assert!(said.contains("`ordered` cannot be had") && said.contains("full_page_writes=off"));
        world.create("v@s", TAKE).await.unwrap();
        assert_eq!(world.status("v@s").await.unwrap()["snapshot"]["consistency"], "barrier");
    });
}

/// Whatever the number of clusters is.
#[test]
fn one_of_several_servers_may_write_no_whole_pages() {
    apart(|| async {
        let world = World::with_cluster(6).await;
        let (sample, mut control) = ended(6);
        control[56] = 0;
        let checksum = crc32c::crc32c(&control[..288]);
        control[288..292].copy_from_slice(&checksum.to_le_bytes());
        let other = world.file("default/v/data/other");
        fill(&other, &other.join("pg_wal"), &(sample, control));
        let _user = user_of_v(&world).await;
        let said = world.refused("v@s", &[("snapshot", "now"), ("consistency", "ordered")]).await;
        assert!(said.contains("full_page_writes=off"), "{said}");
        world.create("v@s", TAKE).await.unwrap();
        assert_eq!(world.status("v@s").await.unwrap()["snapshot"]["consistency"], "barrier");
    });
}
