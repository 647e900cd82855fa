//! dockerd's four calls: requests in, domain calls out.

mod reading;
mod wire;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use plugin_sdk::router::{Refusal, Router};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::wire::{Capabilities, Empty, ReadLogs, StartLogging, StopLogging, Unit};
use crate::history::History;
use crate::ingest::{StreamRecord, Streams};
use crate::journal::Journals;
use crate::names::ContainerId;

/// What the calls work on.
#[derive(Debug, Clone)]
pub struct Api {
    /// The streams that run.
    pub streams: Arc<Streams>,
    /// The logs that are stored.
    pub journals: Arc<Journals>,
    /// Cancelled when the process ends; readers end with it.
    pub shutdown: CancellationToken,
}

impl Api {
    /// The router of all calls.
    pub fn router(self) -> Router {
        let (start, stop, read) = (self.clone(), self.clone(), self);
        let readers = TaskTracker::new();
        Router::new(&["LogDriver"])
            .call("/LogDriver.Capabilities", |_: Empty| async { Ok(Capabilities::READ_LOGS) })
            .call("/LogDriver.StartLogging", move |request| start.clone().start_logging(request))
            .call("/LogDriver.StopLogging", move |request| stop.clone().stop_logging(request))
            .stream("/LogDriver.ReadLogs", move |request| {
                read.clone().read_logs(request, readers.clone())
            })
    }

    async fn start_logging(self, request: StartLogging) -> Result<Unit, Refusal> {
        let record = StreamRecord {
            file: request.file,
            container: request.info.container_id,
            name: request.info.container_name,
            options: request.info.config,
            started: i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
        };
        tokio::task::spawn_blocking(move || {
            self.streams.start(&record)?;
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
        self.streams.stop(file).await;
        tracing::info!(op = "stop", stream = %file.display());
        Ok(Unit::OK)
    }

    async fn read_logs(
        self,
        request: ReadLogs,
        readers: TaskTracker,
    ) -> Result<tokio::sync::mpsc::Receiver<bytes::Bytes>, Refusal> {
        let container = ContainerId::parse(&request.info.container_id)?;
        let query = request.config.query()?;
        let opened = tokio::task::spawn_blocking(move || {
            let journal = self.journals.get(&container);
            let history = History::open(Arc::clone(&journal), query)?;
            Ok::<_, std::io::Error>((journal, history))
        });
        let (journal, history) = opened.await??;
        Ok(reading::begin(journal, history, query.follow, self.shutdown, &readers))
    }
}
