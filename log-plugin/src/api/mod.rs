//! dockerd's four calls, and in `admin` those of our own client: requests in, domain calls out.

mod admin;
pub mod answers;
mod reading;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use plugin_sdk::router::{Refusal, Router};
use plugin_sdk::settings::InForce;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::wire::{Capabilities, Empty, ReadLogs, StartLogging, StopLogging, Unit};
use crate::history::History;
use crate::ingest::{StreamRecord, Streams};
use crate::journal::Journals;
use crate::names::{ContainerId, StreamId};
use crate::options::LogSpec;
use crate::sink::{Sinks, Targets};

/// What the calls work on, once the state directory can be used.
#[derive(Debug, Clone)]
pub struct Logs {
    /// The streams that run.
    pub streams: Arc<Streams>,
    /// The logs that are stored.
    pub journals: Arc<Journals>,
    /// Where they go from there.
    pub sinks: Arc<Sinks>,
}

/// The calls.
#[derive(Debug, Clone)]
pub struct Api {
    /// The logs, or in words why there are none yet.
    pub logs: watch::Receiver<Result<Logs, String>>,
    /// Where the state is, in this mount namespace.
    pub state_directory: PathBuf,
    /// The settings that this process goes by.
    pub settings: Arc<InForce>,
    /// What is wrong with those that it was given.
    pub settings_error: Option<String>,
    /// Cancelled when the process ends; readers end with it.
    pub shutdown: CancellationToken,
}

impl Api {
    /// The router of all calls.
    pub fn router(self) -> Router {
        let (start, stop, read) = (self.clone(), self.clone(), self.clone());
        let readers = TaskTracker::new();
        let router = Router::new(&["LogDriver"])
            .call("/LogDriver.Capabilities", |_: Empty| async { Ok(Capabilities::READ_LOGS) })
            .call("/LogDriver.StartLogging", move |request| start.clone().start_logging(request))
            .call("/LogDriver.StopLogging", move |request| stop.clone().stop_logging(request))
            .stream("/LogDriver.ReadLogs", move |request| {
                read.clone().read_logs(request, readers.clone())
            });
        admin::routes(router, &self)
    }

    fn logs(&self) -> Result<Logs, Refusal> {
        self.logs.borrow().clone().map_err(Refusal::new)
    }

    async fn start_logging(self, request: StartLogging) -> Result<Unit, Refusal> {
        let container = request.info.container();
        let record = StreamRecord {
            file: request.file,
            container: container.id.clone(),
            name: container.name.clone(),
            options: container.options.clone(),
            started: i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
        };
        let Logs { streams, sinks, .. } = self.logs()?;
        tokio::task::spawn_blocking(move || {
            StreamId::of_fifo(&record.file)?;
            let targets = Targets::of(&LogSpec::parse(&record.options)?, &container)?;
            let id = ContainerId::parse(&record.container)?;
            sinks.check(&id, &targets)?;
            streams.start(&record)?;
            // After the stream: a sink whose log has ended ends too.
            sinks.begin(&id, &record.name, &targets);
            tracing::info!(
                op = "start",
                container = record.container,
                name = record.name,
                stream = %record.file.display(),
            );
            Ok(Unit::OK)
        })
        .await?
    }

    /// Never an error: dockerd would keep the FIFO, and its hold on the plugin, for good.
    async fn stop_logging(self, request: StopLogging) -> Result<Unit, Refusal> {
        let file: &Path = &request.file;
        if let Ok(Logs { streams, .. }) = self.logs() {
            streams.stop(file).await;
        }
        tracing::info!(op = "stop", stream = %file.display());
        Ok(Unit::OK)
    }

    async fn read_logs(
        self,
        request: ReadLogs,
        readers: TaskTracker,
    ) -> Result<mpsc::Receiver<io::Result<Bytes>>, Refusal> {
        let container = ContainerId::parse(&request.info.container_id)?;
        let query = request.config.query()?;
        let Logs { journals, .. } = self.logs()?;
        let opened = tokio::task::spawn_blocking(move || {
            let journal = journals.get(&container);
            let history = History::open(Arc::clone(&journal), query)?;
            Ok::<_, io::Error>((journal, history))
        });
        let (journal, history) = opened.await??;
        Ok(reading::begin(journal, history, query.follow, self.shutdown, &readers))
    }
}
