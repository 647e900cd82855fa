//! The wiring: state on disk, streams on one runtime, calls on another.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugin_sdk::router::Refusal;
use plugin_sdk::server::{BindError, Server};
use plugin_sdk::settings::{BadSettings, InForce};
use plugin_sdk::state::{Fleeting, outlives_the_process};
use plugin_sdk::{durable, record};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Logs};
use crate::ingest::{self, Streams};
use crate::journal::{self, Journals};
use crate::keeper::{Keeper, Retention};
use crate::sink::{Host, Sinks};
use crate::sys::{self, HostRoot};

/// What the directory's own record says it is, and in which format what lies in it is.
const KIND: &str = "pglog-state";
/// 2: packed segments, which an older program does not see.
const VERSION: u32 = 2;

/// What the state directory holds, in the formats that this program writes and the newest it reads.
pub const FORMATS: [record::Format; 8] = [
    (KIND, VERSION),
    (ingest::RECORD_KIND, ingest::RECORD_VERSION),
    (crate::sink::RECORD_KIND, crate::sink::RECORD_VERSION),
    (crate::sink::LEDGER_KIND, crate::sink::LEDGER_VERSION),
    (journal::ABOUT_KIND, journal::ABOUT_VERSION),
    (journal::PACKED_KIND, journal::PACKED_VERSION),
    (journal::GONE_KIND, journal::GONE_VERSION),
    (journal::INDEX_KIND, journal::INDEX_VERSION),
];

/// How long after a failure the state is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the streams' tasks may take to notice the end.
const END: Duration = Duration::from_secs(1);

/// Where things are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// All that outlives the process.
    pub state: PathBuf,
    /// The socket on which dockerd calls.
    pub socket: PathBuf,
    /// Files of the host.
    pub host: Host,
}

/// The threads that streams and sinks have for themselves.
#[derive(Debug, Clone)]
pub struct Runtimes {
    /// Where FIFOs are read.
    pub ingest: Handle,
    /// Where logs are delivered.
    pub sinks: Handle,
}

impl Default for Paths {
    /// As config.json has them.
    fn default() -> Self {
        Self {
            state: "/host/state/pglog".into(),
            socket: "/run/docker/plugins/pglog.sock".into(),
            host: Host {
                root: HostRoot::new("/proc/1/root"),
                log_directory: "/var/log/pglog".into(),
                no_files: None,
            },
        }
    }
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
enum StateError {
    #[error(transparent)]
    Fleeting(#[from] Fleeting),
    #[error("state directory {}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error("another pglog uses the state directory {}", path.display())]
    Locked { path: PathBuf, source: io::Error },
    #[error("state directory {}", path.display())]
    Format { path: PathBuf, source: record::RecordError },
}

/// The plugin, about to serve.
#[derive(Debug)]
pub struct App {
    server: Server,
    opener: Opener,
    logs: watch::Sender<Result<Logs, String>>,
    lock: Option<sys::Lock>,
    settings: InForce,
    bad_settings: Option<BadSettings>,
    shutdown: CancellationToken,
}

impl App {
    /// Listens, then takes up the streams and sinks of the last process on their `runtimes`. Must
    /// be called inside the runtime that will answer calls.
    ///
    /// A state directory that cannot be used does not end the process: dockerd disables a plugin
    /// that ends twice within a second, and then every container with a full pipe waits. Calls
    /// are told why, and it is tried again.
    pub fn start(
        paths: &Paths,
        retention: Retention,
        runtimes: Runtimes,
        shutdown: CancellationToken,
    ) -> Result<Self, BindError> {
        let server = Server::bind(&paths.socket)?;
        let interrupt = CancellationToken::new();
        let opener = Opener { paths: paths.clone(), retention, runtimes, interrupt };
        let (logs, lock) = settle(opener.open(), None);
        Ok(Self {
            server,
            opener,
            logs: watch::Sender::new(logs),
            lock,
            settings: InForce::new(),
            bad_settings: None,
            shutdown,
        })
    }

    /// With the settings that it goes by, and what was wrong with them, for whoever asks.
    #[must_use]
    pub fn with_settings(self, settings: InForce, bad_settings: Option<BadSettings>) -> Self {
        Self { settings, bad_settings, ..self }
    }

    /// What calls work on, as it changes.
    pub fn logs(&self) -> watch::Receiver<Result<Logs, String>> {
        self.logs.subscribe()
    }

    /// Answers calls until the shutdown. Streams are left as they are, for the next process, but
    /// only when no call can be waiting for the end of one.
    pub async fn run(self) {
        let Self { server, opener, logs, mut lock, settings, bad_settings, shutdown } = self;
        let api = Api {
            logs: logs.subscribe(),
            state_directory: opener.paths.state.clone(),
            settings: Arc::new(settings),
            settings_error: bad_settings.map(|bad| bad.to_string()),
            shutdown: shutdown.clone(),
        };
        let router = api.router();
        let interrupt = opener.interrupt.clone();
        let reopen = async {
            while lock.is_none() {
                tokio::time::sleep(RETRY).await;
                let opener = opener.clone();
                let outcome = tokio::task::spawn_blocking(move || opener.open()).await;
                let outcome = outcome.unwrap_or_else(|panic| Err(panic.to_string()));
                let before = logs.borrow().as_ref().err().cloned();
                let (now, taken) = settle(outcome, before.as_deref());
                lock = taken;
                logs.send_modify(|logs| *logs = now);
            }
        };
        tokio::join!(server.serve(router, shutdown.clone()), async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = reopen => {}
            }
        });
        interrupt.cancel();
        let opened = logs.borrow().clone();
        if let Ok(Logs { streams, sinks, .. }) = opened
            && tokio::time::timeout(END, async { tokio::join!(streams.ended(), sinks.ended()) })
                .await
                .is_err()
        {
            tracing::warn!("streams or sinks still busy at the end");
        }
    }
}

/// What calls are given, and the lock; logs a reason that is not the one `before`.
fn settle(
    opened: Result<(Logs, sys::Lock), String>,
    before: Option<&str>,
) -> (Result<Logs, String>, Option<sys::Lock>) {
    match opened {
        Ok((logs, lock)) => (Ok(logs), Some(lock)),
        Err(words) => {
            if before != Some(&words) {
                tracing::error!(error = words, "the state cannot be used");
            }
            (Err(words), None)
        }
    }
}

/// Opens the state directory.
#[derive(Debug, Clone)]
struct Opener {
    paths: Paths,
    retention: Retention,
    runtimes: Runtimes,
    interrupt: CancellationToken,
}

impl Opener {
    /// The logs in it, and what keeps a second process away; or in words why not.
    fn open(&self) -> Result<(Logs, sys::Lock), String> {
        self.try_open().map_err(|error| Refusal::from(error).to_string())
    }

    fn try_open(&self) -> Result<(Logs, sys::Lock), StateError> {
        let path = &self.paths.state;
        let unusable = |source| StateError::Unusable { path: path.clone(), source };
        if let Some(source) = path.parent() {
            outlives_the_process(source).map_err(unusable)??;
        }
        durable::create_dir(path, 0o700).map_err(unusable)?;
        let lock = File::create(path.join("lock")).map_err(unusable)?;
        let lock =
            sys::lock(lock).map_err(|source| StateError::Locked { path: path.clone(), source })?;
        check_format(path)?;
        let journals = Arc::new(Journals::new(path.join("journals")));
        let (runtimes, interrupt) = (self.runtimes.clone(), self.interrupt.clone());
        let streams = path.join("streams");
        let streams =
            Streams::open(streams, Arc::clone(&journals), runtimes.ingest, interrupt.clone())
                .map_err(unusable)?;
        let (directory, host) = (path.join("sinks"), self.paths.host.clone());
        let (runtime, own) = (runtimes.sinks.clone(), interrupt.clone());
        let sinks = Sinks::open(directory, host, Arc::clone(&journals), runtimes.sinks, own)
            .map_err(unusable)?;
        let keeper = Keeper {
            streams: Arc::clone(&streams),
            journals: Arc::clone(&journals),
            sinks: Arc::clone(&sinks),
            host: self.paths.host.root.clone(),
            retention: self.retention,
        };
        let taken_up = streams.take_up().map_err(unusable)?;
        let delivering = sinks.take_up().map_err(unusable)?;
        runtime.spawn(keeper.run(interrupt));
        tracing::info!(op = "serve", streams = taken_up, sinks = delivering);
        Ok((Logs { streams, journals, sinks }, lock))
    }
}

/// Refuses state of a newer version; marks a new or an older directory as this one's.
fn check_format(state: &Path) -> Result<(), StateError> {
    let path = state.join("format");
    let failed = |source| StateError::Unusable { path: path.clone(), source };
    let format = |source| StateError::Format { path: state.to_owned(), source };
    match std::fs::read(&path) {
        Ok(bytes) => record::decode::<()>(KIND, VERSION, &bytes).map_err(format)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let bytes = record::encode(KIND, VERSION, &()).map_err(format)?;
    if std::fs::read(&path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    durable::write(&path, &bytes).map_err(failed)
}
