//! Clusters that get their WAL moved, or not, and processes that are killed meanwhile.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::Ordering;

use plugin_sdk::durable;
use serde_json::json;

use super::*;
use crate::scratch::Scratch;
use crate::volume::testing::{World, apart, name};

const CONTROL: &[u8] = include_bytes!("../../fixtures/pg_control/17");
const SEGMENT: &str = "000000010000000000000001";
const PGDATA: &[(&str, &str)] = &[("layout", "pgdata")];

/// What a server that was cleanly stopped leaves in `data`.
fn plant(data: &Path) {
    for directory in ["global", "pg_wal/archive_status"] {
        durable::create_dir(&data.join(directory), 0o700).unwrap();
    }
    durable::write(&data.join("PG_VERSION"), b"17\n").unwrap();
    durable::write(&data.join("global/pg_control"), CONTROL).unwrap();
    durable::write(&data.join("pg_wal").join(SEGMENT), b"precious").unwrap();
    durable::write(&data.join("pg_wal/archive_status/x.done"), b"").unwrap();
    std::os::unix::fs::chown(data.join("pg_wal").join(SEGMENT), Some(999), Some(998)).unwrap();
    std::os::unix::fs::chown(data.join("pg_wal"), Some(999), Some(999)).unwrap();
}

/// A volume with a cluster at `data` below its root, once started and stopped.
async fn stopped(world: &World, data: &str) {
    world.create("v", PGDATA).await.unwrap();
    let view = world.mount("v", "one").await.unwrap();
    plant(&view.join(data));
    world.unmount("v", "one").await.unwrap();
}

/// In which pools the segment is.
fn segment_in(world: &World, data: &str) -> Vec<&'static str> {
    let is_there = |pool: &&str| {
        world.dir.path().join(pool).join("v").join(data).join("pg_wal").join(SEGMENT).exists()
    };
    ["default", "wal"].into_iter().filter(is_there).collect()
}

#[test]
fn the_root_is_empty_and_owned_as_asked() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("layout", "pgdata"), ("uid", "70"), ("mode", "750")]).await.unwrap();
        let view = world.mount("v", "one").await.unwrap();
        let root = fs::metadata(&view).unwrap();
        assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (70, 999, 0o750));
        assert_eq!(fs::read_dir(&view).unwrap().count(), 0);
        world.unmount("v", "one").await.unwrap();
        world.destroy("v").await.unwrap();
        world.assert_empty();
    });
}

#[test]
fn a_stopped_cluster_gets_its_wal_moved_at_the_next_mount() {
    apart(|| async {
        for data in ["", "18/docker"] {
            let world = World::new();
            stopped(&world, data).await;
            assert_eq!(segment_in(&world, data), ["default"]);
            let view = world.mount("v", "two").await.unwrap();
            assert_eq!(segment_in(&world, data), ["wal"]);
            let wal = view.join(data).join("pg_wal");
            assert_eq!(fs::read(wal.join(SEGMENT)).unwrap(), b"precious");
            assert!(wal.join("archive_status/x.done").exists());
            let owner = |path: &Path| fs::metadata(path).map(|of| (of.uid(), of.gid())).unwrap();
            assert_eq!((owner(&wal), owner(&wal.join(SEGMENT))), ((999, 999), (999, 998)));
            let status = world.status("v").await.unwrap();
            let path = Path::new(data).join("pg_wal");
            assert_eq!(status["roles"]["wal"]["path"], json!(path));
            assert_eq!(status["roles"]["wal"]["pool"], json!("wal"));
            assert_eq!(status["postgres"]["state"], json!("shut down"));
            // The next mount has nothing to do, and neither has another process.
            world.mount("v", "three").await.unwrap();
            let world = world.restarted();
            let view = world.mount("v", "four").await.unwrap();
            assert!(view.join(data).join("pg_wal").join(SEGMENT).exists());
        }
    });
}

#[test]
fn nothing_is_moved_from_under_anybody() {
    apart(|| async {
        let world = World::new();
        stopped(&world, "").await;
        let default = world.dir.path().join("default/v");
        durable::write(&default.join("postmaster.pid"), b"1\n").unwrap();
        world.mount("v", "killed").await.unwrap();
        assert_eq!(segment_in(&world, ""), ["default"]);
        // At rest now, but mounted.
        durable::remove(&default.join("postmaster.pid")).unwrap();
        world.mount("v", "beside").await.unwrap();
        assert_eq!(segment_in(&world, ""), ["default"]);
        world.unmount("v", "beside").await.unwrap();
        world.unmount("v", "killed").await.unwrap();
        // In production, by the state in its control file.
        let mut running = CONTROL.to_vec();
        running[16] = 6;
        let checksum = crc32c::crc32c(&running[..288]).to_le_bytes();
        running[288..292].copy_from_slice(&checksum);
        durable::write(&default.join("global/pg_control"), &running).unwrap();
        world.mount("v", "crashed").await.unwrap();
        world.unmount("v", "crashed").await.unwrap();
        assert_eq!(segment_in(&world, ""), ["default"]);
        let refused = move_to(&world, "default").await;
        assert!(refused.is_err(), "{refused:?}");
        durable::write(&default.join("global/pg_control"), CONTROL).unwrap();
        world.mount("v", "last").await.unwrap();
        assert_eq!(segment_in(&world, ""), ["wal"]);
    });
}

async fn move_to(world: &World, pool: &str) -> Result<(), VolumeError> {
    world.service.clone().move_wal(name("v"), PoolName::new(pool)).await
}

#[test]
fn the_wal_is_moved_back_and_forth_by_command() {
    apart(|| async {
        let world = World::new();
        stopped(&world, "18/docker").await;
        move_to(&world, "wal").await.unwrap();
        assert_eq!(segment_in(&world, "18/docker"), ["wal"]);
        move_to(&world, "default").await.unwrap();
        assert_eq!(segment_in(&world, "18/docker"), ["default"]);
        assert!(!world.dir.path().join("wal/v").exists());
        let view = world.mount("v", "one").await.unwrap();
        assert!(view.join("18/docker/pg_wal").join(SEGMENT).exists());
        assert!(move_to(&world, "nowhere").await.is_err());
        world.unmount("v", "one").await.unwrap();
        let world = world.restarted();
        move_to(&world, "wal").await.unwrap();
        assert_eq!(segment_in(&world, "18/docker"), ["wal"]);
        world.destroy("v").await.unwrap();
        world.assert_empty();
    });
}

#[test]
fn the_wal_of_a_split_volume_is_moved_too() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let view = world.mount("v", "one").await.unwrap();
        plant(&view.join("data"));
        durable::write(&view.join("wal/file"), b"precious").unwrap();
        let refused = move_to(&world, "default").await;
        assert!(refused.is_ok(), "an idle view is nobody's: {refused:?}");
        let view = world.mount("v", "two").await.unwrap();
        assert_eq!(fs::read(view.join("wal/file")).unwrap(), b"precious");
        assert!(world.dir.path().join("default/v/wal/file").exists());
        assert!(!world.dir.path().join("wal/v").exists());
        assert_eq!(world.status("v").await.unwrap()["roles"]["wal"]["pool"], json!("default"));
        world.unmount("v", "two").await.unwrap();
        move_to(&world, "wal").await.unwrap();
        assert!(world.dir.path().join("wal/v/wal/file").exists());
        world.destroy("v").await.unwrap();
        world.assert_empty();
    });
}

#[test]
fn what_is_no_wal_stays_where_it_is_and_keeps_nobody_from_mounting() {
    apart(|| async {
        let outside = Scratch::new();
        durable::write(&outside.path().join("file"), b"precious").unwrap();
        let plants: [&dyn Fn(&Path); 4] = [
            &|wal| symlink(outside.path().join("file"), wal.join("0")).unwrap(),
            &|wal| crate::sys::planting::fifo(&wal.join("0")),
            &|wal| fs::File::create(wal.join("0")).unwrap().set_len(1 << 43).unwrap(),
            &|wal| durable::create_dir(&wal.join("a/b/c/d/e"), 0o700).unwrap(),
        ];
        for plant in plants {
            let world = World::new();
            stopped(&world, "").await;
            plant(&world.dir.path().join("default/v/pg_wal"));
            let view = world.mount("v", "one").await.unwrap();
            assert_eq!(segment_in(&world, ""), ["default"]);
            assert!(view.join("pg_wal").join(SEGMENT).exists());
            assert_eq!(fs::read_dir(world.dir.path().join("wal/v")).unwrap().count(), 0);
            world.unmount("v", "one").await.unwrap();
            world.destroy("v").await.unwrap();
            world.assert_empty();
        }
        // A link for the whole is initdb's --waldir: it is none of ours.
        let world = World::new();
        stopped(&world, "").await;
        let data = world.dir.path().join("default/v");
        fs::remove_dir_all(data.join("pg_wal")).unwrap();
        symlink(outside.path(), data.join("pg_wal")).unwrap();
        world.mount("v", "one").await.unwrap();
        assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"precious");
        assert!(data.join("pg_wal").is_symlink());
    });
}

#[test]
fn a_cluster_that_was_cleared_makes_room_for_another() {
    apart(|| async {
        for data in ["", "18/docker"] {
            let world = World::new();
            stopped(&world, data).await;
            let view = world.mount("v", "one").await.unwrap();
            // As rm -rf does, which cannot remove what is a mount.
            for entry in fs::read_dir(view.join(data)).unwrap().flatten() {
                if entry.file_name() == "pg_wal" {
                    for below in fs::read_dir(entry.path()).unwrap().flatten() {
                        drop(fs::remove_file(below.path()));
                        drop(fs::remove_dir_all(below.path()));
                    }
                } else if entry.path().is_dir() {
                    fs::remove_dir_all(entry.path()).unwrap();
                } else {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
            world.unmount("v", "one").await.unwrap();
            let view = world.mount("v", "two").await.unwrap();
            assert_eq!(fs::read_dir(&view).unwrap().count(), 0, "{data}");
            plant(&view.join(data));
            world.unmount("v", "two").await.unwrap();
            world.mount("v", "three").await.unwrap();
            assert_eq!(segment_in(&world, data), ["wal"]);
        }
    });
}

#[test]
fn what_lies_where_the_wal_should_go_is_kept() {
    apart(|| async {
        let world = World::new();
        stopped(&world, "").await;
        let there = world.dir.path().join("wal/v/pg_wal/strange");
        durable::create_dir(there.parent().unwrap(), 0o700).unwrap();
        durable::write(&there, b"precious").unwrap();
        world.mount("v", "one").await.unwrap();
        assert_eq!(segment_in(&world, ""), ["default"]);
        assert!(there.exists());
    });
}

/// With the program's own steps, each in a process of its own.
#[cfg(feature = "failpoints")]
mod killed {
    use super::*;
    use plugin_sdk::failpoint;
    use std::path::PathBuf;
    use std::process::Command;

    const STEPS: [&str; 6] = [
        "move.noted",
        "move.file-copied",
        "move.copied",
        "move.committed",
        "move.cleared",
        "move.done",
    ];

    /// What the child below does, by its environment: a directory, and whether by mount or command.
    #[test]
    fn child() {
        let Some(dir) = std::env::var_os("KILLED_IN").map(PathBuf::from) else { return };
        let by_command = std::env::var_os("BY_COMMAND");
        failpoint::arm(dir.join("failpoint"));
        apart(|| async move {
            let world = World::at(Scratch::of(dir), None);
            match by_command {
                Some(pool) => drop(move_to(&world, pool.to_str().unwrap()).await),
                None => drop(world.mount("v", "two").await),
            }
        });
    }

    /// Everything below `dir`, with content.
    fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                all.push((path.clone(), Vec::new()));
                all.extend(content(&path));
            } else {
                all.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
        all.sort();
        all
    }

    fn run(dir: &Path, line: &str, by_command: Option<&str>) {
        durable::write(&dir.join("failpoint"), line.as_bytes()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "it kills itself")]
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "volume::relocation::tests::killed::child"]).env("KILLED_IN", dir);
        if let Some(pool) = by_command {
            child.env("BY_COMMAND", pool);
        }
        let output = child.output().unwrap();
        assert_eq!(output.status.success(), !line.ends_with("kill"), "{line}: {output:?}");
        assert!(!dir.join("failpoint").exists(), "{line} was not reached");
    }

    #[test]
    fn a_move_that_is_cut_short_is_finished_or_undone() {
        for action in ["kill", "full"] {
            for by_command in [None, Some("default")] {
                for step in STEPS {
                    survives(&format!("{step} {action}"), by_command);
                }
            }
        }
    }

    fn survives(line: &str, by_command: Option<&'static str>) {
        let line = line.to_owned();
        apart(move || async move {
            let world = World::new();
            stopped(&world, "18/docker").await;
            if by_command.is_some() {
                move_to(&world, "wal").await.unwrap();
            }
            drop(world.service);
            let dir = world.dir;
            run(dir.path(), &line, by_command);
            let world = World::at(dir, None);
            world.service.clone().recover().await;
            let pools = segment_in(&world, "18/docker");
            assert_eq!(pools.len(), 1, "{line}: the WAL is in {pools:?}");
            let before = content(world.dir.path());
            let world = world.restarted();
            world.service.clone().recover().await;
            assert!(
                content(world.dir.path()) == before,
                "{line}: a second start changed something"
            );
            let view = world.mount("v", "three").await.unwrap();
            let found = fs::read(view.join("18/docker/pg_wal").join(SEGMENT)).unwrap();
            assert_eq!(found, b"precious", "{line}");
            world.unmount("v", "three").await.unwrap();
            world.destroy("v").await.unwrap();
            world.assert_empty();
        });
    }
}

/// A server that finds the place of its WAL full does not start.
#[test]
fn a_wal_that_would_fill_its_size_stays() {
    apart(|| async {
        let world = World::new();
        let options =
            [("layout", "pgdata"), ("pool", "wal"), ("wal.pool", "default"), ("wal.size", "160M")];
        world.create("v", &options).await.unwrap();
        let view = world.mount("v", "one").await.unwrap();
        plant(&view);
        world.unmount("v", "one").await.unwrap();
        let moved = || world.dir.path().join("default/v+wal/pg_wal").join(SEGMENT).exists();
        world.default.charged.store(145 << 20, Ordering::SeqCst);
        world.mount("v", "two").await.unwrap();
        assert!(!moved());
        world.unmount("v", "two").await.unwrap();
        world.default.charged.store(1 << 20, Ordering::SeqCst);
        world.mount("v", "three").await.unwrap();
        assert!(moved());
    });
}
