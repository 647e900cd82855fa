//! Whatever root of a container plants wherever the plugin looks: it is not followed, nobody
//! waits for it, nothing outside changes, and the volume can be looked at and removed.

use std::fs;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use plugin_sdk::durable;

use super::space::Closely;
use super::testing::{World, apart};
use crate::scratch::Scratch;
use crate::sys::planting::PLANTS;

/// Where the plugin looks, below the root of a volume.
const SPLIT: [&str; 12] = [
    "data",
    "wal",
    "tablespaces",
    "tablespaces/t",
    "data/PG_VERSION",
    "data/global",
    "data/global/pg_control",
    "data/postmaster.pid",
    "data/pg_wal",
    "wal/strange",
    "data/strange",
    "strange",
];

/// Likewise, for a root that is PGDATA or holds it.
const PGDATA: [&str; 9] = [
    "PG_VERSION",
    "global",
    "global/pg_control",
    "postmaster.pid",
    "pg_wal",
    "pg_wal/000000010000000000000001",
    "pg_wal/archive_status",
    "18",
    "18/docker",
];

/// Longer than anything takes, shorter than for ever.
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_mins(1), work).await;
    done.unwrap_or_else(|_| panic!("{what} waits"))
}

/// What must not change.
fn looks(path: &Path) -> (Vec<u8>, u32, u32, u32, i64, usize) {
    let file = fs::metadata(path.join("file")).unwrap();
    let entries = fs::read_dir(path).unwrap().count();
    let content = fs::read(path.join("file")).unwrap();
    (content, file.mode(), file.uid(), file.gid(), file.mtime(), entries)
}

/// Replaces what is at `place` of the view by each kind of thing, as a container would.
async fn survives(layout: &'static str, place: &'static str) {
    let options: &[(&str, &str)] =
        if layout == "split" { &[("tablespaces", "t")] } else { &[("layout", layout)] };
    let outside = Scratch::new();
    durable::write(&outside.path().join("file"), b"precious").unwrap();
    let world = World::new();
    for (kind, plant) in PLANTS {
        let what = format!("{kind} at {place}");
        world.create("v", options).await.unwrap();
        let view = world.mount("v", "one").await.unwrap();
        // As far as a cluster goes it looks like one.
        let data = if layout == "split" { view.join("data") } else { view.clone() };
        for directory in ["global", "pg_wal"] {
            durable::create_dir(&data.join(directory), 0o700).unwrap();
        }
        durable::write(&data.join("PG_VERSION"), b"17\n").unwrap();
        let control = include_bytes!("../../fixtures/pg_control/17");
        durable::write(&data.join("global/pg_control"), control).unwrap();
        let target = view.join(place);
        durable::create_dir(target.parent().unwrap(), 0o700).unwrap();
        drop(fs::remove_file(&target));
        drop(fs::remove_dir_all(&target));
        // What is a mount inside the view stays; there it is planted inside.
        let target = if target.exists() { target.join("inside") } else { target };
        plant(&target, outside.path());
        let before = looks(outside.path());

        let status = soon(&what, world.status("v")).await.unwrap();
        assert!(status["state"] == "ok" || status["state"] == "degraded", "{what}: {status}");
        soon(&what, world.service.role_space(Closely::Extents)).await;
        soon(&what, world.unmount("v", "one")).await.unwrap();
        // It may be refused, but is answered.
        if soon(&what, world.mount("v", "two")).await.is_ok() {
            soon(&what, world.status("v")).await.unwrap();
            soon(&what, world.unmount("v", "two")).await.unwrap();
        }
        drop(
            soon(&what, world.service.clone().move_wal("v".parse().unwrap(), pool("default")))
                .await,
        );
        drop(soon(&what, world.service.clone().move_wal("v".parse().unwrap(), pool("wal"))).await);
        soon(&what, world.destroy("v")).await.unwrap();
        world.assert_empty();
        assert_eq!(looks(outside.path()), before, "{what}");
    }
}

fn pool(name: &str) -> crate::pool::PoolName {
    crate::pool::PoolName::new(name)
}

#[test]
fn nothing_that_is_planted_in_a_split_volume_leads_out_or_holds_up() {
    for place in SPLIT {
        apart(move || survives("split", place));
    }
}

#[test]
fn nothing_that_is_planted_in_a_cluster_leads_out_or_holds_up() {
    for place in PGDATA {
        apart(move || survives("pgdata", place));
    }
}

/// More than anybody looks at, or waits for.
#[test]
fn a_hundred_thousand_names_hold_nobody_up() {
    for (layout, place) in [("split", "data"), ("pgdata", "")] {
        apart(move || async move {
            let world = World::new();
            world.create("v", &[("layout", layout)]).await.unwrap();
            let view = world.mount("v", "one").await.unwrap();
            for number in 0..100_000 {
                let path = view.join(place).join(format!("{number:0>200}"));
                if number % 10 == 0 {
                    std::fs::DirBuilder::new().create(path).unwrap();
                } else {
                    fs::File::create(path).unwrap();
                }
            }
            let status = soon("status", world.status("v")).await.unwrap();
            assert!(["ok", "degraded"].contains(&status["state"].as_str().unwrap()), "{status}");
            soon("unmount", world.unmount("v", "one")).await.unwrap();
            soon("mount", world.mount("v", "two")).await.unwrap();
            soon("unmount", world.unmount("v", "two")).await.unwrap();
            soon("destroy", world.destroy("v")).await.unwrap();
            world.assert_empty();
        });
    }
}
