//! The guard against real processes: a shell under the server's name, in a mount namespace of its
//! own, that opens a cluster's files in the order of a server.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use plugin_sdk::durable;
use tempfile::TempDir;

use super::*;
use crate::sys::beneath::Dir;

const LIMIT: Duration = Duration::from_secs(30);

/// What a server does: looks at the version, claims the cluster, moves there, serves.
const SERVE: &str = r#": <"$0/PG_VERSION"; : <"$0/global/pg_control" || exit 1
    cd "$0"; echo serves; read -r _"#;

/// Clusters, and programs under the names that count.
struct World {
    dir: TempDir,
    guard: Guard,
    volume: VolumeName,
}

/// A process that is killed at the end of a test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["postgres", "initdb", "pg_controldata"] {
            fs::copy("/bin/bash", dir.path().join(name)).unwrap();
        }
        durable::create_dir(&dir.path().join("volume/data"), 0o700).unwrap();
        Self { dir, guard: Guard::start(), volume: "v".parse().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    fn data(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// What initdb leaves.
    fn make(&self, path: &str) {
        durable::create_dir(&self.data(path).join("global"), 0o700).unwrap();
        for file in ["PG_VERSION", "global/pg_control"] {
            durable::write(&self.data(path).join(file), b"17").unwrap();
        }
    }

    fn watch(&self) {
        self.guard.watch(&self.volume, self.root(), vec!["wal".to_owned()]);
    }

    /// With a cluster in `data`, guarded.
    fn guarded() -> Self {
        let world = Self::new();
        world.make("data");
        world.watch();
        world
    }

    /// Runs a program of ours elsewhere, with `script` about the cluster at `path`; tells what it
    /// says first, nothing if it ends without a word.
    fn run(&self, program: &str, script: &str, path: &str) -> (Running, String) {
        #[expect(clippy::disallowed_methods, reason = "it ends with its handle")]
        let mut child = std::process::Command::new("unshare")
            .arg("--mount")
            .arg(self.dir.path().join(program))
            .args(["-c", script])
            .arg(self.data(path))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Running(child), line.trim().to_owned())
    }

    fn serve(&self, path: &str) -> Option<Running> {
        let (running, said) = self.run("postgres", SERVE, path);
        (said == "serves").then_some(running)
    }

    fn outlook(&self) -> Outlook {
        self.guard.outlook(&self.volume)
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "still not so: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn of_two_the_first_serves_and_the_next_may_once_it_has_ended() {
    let world = World::guarded();
    let first = world.serve("data").unwrap();
    assert!(world.serve("data").is_none());
    let outlook = world.outlook();
    assert_eq!((outlook.refused, outlook.unjudged, outlook.trouble), (1, 0, None));
    let [running] = &outlook.running[..] else { panic!("{:?}", outlook.running) };
    assert_eq!((running.pid, running.directory.as_path()), (first.0.id(), Path::new("data")));
    drop(first);
    assert!(world.outlook().running.is_empty());
    assert!(world.serve("data").is_some());
}

#[test]
fn those_that_are_no_servers_may_look() {
    let world = World::guarded();
    let _first = world.serve("data").unwrap();
    let (_reader, said) = world.run("pg_controldata", SERVE, "data");
    assert_eq!(said, "serves");
    assert!(fs::read(world.data("data/global/pg_control")).is_ok());
}

#[test]
fn a_lock_file_is_kept_from_a_server_that_does_not_look_at_the_control_file_first() {
    let world = World::guarded();
    durable::write(&world.data("data/postmaster.pid"), b"1").unwrap();
    let _first = world.serve("data").unwrap();
    let script = r#": <"$0/postmaster.pid" && echo taken"#;
    assert_eq!(world.run("postgres", script, "data").1, "");
    assert_eq!(world.run("pg_controldata", script, "data").1, "taken");
}

#[test]
fn a_cluster_that_is_made_later_is_guarded() {
    let world = World::new();
    world.watch();
    world.make("data/17/main");
    // It takes a moment until the new directories are seen.
    eventually("the directory is watched", || {
        let entry = world.guard.0.table.entry(&world.volume).unwrap();
        entry.directories.iter().any(|watched| watched.path == Path::new("data/17/main"))
    });
    let _first = world.serve("data/17/main").unwrap();
    assert!(world.serve("data/17/main").is_none());
}

#[test]
fn a_control_file_that_was_replaced_is_guarded() {
    let world = World::guarded();
    drop(world.serve("data").unwrap());
    durable::write(&world.data("data/global/pg_control"), b"restored").unwrap();
    let _first = world.serve("data").unwrap();
    assert!(world.serve("data").is_none());
}

#[test]
fn a_cluster_that_is_being_made_belongs_to_its_initdb() {
    let world = World::guarded();
    let postgres = world.dir.path().join("postgres").display().to_string();
    let script =
        format!(r#""{postgres}" -c 'cd "$0"; : <global/pg_control; :' "$0"; echo made; read -r _"#);
    let (initdb, said) = world.run("initdb", &script, "data");
    assert_eq!(said, "made");
    assert!(world.serve("data").is_none());
    assert!(world.outlook().running.is_empty(), "initdb is no server");
    drop(initdb);
    assert!(world.serve("data").is_some());
}

#[test]
fn clusters_of_one_volume_are_apart() {
    let world = World::guarded();
    world.make("other");
    world.watch();
    let _one = world.serve("data").unwrap();
    let _other = world.serve("other").unwrap();
    assert_eq!(world.outlook().running.len(), 2);
}

#[test]
fn servers_that_were_beside_each_other_before_are_told_and_go_on() {
    let world = World::new();
    world.make("data");
    let (one, other) = (world.serve("data").unwrap(), world.serve("data").unwrap());
    world.watch();
    world.guard.examine();
    eventually("both are told", || world.outlook().trouble.is_some());
    let trouble = world.outlook().trouble.unwrap();
    for server in [&one, &other] {
        assert!(trouble.contains(&format!("process {}", server.0.id())), "{trouble}");
    }
    assert!(world.serve("data").is_none());
    drop(one);
    assert_eq!(world.outlook().trouble, None);
    assert!(world.serve("data").is_none());
}

#[test]
fn a_thread_that_is_lost_is_told_and_replaced() {
    let world = World::guarded();
    let _first = world.serve("data").unwrap();
    world.guard.0.broken.store(true, Ordering::Relaxed);
    eventually("the loss is told", || {
        world.outlook().trouble.is_some_and(|trouble| trouble.contains("panicked"))
    });
    eventually("it is replaced", || world.outlook().trouble.is_none());
    assert!(world.serve("data").is_none());
}

/// As where a server works on a file server that is gone.
#[test]
fn a_look_at_other_processes_that_hangs_holds_nobody_up() {
    let world = World::guarded();
    let _first = world.serve("data").unwrap();
    let hung = Arc::clone(&world.guard.0.hung);
    let _hung = hung.lock().unwrap();
    world.guard.examine();
    world.guard.0.broken.store(true, Ordering::Relaxed);
    eventually("the loss is told", || world.outlook().trouble.is_some());
    eventually("it is replaced", || world.outlook().trouble.is_none());
    let control = world.data("data/global/pg_control");
    let reader = thread::spawn(move || fs::read(control).is_ok());
    eventually("the control file can be read", || reader.is_finished());
    assert!(reader.join().unwrap());
    assert!(world.serve("data").is_none());
}

#[test]
fn who_is_not_judged_in_time_is_let_through() {
    let world = World::guarded();
    world.guard.0.stop.store(true, Ordering::Relaxed);
    let group = Group::new().unwrap();
    let watched = world.guard.0.table.entry(&world.volume).unwrap().directories.pop().unwrap();
    let control = watched.begin(&group).unwrap().unwrap();
    world.guard.0.table.index(&watched, control);
    let (arbiter, _unheard) = Arbiter::unheard();
    let table = Arc::clone(&world.guard.0.table);
    let patience = Duration::from_millis(100);
    let answering = Answering { group, table, arbiter, patience, pending: VecDeque::new() };
    let answering = thread::spawn(move || answering.run(|| false));
    let _server = world.serve("data").unwrap();
    assert!(answering.join().unwrap().unwrap_err().to_string().contains("not judged"));
    assert_eq!(watched.counts(), (0, 1));
}

#[test]
fn what_is_forgotten_is_not_guarded() {
    let world = World::guarded();
    let _first = world.serve("data").unwrap();
    world.guard.forget(&world.volume);
    assert_eq!(world.outlook(), Outlook::default());
    assert!(world.serve("data").is_some());
    assert!(world.guard.0.table.on(0).is_empty());
}

#[test]
fn hostile_trees_are_bounded_and_links_are_not_followed() {
    let world = World::new();
    for number in 0..300 {
        durable::create_dir(&world.data(&format!("data/{number}\n")), 0o700).unwrap();
    }
    durable::create_dir(&world.data("wal/hidden"), 0o700).unwrap();
    let outside = world.dir.path().join("outside");
    durable::create_dir(&outside, 0o700).unwrap();
    symlink(&outside, world.data("link")).unwrap();
    // A control file that leads elsewhere, or is none.
    for bad in ["bad", "worse"] {
        durable::create_dir(&world.data(bad).join("global"), 0o700).unwrap();
    }
    symlink("/etc/passwd", world.data("bad/global/pg_control")).unwrap();
    durable::create_dir(&world.data("worse/global/pg_control"), 0o700).unwrap();
    world.watch();
    let trouble = world.outlook().trouble.unwrap();
    assert!(trouble.contains("256"), "{trouble}");
    let entry = world.guard.0.table.entry(&world.volume).unwrap();
    assert_eq!(entry.directories.len(), 256);
    let named = |name: &str| entry.directories.iter().any(|watched| watched.path.starts_with(name));
    assert!(named("bad") && named("worse") && !named("wal") && !named("link"));
}

#[test]
fn what_vanishes_is_no_trouble() {
    let world = World::guarded();
    fs::remove_dir_all(world.data("data")).unwrap();
    world.watch();
    assert_eq!(world.outlook(), Outlook::default());
    let directories = || world.guard.0.table.entry(&world.volume).unwrap().directories.len();
    assert_eq!(directories(), 1);
    fs::remove_dir_all(world.root()).unwrap();
    world.watch();
    assert_eq!((world.outlook(), directories()), (Outlook::default(), 0));
}

#[test]
fn the_kernel_without_it_is_named() {
    let error = std::io::Error::from_raw_os_error(22);
    assert!(unavailable(&error).contains("CONFIG_FANOTIFY_ACCESS_PERMISSIONS"));
    let world = World::guarded();
    world.guard.0.stop.store(true, Ordering::Relaxed);
    world.guard.0.lose(unavailable(&error));
    let trouble = world.outlook().trouble.unwrap();
    assert!(trouble.starts_with("nothing keeps a second server off: the kernel"), "{trouble}");
}

#[test]
fn only_what_may_be_a_cluster_costs_an_answer() {
    let world = World::guarded();
    // Files of databases and of `global` are opened all the time.
    durable::create_dir(&world.data("data/base/1"), 0o700).unwrap();
    let group = Group::new().unwrap();
    for watched in world.guard.0.table.entry(&world.volume).unwrap().directories {
        watched.begin(&group).unwrap();
    }
    let quiet = ["data/global/1262", "data/base/1/2619"];
    for file in quiet {
        durable::write(&world.data(file), b"x").unwrap();
        assert!(fs::read(world.data(file)).is_ok());
    }
    assert!(group.read(Duration::ZERO).unwrap().is_empty());
}

#[test]
fn files_that_cannot_be_opened_do_not_end_the_guard() {
    let world = World::guarded();
    let _first = world.serve("data").unwrap();
    let socket = world.data("data/socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for _ in 0..300 {
        assert!(fs::File::open(&socket).is_err());
    }
    assert!(world.serve("data").is_none());
    assert_eq!(world.outlook().trouble, None);
}

#[test]
fn what_is_known_already_is_watched_again() {
    let world = World::guarded();
    let group = Group::new().unwrap();
    let entry = world.guard.0.table.entry(&world.volume).unwrap();
    let watched = entry.directories.iter().find(|one| one.path == Path::new("data")).unwrap();
    // As where the mark went with a file whose number another has now.
    assert_eq!(watched.look(&group).unwrap(), None);
    let control = world.data("data/global/pg_control");
    let reader = thread::spawn(move || fs::read(control).is_ok());
    assert_eq!(group.read(LIMIT).unwrap().len(), 1);
    assert!(reader.join().unwrap());
}

#[test]
fn a_directory_that_cannot_be_watched_keeps_no_other_from_it() {
    let world = World::new();
    durable::create_dir(&world.data("bad"), 0o700).unwrap();
    symlink("/etc", world.data("bad/global")).unwrap();
    world.make("data");
    world.make("zoo/data");
    world.watch();
    assert!(world.outlook().trouble.unwrap().contains("not all of it is guarded"));
    for path in ["data", "zoo/data"] {
        let _first = world.serve(path).unwrap();
        assert!(world.serve(path).is_none(), "{path}");
    }
}

#[test]
fn nothing_is_kept_of_directories_that_left_the_volume() {
    let world = World::new();
    for round in 0..3 {
        durable::create_dir(&world.data("passing"), 0o700).unwrap();
        world.watch();
        assert_eq!(world.guard.0.scout.numbers(), 3);
        let [from, to] = [&world.root(), world.dir.path()].map(|path| Dir::open(path).unwrap());
        from.rename(Path::new("passing"), &to, Path::new(&format!("out{round}"))).unwrap();
        world.watch();
        assert_eq!(world.guard.0.scout.numbers(), 2);
    }
}

/// As where an image has its cluster deeper than the last one had, in the same volume.
#[test]
fn a_cluster_beside_what_another_has_is_guarded() {
    let world = World::new();
    world.make("");
    world.make("18/docker");
    world.watch();
    for path in ["", "18/docker"] {
        let _first = world.serve(path).unwrap();
        assert!(world.serve(path).is_none(), "{path}");
    }
    let entry = world.guard.0.table.entry(&world.volume).unwrap();
    assert!(!entry.directories.iter().any(|watched| watched.path.starts_with("global")));
}
