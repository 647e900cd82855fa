//! What becomes of stored logs with time: packed, too old, of containers that are gone.

use std::fs::{File, FileTimes};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plugin_sdk::durable;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{Plugin, Rig, all, eventually, runtime};
use crate::frame::testing::{frames, line};
use crate::ingest::{StreamRecord, Streams};
use crate::journal::{About, Journals};
use crate::keeper::{Keeper, Retention};
use crate::names::ContainerId;
use crate::sink::{Host, Sinks, Targets};
use crate::sys::HostRoot;

const HOUR: Duration = Duration::from_hours(1);

/// Stored logs without a plugin.
struct Store {
    rig: Rig,
    keeper: Keeper,
    now: SystemTime,
    _runtime: Runtime,
}

impl Store {
    fn new(retention: Retention) -> Self {
        let (rig, runtime) = (Rig::new(), runtime());
        let root = HostRoot::new(rig.path().join("host"));
        durable::create_dir(&rig.path().join("host/var/lib/docker/containers"), 0o755).unwrap();
        let journals = Arc::new(Journals::new(rig.path().join("state/journals")));
        let host = Host { root: root.clone(), log_directory: "/logs".into(), no_files: None };
        let sinks = Sinks::open(
            rig.path().join("state/sinks"),
            host,
            Arc::clone(&journals),
            runtime.handle().clone(),
            CancellationToken::new(),
        );
        let streams = Streams::open(
            rig.path().join("state/streams"),
            Arc::clone(&journals),
            runtime.handle().clone(),
            CancellationToken::new(),
        );
        let (streams, sinks) = (streams.unwrap(), sinks.unwrap());
        let keeper = Keeper { streams, journals, sinks, host: root, retention };
        Self { rig, keeper, now: SystemTime::now(), _runtime: runtime }
    }

    fn journal(&self, container: &str) -> std::path::PathBuf {
        self.rig.path().join("state/journals").join(container)
    }

    /// Segments of `container`, each written so many hours ago, with its options.
    fn store(&self, container: &str, options: &[(&str, &str)], hours: &[u32]) {
        let dir = self.journal(container);
        durable::create_dir(&dir, 0o700).unwrap();
        let lines: Vec<_> = (0..5000).map(|n| line(n, format!("line {n}"))).collect();
        for (sequence, &hours) in (1..).zip(hours) {
            let path = dir.join(format!("{sequence:020}.t"));
            durable::write(&path, &frames(&lines)).unwrap();
            let written = FileTimes::new().set_modified(self.now - HOUR * hours);
            File::options().write(true).open(&path).unwrap().set_times(written).unwrap();
        }
        let options =
            options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let journal = self.keeper.journals.get(&ContainerId::parse(container).unwrap());
        journal.note(&About { name: container.to_owned(), options }).unwrap();
    }

    /// The engine has `container`.
    fn exists(&self, container: &str) {
        let containers = self.rig.path().join("host/var/lib/docker/containers");
        durable::create_dir(&containers.join(container), 0o700).unwrap();
    }

    fn turn(&self) {
        self.keeper.turn(self.now);
    }

    fn names(&self, container: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.journal(container)) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.contains('.')).collect();
        names.sort();
        names
    }
}

fn keep(keep_removed: Duration, host_max: u64) -> Retention {
    Retention { keep_removed, host_max }
}

#[test]
fn what_is_done_with_is_packed_where_that_is_asked_for() {
    let store = Store::new(keep(HOUR * 100, 1 << 30));
    for (name, options) in [("packed", &[][..]), ("plain", &[("compress", "false")])] {
        store.exists(name);
        store.store(name, options, &[3, 2, 0, 0]);
    }
    store.turn();
    let packed = store.names("packed");
    let is_packed: Vec<_> = packed.iter().map(|name| name.split('.').count() == 3).collect();
    assert_eq!(is_packed, [true, true, false, false], "{packed:?}");
    assert_eq!(store.names("plain").iter().filter(|name| name.split('.').count() == 2).count(), 4);
    // Their age is still that of the last line.
    let modified = Path::metadata(&store.journal("packed").join(&packed[0])).unwrap().modified();
    assert!(store.now.duration_since(modified.unwrap()).unwrap() > HOUR * 2);
    store.turn();
    assert_eq!(store.names("packed"), packed);
}

#[test]
fn what_is_too_old_goes() {
    let store = Store::new(keep(HOUR * 100, 1 << 30));
    for (name, options) in [("aged", &[("max-age", "2h")][..]), ("kept", &[])] {
        store.exists(name);
        store.store(name, options, &[5, 3, 1, 0]);
    }
    store.turn();
    assert_eq!((store.names("aged").len(), store.names("kept").len()), (2, 4));
    // In the end all of it: nobody writes to the last one.
    store.keeper.turn(store.now + HOUR * 3);
    assert_eq!((store.names("aged").len(), store.names("kept").len()), (0, 4));
}

/// What is noted beside a log is of the stream before, or there is nothing yet.
#[test]
fn a_container_that_runs_is_kept_by_its_own_options() {
    let store = Store::new(keep(HOUR * 100, 1 << 30));
    store.exists("c");
    store.store("c", &[], &[5, 3, 1, 0]);
    std::fs::remove_file(store.journal("c").join("container")).unwrap();
    let (file, _fifo) = store.rig.fifo("f");
    let options = [("max-age", "2h"), ("compress", "false")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let (container, name) = ("c".to_owned(), "/c".to_owned());
    let record = StreamRecord { file, container, name, options, started: 1 };
    store.keeper.streams.start(&record).unwrap();
    store.turn();
    let names = store.names("c");
    assert!(names.len() == 2 && names.iter().all(|name| name.split('.').count() == 2), "{names:?}");
}

#[test]
fn the_logs_of_containers_that_are_gone_go_in_the_end() {
    let store = Store::new(keep(HOUR * 10, 1 << 30));
    store.exists("stopped");
    for (name, hours) in [("stopped", 500), ("old", 11), ("recent", 9)] {
        store.store(name, &[], &[hours]);
    }
    store.turn();
    let there = |name| !store.names(name).is_empty();
    assert!(there("stopped") && there("recent") && !there("old"));
    assert!(!store.journal("old").exists());
    // What comes back is not the log of before.
    store.keeper.turn(store.now + HOUR * 2);
    assert!(there("stopped") && !there("recent"));
}

#[test]
fn of_too_much_the_oldest_goes() {
    let store = Store::new(keep(HOUR * 100, 300_000));
    for (name, hours) in [("one", 3), ("two", 2), ("three", 1)] {
        store.store(name, &[("compress", "false")], &[hours]);
    }
    store.turn();
    let sizes = ["one", "two", "three"].map(|name| store.names(name).len());
    assert_eq!(sizes, [0, 1, 1]);
}

#[test]
fn what_a_sink_has_yet_to_deliver_stays() {
    let store = Store::new(keep(HOUR, 1 << 30));
    store.store("c", &[], &[5]);
    let id = ContainerId::parse("c").unwrap();
    // A directory in the way of the file.
    durable::create_dir(&store.rig.path().join("host/logs/c/c.log"), 0o755).unwrap();
    let options = [("sinks".to_owned(), "file".to_owned())].into();
    let spec = crate::options::LogSpec::parse(&options).unwrap();
    let container = crate::container::Container { name: "/c".to_owned(), ..Default::default() };
    let targets = Targets::of(&spec, &container).unwrap();
    store.keeper.sinks.begin(&id, "/c", &targets);
    eventually("it fails", || store.keeper.sinks.status().iter().any(|sink| sink.error.is_some()));
    store.turn();
    assert_eq!(store.names("c").len(), 1);
    std::fs::remove_dir(store.rig.path().join("host/logs/c/c.log")).unwrap();
    eventually("it delivers", || store.keeper.sinks.status().is_empty());
    store.turn();
    assert_eq!(store.names("c").len(), 0);
}

/// So that lines can be removed for their age, they are in several segments.
#[test]
fn a_segment_of_an_aging_log_is_ended_in_time() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    let options = [("max-age", "4s"), ("sync", "always")];
    assert_eq!(plugin.start_logging("c", &path, &options), json!({"Err": ""}));
    for n in 1..=3 {
        fifo.write_all(&frames([&line(7, "x")])).unwrap();
        eventually("it is stored", || plugin.logs("c", &all()).len() == n);
        std::thread::sleep(Duration::from_millis(1100));
    }
    assert_eq!(rig.segments("c").len(), 3);
}
