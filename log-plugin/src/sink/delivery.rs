//! The task of one sink of one container: from its cursor in the journal to where the log goes.
//!
//! Read a batch, deliver it however often that takes, keep how far that is; again until the log
//! ends. While nothing can be delivered, what retention removes is counted and let go, so that a
//! dead sink holds one batch in memory and nothing of the disk beyond the container's share.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plugin_sdk::chain::chain;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::file::FileError;
use super::fluentd::FluentdError;
use super::ledger::Ledger;
use super::link::LinkError;
use super::outlet::Outlet;
use super::retry::Backoff;
use super::status::Meter;
use crate::journal::{Batch, Dropped, Journal, Position, Reader};

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
    File(FileError),
    /// The syslog servers.
    #[error(transparent)]
    Syslog(LinkError),
    /// The fluentd.
    #[error(transparent)]
    Fluentd(FluentdError),
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
    pub(super) outlet: Option<Outlet>,
    /// Batches that were delivered and might have to be delivered again.
    pub(super) marks: VecDeque<Mark>,
    /// What was dropped after the last of them.
    pub(super) dropped: Dropped,
    /// So many of the next lines may have been sent by an earlier life of the process.
    pub(super) suspect: u64,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) meter: Arc<Meter>,
    /// Ends the task where nothing is half done.
    pub(super) replaced: CancellationToken,
    pub(super) backoff: Backoff,
}

/// A batch that was delivered.
#[derive(Debug)]
pub(super) struct Mark {
    /// After it; none when the ledger is beyond that already.
    position: Option<Position>,
    /// What was dropped before it: in the ledger only together with the position, or it would be
    /// counted again by who goes on from an earlier one.
    dropped: Dropped,
    /// What it said of missing lines.
    saying: Dropped,
    lines: u64,
    bytes: u64,
}

impl Mark {
    /// How many lines it is from the position before it to its own.
    fn length(&self) -> u64 {
        match self.position {
            Some(_) => self.lines + self.dropped.lines + self.dropped.doubtful,
            None => 0,
        }
    }
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
            let settled = self.outlet.as_ref().is_none_or(|outlet| !outlet.is_unsettled());
            if !live && settled && is_over(&changes) {
                return self.end().await;
            }
            self.wait(&mut changes).await?;
            if live {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// Waits for the journal, and meanwhile for what was delivered to be settled.
    async fn wait(&mut self, changes: &mut watch::Receiver<()>) -> Result<(), DeliveryError> {
        let Some(outlet) = &mut self.outlet else { return Ok(()) };
        let failed = tokio::select! {
            () = self.replaced.cancelled() => return Err(DeliveryError::Replaced),
            // The journal lasts as long as its users, and this is one.
            told = changes.changed() => return told.map_err(|_| DeliveryError::Replaced),
            settled = outlet.settle(), if outlet.is_unsettled() => settled.err(),
        };
        self.meter.judge(failed.as_ref().map(|error| chain(error)));
        if failed.is_some() {
            let Some(reader) = &self.reader else { return Ok(()) };
            tokio::select! {
                () = self.replaced.cancelled() => return Err(DeliveryError::Replaced),
                // What retention removes is not held for so long.
                () = reader.removed() => {}
                () = tokio::time::sleep(self.backoff.next()) => {}
            }
        } else {
            self.backoff = Backoff::default();
        }
        self.keep_settled(0);
        Ok(())
    }

    /// The log has ended and all of it is delivered.
    async fn end(&mut self) -> Result<(), DeliveryError> {
        if let Some(outlet) = self.outlet.take() {
            outlet.close().await;
        }
        let mut ledger = self.lock();
        ledger.state.receipt.close();
        ledger.keep().map_err(DeliveryError::Ledger)
    }

    /// Delivers the next batch, if there is one.
    async fn turn(&mut self) -> Result<Turn, DeliveryError> {
        let batch = self.read().await?;
        let saying = self.unsaid();
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
        self.drop_lines(dropped);
        if let Ok(batch) = &batch {
            self.suspect = self.suspect.saturating_sub(lines_of(batch));
        }
        batch.map(Arc::new).map_err(DeliveryError::Journal)
    }

    /// Takes note of what is missing before what is read next: what was sent before may have
    /// arrived.
    fn drop_lines(&mut self, mut dropped: Dropped) {
        let doubtful = self.suspect.min(dropped.lines);
        self.suspect -= doubtful;
        dropped.lines -= doubtful;
        dropped.doubtful += doubtful;
        self.dropped.add(dropped);
    }

    /// Delivers `batch`, after saying that `saying` is missing, again and again until it works.
    async fn deliver(&mut self, batch: Arc<Batch>, saying: Dropped) -> Result<(), DeliveryError> {
        let lines = lines_of(&batch);
        let Some(outlet) = self.outlet.take() else { return Ok(()) };
        let before: u64 = self.marks.iter().map(Mark::length).sum();
        let ahead = before + self.dropped.lines + self.dropped.doubtful + lines;
        self.lock().accept(ahead);
        let (meter, replaced) = (Arc::clone(&self.meter), self.replaced.clone());
        let task = outlet.deliver(Arc::clone(&batch), saying, meter, replaced);
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
        self.outlet = Some(outlet);
        let position = self.reader.as_ref().map(Reader::position);
        let dropped = std::mem::take(&mut self.dropped);
        self.marks.push_back(Mark { position, dropped, saying, lines, bytes: batch.bytes });
        self.keep_settled(1);
        Ok(())
    }

    /// Notes what need not be delivered again, now that so many more batches are `delivered`.
    fn keep_settled(&mut self, delivered: usize) {
        let Some(outlet) = &mut self.outlet else { return };
        let settled = outlet.take_settled(delivered).min(self.marks.len());
        if settled == 0 {
            return;
        }
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.note_whole(outlet.receipt());
        let state = &mut ledger.state;
        for mark in self.marks.drain(..settled) {
            state.sent = state.sent.saturating_sub(mark.length());
            if let Some(position) = mark.position {
                state.position = position;
            }
            state.drop_lines(mark.dropped);
            state.say(mark.saying);
            state.arrive(mark.lines);
            state.bytes += mark.bytes;
        }
        let kept = ledger.keep();
        self.meter.show(&ledger.state);
        drop(ledger);
        let unkept = kept.err().map(|error| chain(&DeliveryError::Ledger(error)));
        self.meter.judge_keeping(unkept);
    }

    /// What was dropped and no batch speaks of yet.
    fn unsaid(&self) -> Dropped {
        let mut unsaid = self.lock().state.unsaid();
        for mark in &self.marks {
            unsaid.add(mark.dropped);
            unsaid.subtract(mark.saying);
        }
        unsaid.add(self.dropped);
        unsaid
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
        let news = reader.take_dropped();
        let position = reader.position();
        self.reader = Some(reader);
        self.drop_lines(news);
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if news.any() {
            let mut dropped = std::mem::take(&mut self.dropped);
            // What is in the ledger now is after them.
            for mark in &mut self.marks {
                mark.position = None;
                dropped.add(std::mem::take(&mut mark.dropped));
            }
            // The position is after the batch now, which is in memory only, and after those that
            // might have to be delivered again.
            let unsettled: u64 = self.marks.iter().map(|mark| mark.lines).sum();
            ledger.pass(dropped, position, lines, unsettled);
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

/// How many entries end a line.
fn lines_of(batch: &Batch) -> u64 {
    batch.entries.iter().filter(|entry| !entry.continues()).count() as u64
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
