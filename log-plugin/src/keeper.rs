//! What becomes of stored logs while nobody asks for them: what is done with is packed, what is
//! too old goes, and so do, in the end, the logs of containers that are gone.
//!
//! Docker says nothing to a log plugin when a container is removed. It is seen in the engine's own
//! directory of containers; where that is elsewhere, a log that nothing was written to for that
//! long counts as a removed container's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::ingest::Streams;
use crate::journal::{Journal, Journals, RemovalError};
use crate::names::ContainerId;
use crate::options::LogSpec;
use crate::sink::{ForgetError, Sinks};
use crate::sys::HostRoot;

/// How often all logs are looked at.
const EVERY: Duration = Duration::from_mins(1);

/// How long nothing must have been written to a segment that is packed: of a container that
/// writes in a hurry the oldest goes before.
const CALM: Duration = Duration::from_mins(1);

/// How often logs are brought to the disk.
const SYNC: Duration = Duration::from_secs(1);

/// Where an engine keeps its containers.
const CONTAINERS: &str = "/var/lib/docker/containers";

/// For how long the logs of removed containers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Since something was last written.
    pub keep_removed: Duration,
    /// Bytes of all of them.
    pub host_max: u64,
}

impl Retention {
    /// None of them goes.
    pub const ALL: Self = Self { keep_removed: Duration::MAX, host_max: u64::MAX };
}

/// Looks after all logs.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// What is being added to them, by whose options.
    pub streams: Arc<Streams>,
    /// The logs.
    pub journals: Arc<Journals>,
    /// What has yet to deliver them.
    pub sinks: Arc<Sinks>,
    /// Where containers are looked for.
    pub host: HostRoot,
    /// Of removed containers.
    pub retention: Retention,
}

/// Why one log could not be looked after.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    System(#[from] std::io::Error),
    #[error(transparent)]
    Removal(#[from] RemovalError),
    #[error(transparent)]
    Forget(#[from] ForgetError),
}

impl Keeper {
    /// Looks after them until `interrupt`.
    pub async fn run(self, interrupt: CancellationToken) {
        let keep = async {
            loop {
                tokio::time::sleep(EVERY).await;
                let keeper = self.clone();
                let turn = tokio::task::spawn_blocking(move || keeper.turn(SystemTime::now()));
                turn.await.unwrap_or_else(|error| tracing::error!(%error, "look after logs"));
            }
        };
        let sync = async {
            loop {
                tokio::time::sleep(SYNC).await;
                let journals = Arc::clone(&self.journals);
                let synced = tokio::task::spawn_blocking(move || journals.sync());
                synced.await.unwrap_or_else(|error| tracing::error!(%error, "sync logs"));
            }
        };
        tokio::select! {
            () = interrupt.cancelled() => {}
            ((), ()) = async { tokio::join!(keep, sync) } => {}
        }
    }

    /// Looks at each log once.
    pub(crate) fn turn(&self, now: SystemTime) {
        let stored = self.journals.stored().unwrap_or_else(|error| {
            tracing::warn!(%error, "list logs");
            Vec::new()
        });
        let (mut removed, options) = (Vec::new(), self.streams.options());
        for id in stored {
            let journal = self.journals.get(&id);
            if let Err(error) = journal.list() {
                tracing::warn!(%error, container = %id, "list a log");
                continue;
            }
            // They are noted beside the log at a stream's end only.
            let options = options.get(&id).cloned();
            let options = options.or_else(|| journal.about().map(|about| about.options));
            if let Err(error) = tend(&journal, &options.unwrap_or_default(), now) {
                tracing::warn!(error = plugin_sdk::chain::chain(&error), container = %id, "look after a log");
            }
            if !journal.is_open() && self.is_removed(&id) {
                let inventory = journal.inventory();
                let last = inventory.last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0);
                let last = SystemTime::UNIX_EPOCH + Duration::from_nanos(last);
                removed.push((last, inventory.bytes(), id));
            }
        }
        removed.sort();
        let mut bytes: u64 = removed.iter().map(|(_, bytes, _)| bytes).sum();
        for (last, size, id) in removed {
            let age = now.duration_since(last).unwrap_or_default();
            if age < self.retention.keep_removed && bytes <= self.retention.host_max {
                continue;
            }
            match self.remove(&id) {
                Ok(()) => bytes -= size,
                // It goes when all is delivered, or has been dropped.
                Err(KeepError::Forget(ForgetError::Behind)) => {}
                Err(error) => {
                    tracing::warn!(error = plugin_sdk::chain::chain(&error), container = %id, "remove a log");
                }
            }
        }
    }

    fn is_removed(&self, id: &ContainerId) -> bool {
        let containers = Path::new(CONTAINERS);
        let found = self.host.existing(&containers.join(id.as_str()));
        found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }

    fn remove(&self, id: &ContainerId) -> Result<(), KeepError> {
        let journal = self.journals.get(id);
        let remove = || journal.remove_all().map_err(KeepError::from);
        let bytes = self.sinks.forget_after(id, remove)?;
        tracing::info!(op = "remove", container = %id, bytes, "of a container that is gone");
        Ok(())
    }
}

/// What the container's own options ask for.
fn tend(
    journal: &Journal,
    options: &BTreeMap<String, String>,
    now: SystemTime,
) -> std::io::Result<()> {
    // Those that a newer program has taken are not to be guessed at.
    let Ok(spec) = LogSpec::parse(options) else { return Ok(()) };
    if let Some(oldest) = spec.max_age.and_then(|age| now.checked_sub(age)) {
        journal.remove_older(oldest)?;
    }
    if spec.compress
        && let Some(calm) = now.checked_sub(CALM)
    {
        journal.pack(calm)?;
    }
    Ok(())
}
