//! The wiring: state on disk, streams on one runtime, calls on another.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugin_sdk::server::{BindError, Server};
use plugin_sdk::{durable, record};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::ingest::Streams;
use crate::journal::Journals;
use crate::sys;

/// What the directory's own record says it is, and in which format what lies in it is.
const KIND: &str = "pglog-state";
const VERSION: u32 = 1;

/// How long the streams' tasks may take to notice the end.
const END: Duration = Duration::from_secs(1);

/// Where things are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// All that outlives the process.
    pub state: PathBuf,
    /// The socket on which dockerd calls.
    pub socket: PathBuf,
}

impl Default for Paths {
    /// As config.json has them.
    fn default() -> Self {
        Self { state: "/host/state/pglog".into(), socket: "/run/docker/plugins/pglog.sock".into() }
    }
}

/// Why the plugin cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The state directory cannot be used.
    #[error("state directory {}", path.display())]
    State {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("another pglog uses the state directory {}", path.display())]
    Locked {
        /// Where it is.
        path: PathBuf,
        /// What the lock says.
        source: io::Error,
    },
    /// The state was written by a newer version, or is damaged.
    #[error("state directory {}", path.display())]
    Format {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with its record.
        source: record::RecordError,
    },
    /// Nobody can call.
    #[error(transparent)]
    Socket(#[from] BindError),
}

/// The plugin, about to serve.
#[derive(Debug)]
pub struct App {
    server: Server,
    api: Api,
    interrupt: CancellationToken,
    _lock: sys::Lock,
}

impl App {
    /// Takes up the streams of the last process on the runtime `ingest`, then listens. Must be
    /// called inside the runtime that will answer calls.
    pub fn start(
        paths: &Paths,
        ingest: Handle,
        shutdown: CancellationToken,
    ) -> Result<Self, StartupError> {
        let state = |source| StartupError::State { path: paths.state.clone(), source };
        durable::create_dir(&paths.state, 0o700).map_err(state)?;
        let lock = File::create(paths.state.join("lock")).map_err(state)?;
        let lock = sys::lock(lock)
            .map_err(|source| StartupError::Locked { path: paths.state.clone(), source })?;
        check_format(&paths.state)?;
        let journals = Arc::new(Journals::new(paths.state.join("journals")));
        let records = paths.state.join("streams");
        let interrupt = CancellationToken::new();
        let streams = Streams::open(records, Arc::clone(&journals), ingest, interrupt.clone())
            .map_err(state)?;
        let taken_up = streams.take_up().map_err(state)?;
        let server = Server::bind(&paths.socket)?;
        tracing::info!(op = "serve", streams = taken_up);
        Ok(Self { server, api: Api { streams, journals, shutdown }, interrupt, _lock: lock })
    }

    /// Answers calls until the shutdown. Streams are left as they are, for the next process, but
    /// only when no call can be waiting for the end of one.
    pub async fn run(self) {
        let Api { streams, shutdown, .. } = self.api.clone();
        self.server.serve(self.api.router(), shutdown).await;
        self.interrupt.cancel();
        if tokio::time::timeout(END, streams.ended()).await.is_err() {
            tracing::warn!("streams still busy at the end");
        }
    }
}

/// Refuses state of a newer version; marks a new directory as this one's.
fn check_format(state: &Path) -> Result<(), StartupError> {
    let path = state.join("format");
    let failed = |source| StartupError::State { path: path.clone(), source };
    let format = |source| StartupError::Format { path: state.to_owned(), source };
    match std::fs::read(&path) {
        Ok(bytes) => record::decode::<()>(KIND, VERSION, &bytes).map_err(format),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = record::encode(KIND, VERSION, &()).map_err(format)?;
            durable::write(&path, &bytes).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}
