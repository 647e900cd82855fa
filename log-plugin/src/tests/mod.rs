//! The plugin as dockerd sees it, in one process: its socket, real FIFOs, and ends of every kind.

mod crowds;
mod files;
mod fluentd;
mod journal_model;
mod keeping;
mod lifecycle;
mod read_back;
mod syslog;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plugin_sdk::client::Client;
use plugin_sdk::durable;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::Logs;
use crate::app::{App, Paths, Runtimes};
use crate::frame::LogEntry;
use crate::frame::testing::entries;
use crate::keeper::Retention;
use crate::sink::{Host, SinkStatus};
use crate::sys::HostRoot;
use crate::sys::testing::fifo;

/// As the settings have it by default.
const RETENTION: Retention =
    Retention { keep_removed: Duration::from_hours(14 * 24), host_max: 10 << 30 };

/// A running plugin.
struct Plugin {
    calls: Runtime,
    ingest: Runtime,
    sinks: Runtime,
    logs: watch::Receiver<Result<Logs, String>>,
    client: Client,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

impl Plugin {
    fn start(dir: &Path) -> Self {
        Self::start_on(dir, "plugin.sock")
    }

    fn start_on(dir: &Path, socket: &str) -> Self {
        Self::start_with(dir, socket, None)
    }

    fn start_with(dir: &Path, socket: &str, no_files: Option<String>) -> Self {
        let root = HostRoot::new(dir.join("host"));
        let paths = Paths {
            state: dir.join("state"),
            socket: dir.join(socket),
            host: Host { root, log_directory: "/logs".into(), no_files },
        };
        durable::create_dir(&dir.join("host"), 0o755).unwrap();
        let (calls, ingest, sinks) = (runtime(), runtime(), runtime());
        let runtimes = Runtimes { ingest: ingest.handle().clone(), sinks: sinks.handle().clone() };
        let shutdown = CancellationToken::new();
        let app = {
            let _entered = calls.enter();
            App::start(&paths, RETENTION, runtimes, shutdown.clone()).unwrap()
        };
        let logs = app.logs();
        let serving = calls.spawn(app.run());
        Self { calls, ingest, sinks, logs, client: Client::new(&paths.socket), shutdown, serving }
    }

    /// As kill -9: every task is dropped where it stands.
    fn kill(self) {
        self.sinks.shutdown_timeout(Duration::from_secs(5));
        self.ingest.shutdown_timeout(Duration::from_secs(5));
        self.calls.shutdown_timeout(Duration::from_secs(5));
    }

    /// As SIGTERM.
    fn terminate(self) -> Duration {
        let begun = Instant::now();
        self.shutdown.cancel();
        self.calls.block_on(self.serving).unwrap();
        begun.elapsed()
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Vec<u8>) {
        let body = body.to_string() + "\n";
        let (status, answer) = self.calls.block_on(self.client.post(path, body)).unwrap();
        (status.as_u16(), answer.to_vec())
    }

    fn call(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, 200);
        serde_json::from_slice(&answer).unwrap()
    }

    fn start_logging(&self, container: &str, file: &Path, options: &[(&str, &str)]) -> Value {
        let options: BTreeMap<_, _> = options.iter().copied().collect();
        let info = json!({"ContainerID": container, "ContainerName": "/n", "Config": options});
        self.call("/LogDriver.StartLogging", &json!({"File": file, "Info": info}))
    }

    fn stop_logging(&self, file: &Path) {
        let answer = self.call("/LogDriver.StopLogging", &json!({"File": file}));
        assert_eq!(answer, json!({"Err": ""}));
    }

    /// The sinks at work.
    fn sinks(&self) -> Vec<SinkStatus> {
        let logs = self.logs.borrow();
        logs.as_ref().unwrap().sinks.status()
    }

    /// What `docker logs` would get, and the time it took.
    fn logs(&self, container: &str, config: &Value) -> Vec<LogEntry> {
        let request = json!({"Info": {"ContainerID": container}, "Config": config});
        let (status, answer) = self.post("/LogDriver.ReadLogs", &request);
        assert_eq!(status, 200);
        entries(&answer)
    }

    /// What `docker logs` gets until the stream ends.
    fn follow(&self, container: &str, config: &Value) -> JoinHandle<Vec<LogEntry>> {
        let client = self.client.clone();
        let request = json!({"Info": {"ContainerID": container}, "Config": config}).to_string();
        self.calls.spawn(async move {
            let (status, answer) = client.post("/LogDriver.ReadLogs", request).await.unwrap();
            assert_eq!(status.as_u16(), 200);
            entries(&answer)
        })
    }

    /// The result of a follower, which must end soon.
    fn joined(&self, follower: JoinHandle<Vec<LogEntry>>) -> Vec<LogEntry> {
        let soon = async { tokio::time::timeout(Duration::from_secs(10), follower).await };
        self.calls.block_on(soon).expect("the follower ends").unwrap()
    }
}

/// A place for a plugin's state and FIFOs.
struct Rig {
    dir: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A FIFO, open as dockerd has it.
    fn fifo(&self, name: &str) -> (PathBuf, File) {
        let path = self.path().join(name);
        let file = fifo(&path);
        (path, file)
    }

    /// The segments of a container's journal.
    fn segments(&self, container: &str) -> Vec<PathBuf> {
        let Ok(dir) = std::fs::read_dir(self.path().join("state/journals").join(container)) else {
            return Vec::new();
        };
        let paths = dir.map(|entry| entry.unwrap().path());
        // Only a segment's name has a dot.
        let mut segments: Vec<_> = paths.filter(|path| path.extension().is_some()).collect();
        segments.sort();
        segments
    }

    /// How many segments this process has open that retention has removed.
    fn held(&self) -> usize {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let own = links.filter(|link| link.starts_with(self.path()));
        own.filter(|link| link.to_string_lossy().ends_with(" (deleted)")).count()
    }

    /// Waits until sinks that cannot deliver have counted what was removed, and kept that.
    fn all_is_counted(&self) {
        eventually("what was removed is let go", || self.held() == 0);
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The whole log.
fn all() -> Value {
    json!({"Since": "0001-01-01T00:00:00Z", "Until": "0001-01-01T00:00:00Z", "Tail": -1,
           "Follow": false})
}

/// `config` with some fields of its own.
fn with(fields: &Value) -> Value {
    let mut config = all();
    let own = fields.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(own);
    config
}

/// Waits until `condition` holds.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The text of entries, a string each.
fn texts(entries: &[LogEntry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()).collect()
}
