//! The task of one sink of one container: from its cursor in the journal to where the log goes.
//!
//! Read a batch, deliver it however often that takes, keep how far that is; again until the log
//! ends. While nothing can be delivered, what retention removes is counted and let go, so that a
//! dead sink holds one batch in memory and nothing of the disk beyond the container's share.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plugin_sdk::chain::chain;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::file::{FileError, FileOutlet};
use super::ledger::Ledger;
use super::retry::Backoff;
use super::status::Meter;
use crate::journal::{Batch, Dropped, Journal, Reader};

/// Frames of one batch.
const BATCH: u64 = 256 * 1024;

/// How long lines gather before they are delivered.
const GATHER: Duration = Duration::from_millis(20);

/// How long a batch may take before what retention removes meanwhile is let go.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a sink cannot go on; all of these are tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The journal.
    #[error("read the journal")]
    Journal(#[source] io::Error),
    /// How far the sink is cannot be kept on disk.
    #[error("keep how far it has come")]
    Ledger(#[source] io::Error),
    /// A defect of this program.
    #[error("delivering a log panicked")]
    Panic(#[from] JoinError),
    /// Another task takes the place of this one.
    #[error("another target takes its place")]
    Replaced,
}

/// One sink of one container at work.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) journal: Arc<Journal>,
    pub(super) reader: Option<Reader>,
    pub(super) outlet: Option<FileOutlet>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) meter: Arc<Meter>,
    /// Ends the task where nothing is half done.
    pub(super) replaced: CancellationToken,
}

/// What [`Delivery::turn`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A batch was delivered.
    Delivered,
    /// There was nothing.
    Idle,
}

impl Delivery {
    /// Delivers until the log ends and `is_over` agrees. It is asked with what the journal had to
    /// tell before the end was seen.
    pub(super) async fn run(
        mut self,
        is_over: impl Fn(&watch::Receiver<()>) -> bool,
    ) -> Result<(), DeliveryError> {
        let mut changes = self.journal.subscribe();
        loop {
            // Both asked before reading: what comes meanwhile is seen in the next round.
            drop(changes.borrow_and_update());
            let live = self.journal.is_live();
            if self.turn().await? == Turn::Delivered {
                continue;
            }
            if !live && is_over(&changes) {
                let mut ledger = self.lock();
                ledger.state.receipt.close();
                return ledger.keep().map_err(DeliveryError::Ledger);
            }
            tokio::select! {
                () = self.replaced.cancelled() => return Err(DeliveryError::Replaced),
                // The journal lasts as long as its users, and this is one.
                told = changes.changed() => if told.is_err() { return Ok(()) },
            }
            if live {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// Delivers the next batch, if there is one.
    async fn turn(&mut self) -> Result<Turn, DeliveryError> {
        let batch = self.read().await?;
        let saying = self.lock().state.unsaid();
        if batch.entries.is_empty() && !saying.any() {
            return Ok(Turn::Idle);
        }
        self.deliver(batch, saying).await?;
        Ok(Turn::Delivered)
    }

    /// The next batch; what was dropped on the way is noted.
    async fn read(&mut self) -> Result<Arc<Batch>, DeliveryError> {
        let Some(mut reader) = self.reader.take() else { return Ok(Arc::default()) };
        let (mut reader, batch) = tokio::task::spawn_blocking(move || {
            let batch = reader.read(BATCH);
            (reader, batch)
        })
        .await?;
        let dropped = reader.take_dropped();
        self.reader = Some(reader);
        self.lock().state.drop_lines(dropped);
        batch.map(Arc::new).map_err(DeliveryError::Journal)
    }

    /// Delivers `batch`, after saying that `saying` is missing, again and again until it works.
    async fn deliver(&mut self, batch: Arc<Batch>, saying: Dropped) -> Result<(), DeliveryError> {
        let lines = batch.entries.iter().filter(|entry| !entry.continues()).count() as u64;
        let Some(outlet) = self.outlet.take() else { return Ok(()) };
        let (meter, replaced) = (Arc::clone(&self.meter), self.replaced.clone());
        let task = write_until_done(outlet, Arc::clone(&batch), saying, meter, replaced);
        let mut writing = pin!(task);
        let patience = Instant::now() + PATIENCE;
        let outlet = loop {
            let Some(reader) = &self.reader else { return Ok(()) };
            let removed = reader.removed();
            let stuck = async move {
                tokio::time::sleep_until(patience).await;
                removed.await;
            };
            tokio::select! {
                outlet = &mut writing => break outlet?,
                () = stuck => self.let_go(lines).await?,
            }
        };
        let kept = {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            let state = &mut ledger.state;
            if let Some(reader) = &self.reader {
                state.position = reader.position();
            }
            state.receipt = outlet.receipt();
            state.say(saying);
            state.at_risk = 0;
            state.lines += lines;
            state.bytes += batch.bytes;
            let kept = ledger.keep();
            self.meter.show(&ledger.state);
            kept
        };
        self.outlet = Some(outlet);
        self.meter.judge(kept.err().map(|error| chain(&DeliveryError::Ledger(error))));
        Ok(())
    }

    /// Retention has removed something while the batch of `lines` waits: counts what it was and
    /// lets it go.
    async fn let_go(&mut self, lines: u64) -> Result<(), DeliveryError> {
        let Some(mut reader) = self.reader.take() else { return Ok(()) };
        let (mut reader, counted) = tokio::task::spawn_blocking(move || {
            let counted = reader.let_go();
            (reader, counted)
        })
        .await?;
        let dropped = reader.take_dropped();
        let position = reader.position();
        self.reader = Some(reader);
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if dropped.any() {
            let state = &mut ledger.state;
            state.drop_lines(dropped);
            state.position = position;
            // The position is after the batch now, which is in memory only.
            state.at_risk = lines;
            let kept = ledger.keep();
            self.meter.show(&ledger.state);
            drop(ledger);
            if let Err(error) = kept {
                tracing::warn!(%error, "keep what was dropped");
            }
        }
        if let Err(error) = counted {
            tracing::warn!(%error, "count what was dropped");
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes `batch` on threads for blocking work, and tries again after every failure.
async fn write_until_done(
    mut outlet: FileOutlet,
    batch: Arc<Batch>,
    saying: Dropped,
    meter: Arc<Meter>,
    replaced: CancellationToken,
) -> Result<FileOutlet, DeliveryError> {
    let mut backoff = Backoff::default();
    let mut accepted = false;
    loop {
        let batch = Arc::clone(&batch);
        let attempt = tokio::task::spawn_blocking(move || {
            if !accepted {
                outlet.accept(&batch.entries, saying);
            }
            let written = outlet.write();
            (outlet, written)
        });
        let (returned, written) = attempt.await?;
        (outlet, accepted) = (returned, true);
        match written {
            Ok(()) => {
                meter.judge(None);
                return Ok(outlet);
            }
            Err(error) => meter.judge(Some(chain(&DeliveryError::File(error)))),
        }
        tokio::select! {
            () = replaced.cancelled() => return Err(DeliveryError::Replaced),
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}
