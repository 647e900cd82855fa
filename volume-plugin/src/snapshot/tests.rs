//! Snapshots and clones on plain directories, with clusters made up of files.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plugin_sdk::durable;
use serde_json::Value;

use super::barrier::Barrier;
use super::walcopy::WalCopy;
use crate::pool::Pace;
use crate::postgres::control::Lsn;
use crate::postgres::wal::sample::{IDENTIFIER, SIZE, Sample};
use crate::sys::beneath::Dir;
use crate::sys::process::Process;
use crate::volume::error::VolumeError;
use crate::volume::testing::{Neighbour, World, apart};

pub(super) const TAKE: &[(&str, &str)] = &[("snapshot", "now")];

/// The bytes of a control file that says this.
pub(super) fn control(state: u32, redo: Lsn, checkpoint: Lsn) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &IDENTIFIER.to_le_bytes());
    put(8, &1700_u32.to_le_bytes());
    put(12, &202_406_281_u32.to_le_bytes());
    put(16, &state.to_le_bytes());
    put(32, &checkpoint.0.to_le_bytes());
    put(40, &redo.0.to_le_bytes());
    put(48, &1_u32.to_le_bytes());
    put(56, &[1]);
    put(172, &1_u32.to_le_bytes());
    for (at, size) in [(216, 8192_u32), (220, 131_072), (224, 8192), (228, SIZE)] {
        put(at, &size.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&bytes[..288]);
    bytes[288..292].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// WAL with a checkpoint in it, and the control file that says so and this state.
pub(super) fn ended(state: u32) -> (Sample, Vec<u8>) {
    let mut sample = Sample::new(3);
    let redo = sample.record(10, 0, &[7; 64]);
    let checkpoint = sample.record(0, 0x10, &[7; 90]);
    for _ in 0..100 {
        sample.record(10, 0, &vec![9; 20_000]);
    }
    (sample, control(state, redo, checkpoint))
}

/// A cluster in the directory `data`, but for its links, whose WAL is in the directory `wal`.
pub(super) fn fill(data: &Path, wal: &Path, (sample, control): &(Sample, Vec<u8>)) {
    for directory in ["global", "pg_tblspc", "base/5"] {
        durable::create_dir(&data.join(directory), 0o700).unwrap();
    }
    durable::create_dir(wal, 0o700).unwrap();
    sample.write(wal);
    durable::write(&data.join("global/pg_control"), control).unwrap();
    durable::write(&data.join("PG_VERSION"), b"17\n").unwrap();
    durable::write(&data.join("base/5/1259"), b"rows").unwrap();
}

impl World {
    /// A cluster in `volume`, mounted at `/pg` when it was made, stopped at this state.
    fn make_cluster(&self, volume: &str, state: u32) {
        let at = |path: &str| self.dir.path().join(format!("default/{volume}/data/{path}"));
        let wal = self.dir.path().join(format!("wal/{volume}/wal"));
        fill(&at(""), &wal, &ended(state));
        std::os::unix::fs::symlink("/pg/wal", at("pg_wal")).unwrap();
        std::os::unix::fs::symlink("/pg/tablespaces/fast", at("pg_tblspc/16384")).unwrap();
        let home = self.dir.path().join(format!("default/{volume}/tablespaces/fast"));
        durable::create_dir(&home.join("PG_17_202406281/5"), 0o700).unwrap();
    }

    pub(super) async fn with_cluster(state: u32) -> Self {
        let world = Self::new();
        world.create("v", &[("tablespaces", "fast")]).await.unwrap();
        world.make_cluster("v", state);
        world
    }

    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// What a refused create says.
    pub(super) async fn refused(&self, name: &str, options: &[(&str, &str)]) -> String {
        plugin_sdk::chain::chain(&self.create(name, options).await.unwrap_err())
    }
}

pub(super) fn names(world: &World) -> Vec<String> {
    world.service.list().into_iter().map(|(name, _)| name.to_string()).collect()
}

pub(super) fn checks(status: &Value) -> Vec<&str> {
    let checks = status["snapshot"]["checks"].as_array().unwrap();
    checks.iter().map(|check| check["name"].as_str().unwrap()).collect()
}

#[test]
fn a_snapshot_is_a_volume_that_says_what_it_holds() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@s", TAKE).await.unwrap();
        // Again, as dockerd may ask, and as whoever knows that it is there.
        world.create("v@s", TAKE).await.unwrap();
        world.create("v@s", &[]).await.unwrap();
        assert_eq!(names(&world), ["v", "v@s"]);
        durable::write(&world.file("default/v/data/base/5/1259"), b"later").unwrap();
        let copied = fs::read(world.file("default/v@s/data/base/5/1259")).unwrap();
        assert_eq!(copied, b"rows");
        let status = world.status("v@s").await.unwrap();
        assert_eq!(status["snapshot"]["consistency"], "offline");
        assert_eq!(checks(&status), ["control", "wal", "tablespaces"]);
        let shown = world.status("v").await.unwrap();
        assert_eq!(shown["snapshots"][0]["name"], "s");
        assert_eq!(shown["snapshots"][0]["clusters"][0]["version"], "17");
        let world = world.restarted();
        assert_eq!(names(&world), ["v", "v@s"]);
        world.remove("v@s").await.unwrap();
        assert_eq!(names(&world), ["v"]);
    });
}

#[test]
fn a_snapshot_is_read_and_not_written() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@s", TAKE).await.unwrap();
        let view = world.mount("v@s", "1").await.unwrap();
        assert_eq!(fs::read(view.join("data/base/5/1259")).unwrap(), b"rows");
        assert!(view.join("wal/000000010000000000000003").exists());
        for path in ["data/new", "wal/new", "new"] {
            let error = fs::File::create(view.join(path)).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{path}");
        }
        // The volume itself is as it was.
        let view = world.mount("v", "2").await.unwrap();
        fs::File::create(view.join("data/new")).unwrap();
    });
}

#[test]
fn no_typo_takes_a_snapshot_and_none_is_taken_of_nothing() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        let said = world.refused("v@typo", &[]).await;
        assert!(said.contains("no snapshot v@typo") && said.contains("snapshot=now"), "{said}");
        assert!(world.refused("w@s", TAKE).await.contains("no such volume: w"));
        assert!(world.refused("w", TAKE).await.contains("VOLUME@SNAPSHOT"));
        assert!(world.refused("w", &[("sanitize", "off")]).await.contains("from"));
        assert_eq!(names(&world), ["v"]);
    });
}

#[test]
fn a_crashed_server_s_files_are_told_from_a_stopped_one_s() {
    apart(|| async {
        let world = World::with_cluster(6).await;
        world.create("v@s", &[("snapshot", "now"), ("consistency", "offline")]).await.unwrap();
        let status = world.status("v@s").await.unwrap();
        assert_eq!(status["snapshot"]["consistency"], "offline-unclean");
        // Both pools of this world copy file by file.
        let said = world.refused("v@t", &[("snapshot", "now"), ("consistency", "atomic")]).await;
        assert!(said.contains("`atomic` cannot be had: pool default copies"), "{said}");
        world.create("v@u", &[("snapshot", "now"), ("consistency", "ordered")]).await.unwrap();
        let status = world.status("v@u").await.unwrap();
        assert_eq!(status["snapshot"]["consistency"], "ordered");
        let left = fs::read_dir(world.file("wal/v@u")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["wal"]);
    });
}

#[test]
fn a_copy_that_does_not_pass_is_no_snapshot() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        let spoil = |path: &str, bytes: &[u8]| {
            let path = world.file(path);
            let before = fs::read(&path).ok();
            durable::write(&path, bytes).unwrap();
            move || match before {
                Some(bytes) => durable::write(&path, &bytes).unwrap(),
                None => durable::remove(&path).unwrap(),
            }
        };
        for (path, bytes, check) in [
            ("default/v/data/global/pg_control", &[0x11; 8192][..], "control"),
            ("default/v/data/PG_VERSION", b"16\n", "version"),
            ("wal/v/wal/000000010000000000000003", b"", "wal"),
        ] {
            let mend = spoil(path, bytes);
            let said = world.refused("v@s", TAKE).await;
            assert!(said.contains(&format!("the check `{check}`")), "{said}");
            mend();
        }
        let outside = world.file("default/v/data/pg_tblspc/16385");
        std::os::unix::fs::symlink("/srv/outside", &outside).unwrap();
        let said = world.refused("v@s", TAKE).await;
        assert!(said.contains("16385") && said.contains("/srv/outside"), "{said}");
        durable::remove(&outside).unwrap();
        assert_eq!((names(&world), world.shares("wal")), (vec!["v".into()], vec!["v".into()]));
        world.create("v@s", TAKE).await.unwrap();
    });
}

#[test]
fn snapshots_go_to_the_trash_with_their_volume_and_come_back() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@s", TAKE).await.unwrap();
        world.create("v@gone", TAKE).await.unwrap();
        world.remove("v@gone").await.unwrap();
        world.remove("v").await.unwrap();
        assert!(names(&world).is_empty() && world.status("v@s").await.is_none());
        // The name is free, also for another volume's snapshots.
        world.create("v", &[("tablespaces", "fast")]).await.unwrap();
        world.create("v@s", TAKE).await.unwrap();
        let world = world.restarted();
        let said = world.undelete("v@gone~0", None).await.unwrap_err().to_string();
        assert!(said.contains("goes with its volume"), "{said}");
        let said = world.undelete("v~0", Some("v@x")).await.unwrap_err().to_string();
        assert!(said.contains("`v@x`"), "{said}");
        assert_eq!(world.undelete("v~0", Some("old")).await.unwrap(), "old");
        assert_eq!(names(&world), ["old", "old@s", "v", "v@s"]);
        assert_eq!(world.undelete("v@gone~0", None).await.unwrap(), "old@gone");
        let view = world.mount("old@s", "1").await.unwrap();
        assert!(view.join("data/base/5/1259").exists());
        world.unmount("old@s", "1").await.unwrap();
        world.destroy("old").await.unwrap();
        world.destroy("v").await.unwrap();
        world.assert_empty();
    });
}

#[test]
fn what_was_deleted_takes_removed_snapshots_along() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@s", TAKE).await.unwrap();
        world.remove("v@s").await.unwrap();
        world.remove("v").await.unwrap();
        world.purge("v").await.unwrap();
        world.purge_round().await;
        world.assert_empty();
    });
}

#[test]
fn a_clone_is_a_volume_of_its_own() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        durable::write(&world.file("default/v/data/postmaster.pid"), b"1\n/pg/data\n").unwrap();
        durable::write(&world.file("default/v/data/standby.signal"), b"").unwrap();
        world.create("v@s", TAKE).await.unwrap();
        for (name, from) in [("c", "v@s"), ("d", "v"), ("e", "c")] {
            world.create(name, &[("from", from), ("label.a", "b")]).await.unwrap();
            world.create(name, &[("from", from)]).await.unwrap();
            let at = |path: &str| world.file(&format!("default/{name}/data/{path}"));
            assert_eq!(fs::read(at("base/5/1259")).unwrap(), b"rows");
            assert_eq!(fs::read_link(at("pg_wal")).unwrap().to_str(), Some("../wal"));
            let tablespace = fs::read_link(at("pg_tblspc/16384")).unwrap();
            assert_eq!(tablespace.to_str(), Some("../../tablespaces/fast"));
            for gone in ["postmaster.pid", "standby.signal"] {
                assert!(!at(gone).exists(), "{name}: {gone}");
            }
            let settings = fs::read_to_string(at("postgresql.auto.conf")).unwrap();
            assert!(settings.contains(&format!("cluster_name = '{name}'")), "{settings}");
            let status = world.status(name).await.unwrap();
            assert_eq!(
                (&status["origin"]["from"], &status["labels"]["a"]),
                (&from.into(), &"b".into())
            );
        }
        let status = world.status("c").await.unwrap();
        assert_eq!(status["origin"]["sanitised"][0]["what"], "standby.signal");
        // Any of them can go.
        world.destroy("v").await.unwrap();
        world.destroy("c").await.unwrap();
        let view = world.mount("e", "1").await.unwrap();
        fs::File::create(view.join("data/new")).unwrap();
    });
}

#[test]
fn a_replica_keeps_what_makes_it_one() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        durable::write(&world.file("default/v/data/standby.signal"), b"").unwrap();
        durable::write(&world.file("default/v/data/postmaster.pid"), b"1\n/pg/data\n").unwrap();
        world.create("c", &[("from", "v"), ("sanitize", "off")]).await.unwrap();
        let at = |path: &str| world.file(&format!("default/c/data/{path}"));
        assert!(at("standby.signal").exists() && !at("postmaster.pid").exists());
        assert!(!at("postgresql.auto.conf").exists());
        assert!(world.status("c").await.unwrap()["origin"].get("sanitised").is_none());
        let said = world.refused("c", &[("from", "v@s")]).await;
        assert!(said.contains("`from` is `v`, not `v@s`"), "{said}");
        assert!(world.refused("c", &[]).await.contains("`from`"));
        assert!(world.refused("d", &[("from", "w")]).await.contains("no such volume: w"));
    });
}

#[test]
fn a_mounted_snapshot_keeps_its_volume() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@s", TAKE).await.unwrap();
        world.mount("v@s", "1").await.unwrap();
        let view = world.service.path(&"v@s".parse().unwrap()).unwrap().unwrap();
        let script = format!("mount --bind {} /mnt", view.display());
        let user = Neighbour::new("private", &script);
        let error = world.remove("v").await.unwrap_err();
        assert!(matches!(error, VolumeError::Snapshots { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("v@s is mounted by process {}", user.0.id())), "{said}");
        assert!(matches!(world.remove("v@s").await, Err(VolumeError::InUse { .. })));
        drop(user);
        world.unmount("v@s", "1").await.unwrap();
        world.remove("v").await.unwrap();
    });
}

/// Somebody in a namespace of its own who has `v` mounted.
pub(super) async fn user_of_v(world: &World) -> Neighbour {
    let view = world.mount("v", "1").await.unwrap();
    Neighbour::new("private", &format!("mount --bind {} /mnt", view.display()))
}

#[test]
fn all_who_have_the_volume_are_stopped_for_a_barrier() {
    apart(|| async {
        let world = World::with_cluster(6).await;
        let _user = user_of_v(&world).await;
        world.create("v@s", &[("snapshot", "now"), ("consistency", "barrier")]).await.unwrap();
        let status = world.status("v@s").await.unwrap();
        assert_eq!(status["snapshot"]["consistency"], "barrier");
        assert!(status["snapshot"]["stall_ms"].as_u64().unwrap() < 2000, "{status}");
        assert_eq!(checks(&status), ["control", "wal", "tablespaces"]);
        let names = |snapshot: &str| {
            let wal = fs::read_dir(world.file(&format!("wal/{snapshot}/wal"))).unwrap();
            let mut names: Vec<_> = wal.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        world.create("v@t", &[("snapshot", "now"), ("consistency", "ordered")]).await.unwrap();
        assert_eq!(names("v@s"), names("v@t"));
    });
}

#[test]
fn a_barrier_is_what_is_left_without_full_page_writes() {
    apart(|| async {
        let world = World::with_cluster(6).await;
        let path = world.file("default/v/data/global/pg_control");
        let mut bytes = fs::read(&path).unwrap();
        bytes[56] = 0;
        let checksum = crc32c::crc32c(&bytes[..288]);
        bytes[288..292].copy_from_slice(&checksum.to_le_bytes());
        durable::write(&path, &bytes).unwrap();
        let user = user_of_v(&world).await;
        let said = world.refused("v@s", &[("snapshot", "now"), ("consistency", "ordered")]).await;
        assert!(said.contains("`ordered` cannot be had") && said.contains("full_page_writes=off"));
        world.create("v@s", TAKE).await.unwrap();
        assert_eq!(world.status("v@s").await.unwrap()["snapshot"]["consistency"], "barrier");
        // A debugger keeps it from that.
        let home = Process::open(user.0.id()).unwrap().namespaces().unwrap();
        let debugger = Barrier::stop([home.mount].into()).unwrap();
        let said = world.refused("v@t", TAKE).await;
        for part in ["full_page_writes=off, and process ", " is being traced by process "] {
            assert!(said.contains(part), "{said}");
        }
        drop(debugger.release());
        assert_eq!(names(&world), ["v", "v@s"]);
    });
}

#[test]
fn wal_that_is_closed_has_nothing_of_later() {
    apart(|| async {
        let world = World::with_cluster(6).await;
        let wal = world.file("wal/v/wal");
        let (last, ahead) = ("000000010000000000000004", "000000010000000000000005");
        // One that is to be written next still is another one.
        let bytes = fs::read(wal.join(last)).unwrap();
        durable::write(&wal.join(ahead), &bytes).unwrap();
        let cluster = Dir::open(&world.file("default/v/data")).unwrap();
        let control = crate::postgres::control::read_whole(&cluster).unwrap().1;
        let held_control = control.clone();
        durable::create_dir(&world.file("wal/copy"), 0o700).unwrap();
        let open = |path: &str| Dir::open(&world.file(path)).unwrap();
        let minute = &Pace::until(Instant::now() + Duration::from_mins(1));
        let place = Path::new("wal");
        let mut held =
            WalCopy::begin(&open("wal/v"), &open("wal/copy"), None, place, control).unwrap();
        let early = super::walcopy::Early::read(&open("wal/v/wal"), &held_control).unwrap();
        held.close(early, minute).unwrap();
        for (name, at) in [(last, SIZE / 2), (ahead, 8)] {
            let file = fs::File::options().write(true).open(wal.join(name)).unwrap();
            file.write_all_at(&[0xff; 100], at.into()).unwrap();
        }
        fs::copy(wal.join(last), wal.join("000000010000000000000006")).unwrap();
        held.finish(minute).unwrap();
        assert_eq!(fs::read(world.file("wal/copy/wal").join(last)).unwrap(), bytes);
        let names = fs::read_dir(world.file("wal/copy/wal")).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["000000010000000000000003", last]);
        assert_eq!(fs::read_dir(world.file("wal/copy")).unwrap().count(), 1);
    });
}

/// Whatever step a snapshot or clone is killed at, nothing half-done is seen, and nothing is left.
#[test]
fn a_kill_at_any_point_leaves_nothing_half_done() {
    apart(|| async {
        for (name, options) in [("v@s", TAKE), ("c", &[("from", "v")][..])] {
            for at in 1.. {
                let world = World::with_cluster(6).await;
                world.default.fuse.0.store(at, std::sync::atomic::Ordering::SeqCst);
                let outcome = world.create(name, options).await;
                let spent = world.default.fuse.0.load(std::sync::atomic::Ordering::SeqCst) != 0;
                if spent {
                    outcome.unwrap();
                    break;
                }
                outcome.unwrap_err();
                let world = world.restarted();
                assert_eq!(names(&world), ["v"], "{name} killed at {at}");
                world.service.clone().recover().await;
                assert_eq!(world.shares("default"), ["v"], "{name} killed at {at}");
                assert_eq!(world.shares("wal"), ["v"], "{name} killed at {at}");
                world.create(name, options).await.unwrap();
            }
        }
    });
}

#[test]
fn a_full_pool_is_an_error_that_leaves_nothing() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        world.create("v@s", TAKE).await.unwrap();
        world.wal.creates.store(2, std::sync::atomic::Ordering::SeqCst);
        world.create("c", &[("from", "v@s")]).await.unwrap_err();
        assert_eq!(world.shares("default"), ["v", "v@s"]);
        world.default.roomy.store(1, std::sync::atomic::Ordering::SeqCst);
        let said = world.refused("v@t", TAKE).await;
        assert!(said.contains("pool default is short of space"), "{said}");
    });
}

/// As somebody has it who keeps several servers in one volume.
#[test]
fn a_cluster_is_looked_at_and_disarmed_as_deep_as_it_is_guarded() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        let deep = |name: &str| world.file(&format!("default/{name}/data/a/b/c/d"));
        fill(&deep("v"), &deep("v").join("pg_wal"), &ended(1));
        let conf = deep("v").join("postgresql.conf");
        durable::write(&conf, b"archive_command = 'cp %p /archive/'\n").unwrap();
        world.create("v@s", TAKE).await.unwrap();
        let status = world.status("v@s").await.unwrap();
        assert_eq!(status["snapshot"]["clusters"][1]["directory"], "a/b/c/d", "{status}");
        world.create("c", &[("from", "v@s")]).await.unwrap();
        let told = &world.status("c").await.unwrap()["origin"]["sanitised"];
        assert_eq!(told[0]["what"], "archive_command", "{told}");
        assert!(deep("c").join("postgresql.auto.conf").exists());
    });
}

#[test]
fn what_is_too_much_to_look_through_is_told_and_not_cloned() {
    apart(|| async {
        let world = World::with_cluster(1).await;
        for number in 0..1100 {
            let beside = world.file(&format!("default/v/data/mine/{number}"));
            durable::create_dir(&beside, 0o700).unwrap();
        }
        world.create("v@s", TAKE).await.unwrap();
        let status = world.status("v@s").await.unwrap();
        assert_eq!(checks(&status), ["control", "wal", "tablespaces", "clusters"]);
        assert_eq!(status["snapshot"]["checks"][3]["outcome"], "not-possible", "{status}");
        let said = world.refused("c", &[("from", "v@s")]).await;
        assert!(said.contains("1024 directories") && said.contains("`sanitize=off`"), "{said}");
        assert_eq!(names(&world), ["v", "v@s"]);
        world.create("c", &[("from", "v@s"), ("sanitize", "off")]).await.unwrap();
    });
}

#[test]
fn nothing_in_a_volume_is_taken_for_what_holds_its_wal() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("wal.pool", "default")]).await.unwrap();
        let at = |path: &str| world.file(&format!("default/v/{path}"));
        fill(&at("data"), &at("wal"), &ended(6));
        std::os::unix::fs::symlink("/pg/wal", at("data/pg_wal")).unwrap();
        let theirs = ".links/000000010000000000000003";
        durable::create_dir(&at(".links"), 0o700).unwrap();
        durable::write(&at(theirs), b"theirs").unwrap();
        world.create("v@s", &[("snapshot", "now"), ("consistency", "ordered")]).await.unwrap();
        let copy = world.file("default/v@s");
        assert_eq!(fs::read(copy.join(theirs)).unwrap(), b"theirs");
        let left = fs::read_dir(copy).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, [".links", "data", "tablespaces", "wal"]);
    });
}
