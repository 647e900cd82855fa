//! Clusters that users have laid out otherwise than volumes do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use plugin_sdk::durable;

use super::super::tests::{TAKE, checks, ended, fill};
use super::*;
use crate::volume::testing::{World, apart};

/// A tablespace's directory at `home`, and a link to it that leads to `target` in the container.
fn tablespace(home: &Path, link: &Path, target: &str) {
    durable::create_dir(&home.join("PG_17_202406281/5"), 0o700).unwrap();
    symlink(target, link).unwrap();
}

#[test]
fn the_longest_end_comes_first() {
    let shown = |target: &str| {
        let ends = ends(Path::new(target)).into_iter();
        ends.map(|end| end.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown("/pg/tablespaces/a"), ["pg/tablespaces/a", "tablespaces/a", "a"]);
    assert_eq!(shown("../../tablespaces/a/"), ["tablespaces/a", "a"]);
    assert!(shown("/").is_empty() && shown("..").is_empty());
    assert_eq!(shown(&"/x".repeat(100)).len(), MOST_NAMES);
}

#[test]
fn parts_beside_a_cluster_that_is_its_volume_s_are_found() {
    apart(|| async {
        for pid in [None, Some("1\n/pg/main\n")] {
            let world = World::new();
            world.create("v", &[("layout", "pgdata")]).await.unwrap();
            let at = |path: &str| world.file("default/v").join(path);
            fill(&at("main"), &at("log"), &ended(1));
            symlink("/pg/log", at("main/pg_wal")).unwrap();
            tablespace(&at("fast"), &at("main/pg_tblspc/16384"), "/pg/fast");
            if let Some(pid) = pid {
                durable::write(&at("main/postmaster.pid"), pid.as_bytes()).unwrap();
            }
            world.create("v@s", TAKE).await.unwrap();
            let status = world.status("v@s").await.unwrap();
            assert_eq!(checks(&status), ["control", "wal", "tablespaces"]);
            world.create("c", &[("from", "v@s")]).await.unwrap();
            let link = |path: &str| fs::read_link(world.file("default/c/main").join(path)).unwrap();
            assert_eq!(link("pg_wal"), Path::new("../log"));
            assert_eq!(link("pg_tblspc/16384"), Path::new("../../fast"));
            world.create("d", &[("from", "c")]).await.unwrap();
        }
    });
}

#[test]
fn a_tablespace_may_be_deeper_than_its_role() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        let at = |path: &str| world.file("default/v").join(path);
        let deep = at("tablespaces/fast/deep/one");
        tablespace(&deep, &at("data/pg_tblspc/16385"), "/pg/tablespaces/fast/deep/one");
        // What was mounted at a place of its own.
        tablespace(&at("tablespaces/fast/two"), &at("data/pg_tblspc/16386"), "/fast/two");
        world.create("c", &[("from", "v")]).await.unwrap();
        let link =
            |name: &str| fs::read_link(world.file("default/c/data/pg_tblspc").join(name)).unwrap();
        assert_eq!(link("16385"), Path::new("../../tablespaces/fast/deep/one"));
        assert_eq!(link("16386"), Path::new("/fast/two"));
        // Two are not in one place.
        symlink("/other/tablespaces/fast", at("data/pg_tblspc/16387")).unwrap();
        let said = world.refused("v@s", TAKE).await;
        assert!(said.contains("16387 at /other/tablespaces/fast is not in the volume"), "{said}");
    });
}

#[test]
fn wal_is_where_the_link_leads_and_not_where_some_is_left() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        let (old, new) = (world.file("wal/v/wal"), world.file("wal/v/wal/new"));
        durable::create_dir(&new, 0o700).unwrap();
        let segment = "000000010000000000000003";
        for entry in fs::read_dir(&old).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                durable::rename(&entry.path(), &new.join(entry.file_name())).unwrap();
            }
        }
        durable::write(&old.join(segment), b"of a cluster that is gone").unwrap();
        let link = world.file("default/v/data/pg_wal");
        durable::remove(&link).unwrap();
        symlink("/pg/wal/new", &link).unwrap();
        world.create("v@s", TAKE).await.unwrap();
        assert!(world.file("wal/v@s/wal/new").join(segment).exists());
    });
}
