//! Levels that what is in the WAL leaves.

use std::sync::atomic::Ordering;
use std::time::Duration;

use plugin_sdk::durable;

use super::super::tests::{TAKE, ended, fill, user_of_v};
use crate::name::VolumeName;
use crate::postgres::control::Lsn;
use crate::postgres::wal::sample::Sample;
use crate::snapshot::Depth;
use crate::sys::process::Process;
use crate::volume::testing::{Neighbour, World, apart};

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

/// The segment that the first of two checkpoints is in.
const OLDEST: &str = "000000010000000000000003";

/// A cluster in `v` whose control file is of its second checkpoint; gives a label by which it is recovered from the
/// first.
fn with_label(world: &World) -> String {
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
    fill(&world.file("default/v/data"), &world.file("wal/v/wal"), &(sample, control));
    format!(
        "START WAL LOCATION: {start} (file {OLDEST})\nCHECKPOINT LOCATION: {first}\n\
         BACKUP METHOD: streamed\nBACKUP FROM: standby\nSTART TIME: x\nLABEL: y\nSTART TIMELINE: 1\n"
    )
}

/// Of a cluster that `pg_basebackup` has made, whose control file is its latest one.
#[test]
fn a_base_backup_is_copied_from_where_it_began() {
    apart(|| async {
        let world = World::with_cluster(6).await;
        let label = with_label(&world);
        durable::write(&world.file("default/v/data/backup_label"), label.as_bytes()).unwrap();
        world.create("v@s", TAKE).await.unwrap();
        assert!(world.file("wal/v@s/wal").join(OLDEST).exists());
        // While somebody has it, and nobody serves it.
        world.default.at_once.store(1, Ordering::SeqCst);
        let user = user_of_v(&world).await;
        world.create("v@used", &[("snapshot", "now"), ("consistency", "ordered")]).await.unwrap();
        let status = world.status("v@used").await.unwrap();
        assert_eq!(status["snapshot"]["retries"], 0, "{status}");
        drop(user);
        // Without that it could not be started, however much there is from the control file's checkpoint on.
        durable::remove(&world.file("wal/v/wal").join(OLDEST)).unwrap();
        let said = world.refused("v@t", TAKE).await;
        assert!(said.contains("no segment with the redo point"), "{said}");
    });
}

/// A server that is in production on `v`, as far as `/proc` and its lock file tell.
async fn server_of_v(world: &World) -> Neighbour {
    let view = world.mount("v", "1").await.unwrap();
    let pid_file = "1\n/pg/data\n1700000000\n5432\n/run\n*\n  1 2\nready\n";
    let data = world.file("default/v/data");
    durable::write(&data.join("postmaster.pid"), pid_file.as_bytes()).unwrap();
    let program = world.file("postgres").display().to_string();
    let script = format!(
        "mount --bind {} /mnt; cp /bin/sleep {program}; cd /mnt/data
        touch() {{ command touch \"$1\"; exec {program} 60; }}",
        view.display()
    );
    let server = Neighbour::new("private", &script);
    while Process::open(server.0.id()).unwrap().name().unwrap() != "postgres" {
        std::thread::sleep(Duration::from_millis(1));
    }
    server
}

/// What lies in the directory of a server that takes an exclusive backup, and in that backup.
#[test]
fn a_label_is_for_what_was_copied_and_not_for_whom_it_is_copied_from() {
    apart(|| async {
        let world = World::with_cluster(6).await;
        let label = with_label(&world).replace("streamed", "pg_start_backup");
        let live = world.file("default/v/data");
        durable::write(&live.join("backup_label"), label.as_bytes()).unwrap();
        durable::write(&live.join("tablespace_map"), b"16384 /pg/tablespaces/fast\n").unwrap();
        let has = |volume: &str| {
            let data = world.file(&format!("default/{volume}/data"));
            ["backup_label", "tablespace_map"].map(|name| data.join(name).exists())
        };
        // Nobody has been started on it.
        world.create("v@backup", TAKE).await.unwrap();
        assert!(world.file("wal/v@backup/wal").join(OLDEST).exists());
        world.create("b", &[("from", "v@backup")]).await.unwrap();
        // The links of a clone are right.
        assert_eq!(has("b"), [true, false]);
        std::fs::remove_file(world.file("default/v/data/pg_tblspc/16384")).unwrap();
        world.create("unlinked", &[("from", "v")]).await.unwrap();
        assert_eq!(has("unlinked"), [true, true]);
        // The server has recycled what it needs no more.
        durable::remove(&world.file("wal/v/wal").join(OLDEST)).unwrap();
        let server = server_of_v(&world).await;
        world.create("v@s", &[("snapshot", "now"), ("consistency", "ordered")]).await.unwrap();
        world.create("v@t", &[("snapshot", "now"), ("consistency", "barrier")]).await.unwrap();
        assert_eq!((has("v@s"), has("v@t")), ([true; 2], [true; 2]));
        world.create("c", &[("from", "v@s")]).await.unwrap();
        world.create("d", &[("from", "v"), ("sanitize", "off")]).await.unwrap();
        assert_eq!((has("c"), has("d")), ([false; 2], [false; 2]));
        let snapshot: VolumeName = "v@s".parse().unwrap();
        world.service.clone().verify(snapshot.clone(), Depth::Pages).await.unwrap();
        drop(server);
        world.unmount("v", "1").await.unwrap();
        world.service.clone().restore(snapshot, "v@before".parse().unwrap()).await.unwrap();
        assert_eq!(has("v~1"), [false; 2]);
    });
}

/// Its link is in the data, which was captured before, and its directory in the other pool is gone.
#[test]
fn a_tablespace_that_is_dropped_meanwhile_is_not_missed() {
    apart(|| async {
        let world = World::new();
        let options = [("tablespaces", "fast"), ("tablespace.fast.pool", "wal")];
        world.create("v", &options).await.unwrap();
        let (data, wal) = (world.file("default/v/data"), world.file("wal/v/wal"));
        fill(&data, &wal, &ended(6));
        let (link, directory) =
            (data.join("pg_tblspc/16384"), world.file("wal/v/tablespaces/fast/PG_17_202406281"));
        std::os::unix::fs::symlink("/pg/wal", data.join("pg_wal")).unwrap();
        let _user = user_of_v(&world).await;
        let take = [("snapshot", "now"), ("consistency", "ordered")];
        std::os::unix::fs::symlink("/pg/tablespaces/fast", &link).unwrap();
        // One that was not there before either is a fault of the cluster.
        let said = world.refused("v@missing", &take).await;
        assert!(said.contains("the check `tablespaces`"), "{said}");
        durable::create_dir(&directory, 0o700).unwrap();
        world.wal.slow.store(50, Ordering::SeqCst);
        let copied = world.file("default/v@s/data/pg_tblspc/16384");
        let server = std::thread::spawn(move || {
            while copied.symlink_metadata().is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::fs::remove_dir(directory).unwrap();
            std::fs::remove_file(link).unwrap();
        });
        world.create("v@s", &take).await.unwrap();
        server.join().unwrap();
        assert_eq!(world.status("v@s").await.unwrap()["snapshot"]["retries"], 1);
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

/// The server that replays becomes a primary while files are copied one by one.
#[test]
fn a_standby_that_is_promoted_meanwhile_is_copied_again() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let (data, wal) = (world.file("default/v/data"), world.file("wal/v/wal"));
        let before = ended(5);
        fill(&data, &wal, &before);
        std::os::unix::fs::symlink("/pg/wal", data.join("pg_wal")).unwrap();
        for found in std::fs::read_dir(&wal).unwrap() {
            let name = found.unwrap().file_name().into_string().unwrap();
            let later = name.replacen("00000001", "00000002", 1);
            std::fs::copy(wal.join(&name), wal.join(later)).unwrap();
        }
        let _user = user_of_v(&world).await;
        world.wal.slow.store(50, Ordering::SeqCst);
        let copied = world.file("default/v@s/data/base/5/1259");
        let server = std::thread::spawn(move || {
            while copied.symlink_metadata().is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let mut control = before.1;
            control[16..20].copy_from_slice(&6_u32.to_le_bytes());
            control[144..148].copy_from_slice(&2_u32.to_le_bytes());
            let checksum = crc32c::crc32c(&control[..288]);
            control[288..292].copy_from_slice(&checksum.to_le_bytes());
            durable::write(&data.join("global/pg_control"), &control).unwrap();
        });
        world.create("v@s", &[("snapshot", "now"), ("consistency", "ordered")]).await.unwrap();
        server.join().unwrap();
        assert_eq!(world.status("v@s").await.unwrap()["snapshot"]["retries"], 1);
    });
}
