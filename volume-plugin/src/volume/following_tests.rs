//! Clusters that somebody renames from within the volume.

use std::path::PathBuf;

use plugin_sdk::durable;
use serde_json::json;

use super::*;
use crate::volume::testing::{World, apart};

const CONTROL: &[u8] = include_bytes!("../../fixtures/pg_control/17");
const SEGMENT: &str = "000000010000000000000001";

/// What a server that was cleanly stopped leaves in `data`, with this in the identifier of its WAL.
fn plant(data: &Path, other: u64) {
    for directory in ["global", PG_WAL] {
        durable::create_dir(&data.join(directory), 0o700).unwrap();
    }
    durable::write(&data.join("PG_VERSION"), b"17\n").unwrap();
    durable::write(&data.join("global/pg_control"), CONTROL).unwrap();
    let control = control::parse(CONTROL).unwrap();
    let mut segment = vec![0; 64];
    segment[1] = 0xd1;
    segment[8..16].copy_from_slice(&(1_u64 << 24).to_le_bytes());
    let identifier = control.details.system_identifier ^ other;
    segment[24..32].copy_from_slice(&identifier.to_le_bytes());
    durable::write(&data.join(PG_WAL).join(SEGMENT), &segment).unwrap();
}

/// A volume whose cluster has its WAL in the pool `wal`, and what it shows.
async fn moved(world: &World, other: u64) -> PathBuf {
    world.create("v", &[("layout", "pgdata")]).await.unwrap();
    let view = world.mount("v", "one").await.unwrap();
    plant(&view.join("17/main"), other);
    world.unmount("v", "one").await.unwrap();
    let view = world.mount("v", "two").await.unwrap();
    assert!(world.dir.path().join("wal/v/17/main/pg_wal").join(SEGMENT).exists());
    view
}

#[test]
fn the_wal_follows_a_cluster_that_was_renamed() {
    apart(|| async {
        // Killed between its renaming and the record, or not.
        for killed in [false, true] {
            let world = World::new();
            let view = moved(&world, 0).await;
            durable::rename(&view.join("17"), &view.join("before")).unwrap();
            assert!(view.join("before/main/pg_wal").join(SEGMENT).exists());
            world.unmount("v", "two").await.unwrap();
            if killed {
                let share = world.dir.path().join("wal/v");
                durable::create_dir(&share.join("before/main"), 0o700).unwrap();
                durable::rename(&share.join("17/main/pg_wal"), &share.join("before/main/pg_wal"))
                    .unwrap();
            }
            let world = world.restarted();
            let view = world.mount("v", "three").await.unwrap();
            assert!(view.join("before/main/pg_wal").join(SEGMENT).exists(), "{killed}");
            assert!(!view.join("17").exists(), "{killed}");
            let status = world.status("v").await.unwrap();
            assert_eq!(status["roles"]["wal"]["path"], json!("before/main/pg_wal"));
            // It is where the next mount and the next process look.
            let world = world.restarted();
            let view = world.mount("v", "four").await.unwrap();
            assert!(view.join("before/main/pg_wal").join(SEGMENT).exists(), "{killed}");
            world.unmount("v", "three").await.unwrap();
            world.unmount("v", "four").await.unwrap();
            world.destroy("v").await.unwrap();
            world.assert_empty();
        }
    });
}

#[test]
fn the_wal_of_another_cluster_stays() {
    apart(|| async {
        let world = World::new();
        let view = moved(&world, 1).await;
        durable::rename(&view.join("17"), &view.join("before")).unwrap();
        world.unmount("v", "two").await.unwrap();
        let view = world.mount("v", "three").await.unwrap();
        assert!(view.join("17/main/pg_wal").join(SEGMENT).exists());
        assert!(!view.join("before/main/pg_wal").join(SEGMENT).exists());
    });
}
