//! Levels that what is in the WAL leaves.

use super::super::tests::{TAKE, ended, fill, user_of_v};
use crate::postgres::control::Lsn;
use crate::postgres::wal::sample::Sample;
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

/// Of a cluster that `pg_basebackup` has made, whose control file is its latest one.
#[test]
fn a_base_backup_is_copied_from_where_it_began() {
    apart(|| async {
        let world = World::with_cluster(6).await;
        let (data, wal) = (world.file("default/v/data"), world.file("wal/v/wal"));
        let mut sample = Sample::new(3);
        let mut checkpoint = || {
            let redo = sample.record(10, 0, &[7; 64]);
            let checkpoint = sample.record(0, 0x10, &[7; 90]);
            for _ in 0..100 {
                sample.record(10, 0, &vec![9; 20_000]);
            }
            (redo, checkpoint)
        };
        let (start, first): (Lsn, Lsn) = checkpoint();
        let (redo, second) = checkpoint();
        let control = super::super::tests::control(6, redo, second);
        fill(&data, &wal, &(sample, control));
        let label = format!(
            "START WAL LOCATION: {start} (file 000000010000000000000003)\nCHECKPOINT LOCATION: {first}\n\
             BACKUP METHOD: streamed\nBACKUP FROM: standby\nSTART TIME: x\nLABEL: y\nSTART TIMELINE: 1\n"
        );
        plugin_sdk::durable::write(&data.join("backup_label"), label.as_bytes()).unwrap();
        world.create("v@s", TAKE).await.unwrap();
        let oldest = "000000010000000000000003";
        assert!(world.file("wal/v@s/wal").join(oldest).exists());
        // Without that it could not be started, however much there is from the control file's checkpoint on.
        plugin_sdk::durable::remove(&wal.join(oldest)).unwrap();
        let said = world.refused("v@t", TAKE).await;
        assert!(said.contains("no segment with the redo point"), "{said}");
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
