//! Prepared snapshots, and what is told of trials, on plain directories with clusters made up of files.

use std::fs;

use plugin_sdk::durable;

use super::super::tests::{TAKE, checks, names};
use crate::name::VolumeName;
use crate::snapshot::{Check, Depth, Outcome};
use crate::volume::error::VolumeError;
use crate::volume::testing::{Neighbour, World, apart};

/// What a snapshot of a server that was killed, and a clone of it, hold.
async fn with_clone() -> World {
    let world = World::with_cluster(6).await;
    world.create("v@s", TAKE).await.unwrap();
    world.create("c", &[("from", "v@s"), ("prepared", "off")]).await.unwrap();
    world
}

impl World {
    /// A server recovers the cluster of this volume, and leaves it in this state.
    fn served(&self, volume: &str, state: u32) {
        let path = self.file(&format!("default/{volume}/data/global/pg_control"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[16..20].copy_from_slice(&state.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..288]);
        bytes[288..292].copy_from_slice(&checksum.to_le_bytes());
        durable::write(&path, &bytes).unwrap();
        let rows = self.file(&format!("default/{volume}/data/base/5/1259"));
        durable::write(&rows, b"recovered").unwrap();
    }

    async fn prepare(&self, of: &str, clone: &str) -> Result<VolumeName, VolumeError> {
        self.service.clone().prepare(of.parse().unwrap(), clone.parse().unwrap()).await
    }

    fn rows_of(&self, share: &str) -> String {
        fs::read_to_string(self.file(&format!("default/{share}/data/base/5/1259"))).unwrap()
    }

    async fn tried(&self, of: &str, clone: &str, checks: Vec<Check>) -> Result<(), VolumeError> {
        let (of, clone) = (of.parse().unwrap(), clone.parse().unwrap());
        self.service.clone().note_trial(of, clone, checks).await
    }
}

#[test]
fn clones_of_a_prepared_snapshot_are_of_what_its_server_left() {
    apart(|| async {
        let world = with_clone().await;
        let auto = world.file("default/v/data/postgresql.auto.conf");
        durable::write(&auto, b"archive_command = 'x'\n").unwrap();
        world.remove("v@s").await.unwrap();
        world.create("v@s", TAKE).await.unwrap();
        world.create("d", &[("from", "v@s")]).await.unwrap();
        world.served("d", 1);
        assert_eq!(world.prepare("v@s", "d").await.unwrap().as_str(), "v@s-prepared");
        assert_eq!(world.prepare("v@s", "d").await.unwrap().as_str(), "v@s-prepared");
        let world = world.restarted();
        let status = world.status("v@s-prepared").await.unwrap();
        assert_eq!(status["snapshot"]["consistency"], "offline");
        assert_eq!(status["snapshot"]["prepared"]["of"], "s");
        world.create("e", &[("from", "v@s")]).await.unwrap();
        assert_eq!(world.rows_of("e"), "recovered");
        let origin = &world.status("e").await.unwrap()["origin"];
        assert_eq!((&origin["from"], &origin["prepared"]), (&"v@s".into(), &true.into()));
        assert_eq!(origin["consistency"], "offline-unclean");
        // What was disarmed when it was prepared.
        assert_eq!(origin["sanitised"][0]["what"], "archive_command");
        // Whoever is to be a replica, or wants what was captured, gets that.
        world.create("f", &[("from", "v@s"), ("sanitize", "off")]).await.unwrap();
        world.create("g", &[("from", "v@s"), ("prepared", "off")]).await.unwrap();
        assert_eq!((&*world.rows_of("f"), &*world.rows_of("g")), ("rows", "rows"));
        world.remove("v@s-prepared").await.unwrap();
        world.create("h", &[("from", "v@s")]).await.unwrap();
        assert_eq!(world.rows_of("h"), "rows");
    });
}

#[test]
fn what_was_prepared_is_no_other_snapshot_s() {
    apart(|| async {
        let world = with_clone().await;
        world.served("c", 1);
        world.prepare("v@s", "c").await.unwrap();
        let keep = "v@kept".parse().unwrap();
        let restored = world.service.clone().restore("v@s-prepared".parse().unwrap(), keep).await;
        let said = restored.unwrap_err().to_string();
        assert!(said.contains("name v@s") && !names(&world).contains(&"v@kept".into()), "{said}");
        let said = world.prepare("v@s-prepared", "c").await.unwrap_err().to_string();
        assert!(said.contains("it is prepared"), "{said}");
        // Nothing brings back what clones must not do.
        for key in ["sanitize", "prepared"] {
            let said = world.refused("e", &[("from", "v@s-prepared"), (key, "off")]).await;
            assert!(said.contains(key) && said.contains("disarmed for clones: name v@s"), "{said}");
        }
        world.remove("v@s").await.unwrap();
        world.create("v@s", TAKE).await.unwrap();
        world.create("d", &[("from", "v@s")]).await.unwrap();
        assert_eq!(world.rows_of("d"), "rows");
        world.served("d", 1);
        let said = world.prepare("v@s", "d").await.unwrap_err().to_string();
        assert!(said.contains("there is a snapshot v@s-prepared already"), "{said}");
    });
}

#[test]
fn what_was_prepared_goes_with_the_snapshot_of_a_schedule() {
    apart(|| async {
        let world = with_clone().await;
        world.served("c", 1);
        let prepared = world.prepare("v@s", "c").await.unwrap();
        world.remove("c").await.unwrap();
        let snapshot = world.service.ready(&"v@s".parse().unwrap()).unwrap();
        world.service.clone().protect(prepared.clone(), true).await.unwrap();
        assert!(!world.service.drop_scheduled(&snapshot).await.unwrap());
        assert_eq!(names(&world), ["v", "v@s", "v@s-prepared"]);
        world.service.clone().protect(prepared, false).await.unwrap();
        // One that was asked for by the name of what was prepared.
        world.create("d", &[("from", "v@s-prepared")]).await.unwrap();
        assert!(!world.service.drop_scheduled(&snapshot).await.unwrap());
        world.remove("d").await.unwrap();
        assert!(world.service.drop_scheduled(&snapshot).await.unwrap());
        assert_eq!(names(&world), ["v"]);
    });
}

#[test]
fn nothing_is_prepared_of_what_is_not_recovered() {
    apart(|| async {
        let world = with_clone().await;
        let refused =
            async |of: &str, clone: &str| world.prepare(of, clone).await.unwrap_err().to_string();
        assert!(refused("v@s", "c").await.contains("did not end cleanly"));
        assert!(refused("v@s", "v").await.contains("v is no clone of v@s"));
        assert!(refused("v", "c").await.contains("v is no snapshot"));
        world.served("c", 1);
        world.create("raw", &[("from", "v@s"), ("sanitize", "off")]).await.unwrap();
        assert!(refused("v@s", "raw").await.contains("raw is no clone"));
        let long = format!("v@{}", "s".repeat(60));
        world.create(&long, TAKE).await.unwrap();
        world.create("d", &[("from", &long)]).await.unwrap();
        world.served("d", 1);
        assert!(refused(&long, "d").await.contains("too long"));
        fs::remove_file(world.file("default/c/data/PG_VERSION")).unwrap();
        fs::remove_dir_all(world.file("default/c/data/global")).unwrap();
        assert!(refused("v@s", "c").await.contains("no cluster"));
        assert_eq!(names(&world), ["c", "d", "raw", "v", "v@s", long.as_str()]);
        assert!(!world.file("default/v@s-prepared").exists());
    });
}

#[test]
fn what_a_trial_has_shown_is_kept_with_the_snapshot() {
    apart(|| async {
        let world = with_clone().await;
        let failed = |name: &str| Check {
            outcome: Outcome::Failed,
            ..Check::passed(name, format!("a\nb{}", "x".repeat(5000)))
        };
        let all = vec![Check::passed("start", "x".to_owned()), failed("amcheck"), failed("pages")];
        world.tried("v@s", "c", all).await.unwrap();
        let world = world.restarted();
        let status = world.status("v@s").await.unwrap();
        assert_eq!(checks(&status), ["control", "wal", "tablespaces", "start", "amcheck"]);
        let amcheck = &status["snapshot"]["checks"][4];
        assert_eq!((&amcheck["outcome"], amcheck["at"].is_string()), (&"failed".into(), true));
        let found = amcheck["found"].as_str().unwrap();
        assert!(found.starts_with("a bx") && found.len() == 2048, "{found}");
        world.tried("v@s", "c", vec![Check::passed("amcheck", "y".to_owned())]).await.unwrap();
        let status = world.status("v@s").await.unwrap();
        assert!(status["snapshot"]["checks"][4].get("outcome").is_none(), "{status}");
        let said = world.tried("v@s", "v", Vec::new()).await.unwrap_err().to_string();
        assert!(said.contains("v is no clone of v@s"), "{said}");
        assert!(world.tried("v", "c", Vec::new()).await.is_err());
        let placed = world.service.clone().placed_clusters("c".parse().unwrap()).await.unwrap();
        assert_eq!((placed.len(), placed[0].path.to_str()), (1, Some("data")));
        assert_eq!(placed[0].version, "17");
    });
}

#[test]
fn a_check_that_is_not_passed_any_more_is_kept_too() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@s", TAKE).await.unwrap();
        let verify =
            async || world.service.clone().verify("v@s".parse().unwrap(), Depth::Checks).await;
        world.create("empty", &[]).await.unwrap();
        world.create("empty@s", TAKE).await.unwrap();
        for depth in [Depth::Checks, Depth::Pages] {
            let empty = "empty@s".parse().unwrap();
            let error = world.service.clone().verify(empty, depth).await.unwrap_err();
            assert!(plugin_sdk::chain::chain(&error).contains("there is no cluster in it"));
        }
        let version = world.file("default/v@s/data/PG_VERSION");
        durable::write(&version, b"16\n").unwrap();
        assert!(verify().await.is_err());
        let status = world.status("v@s").await.unwrap();
        assert_eq!(checks(&status), ["control", "wal", "tablespaces", "version"]);
        assert_eq!(status["snapshot"]["checks"][3]["outcome"], "failed");
        durable::write(&version, b"17\n").unwrap();
        verify().await.unwrap();
        let status = world.status("v@s").await.unwrap();
        assert_eq!(checks(&status), ["control", "wal", "tablespaces"]);
    });
}

#[test]
fn what_was_prepared_stays_where_its_snapshot_cannot_go() {
    apart(|| async {
        let world = with_clone().await;
        world.served("c", 1);
        world.prepare("v@s", "c").await.unwrap();
        world.remove("c").await.unwrap();
        let view = world.mount("v@s", "1").await.unwrap();
        let user = Neighbour::new("private", &format!("mount --bind {} /mnt", view.display()));
        world.unmount("v@s", "1").await.unwrap();
        let snapshot = world.service.ready(&"v@s".parse().unwrap()).unwrap();
        let error = world.service.drop_scheduled(&snapshot).await.unwrap_err();
        assert!(matches!(error, VolumeError::InUse { .. }), "{error}");
        assert_eq!(names(&world), ["v", "v@s", "v@s-prepared"]);
        drop(user);
        assert!(world.service.drop_scheduled(&snapshot).await.unwrap());
    });
}
