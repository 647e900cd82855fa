//! The task of one stream: from the moment dockerd has a FIFO until it is done with it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use super::pipes::{Budget, Grant};
use crate::journal::{Filled, Journal, Limits, Writer};
use crate::names::StreamId;
use crate::sys;

/// How long what is left may take to store when the stream is stopped.
const DRAIN: Duration = Duration::from_secs(2);

/// A batch of this size fills a pipe of the usual size by half.
const FULL: usize = 32 * 1024;

/// How long a large pipe may be idle before it is made small again.
const IDLE: Duration = Duration::from_secs(10);

/// Batches of one turn, after which other streams of the thread have theirs.
const TURN: usize = 4;

/// What a stream is made of.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) path: PathBuf,
    pub(super) journal: Arc<Journal>,
    pub(super) limits: Limits,
    pub(super) budget: Arc<Budget>,
    /// dockerd is done with the stream.
    pub(super) stop: CancellationToken,
    /// This process ends; the stream does not.
    pub(super) shutdown: CancellationToken,
}

/// How a stream's task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// dockerd said StopLogging.
    Stopped,
    /// Nobody has the FIFO open for writing, or it is not there.
    Gone,
    /// The process ends, and the next one goes on.
    Interrupted,
}

impl Stream {
    /// Stores the stream until it ends.
    pub(super) async fn run(&self) -> io::Result<End> {
        let mut writer = Writer::new(Arc::clone(&self.journal), self.id.clone(), self.limits);
        let end = match sys::open_fifo(&self.path) {
            Ok(fifo) => self.pump(sys::watch(fifo)?, &mut writer).await?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => End::Gone,
            // Something else has its place, which is not ours to remove.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => End::Stopped,
            Err(error) => return Err(error),
        };
        if end != End::Interrupted {
            writer.finish()?;
        }
        Ok(end)
    }

    async fn pump(&self, fifo: AsyncFd<OwnedFd>, writer: &mut Writer) -> io::Result<End> {
        let mut pace = Pace::default();
        let mut large: Option<Grant> = self.inherited(fifo.get_ref())?;
        // A FIFO without a writer from the beginning is never called ready.
        if writer.fill(fifo.get_ref())? == Filled::Closed {
            return Ok(End::Gone);
        }
        loop {
            let mut ready = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(End::Interrupted),
                () = self.stop.cancelled() => return self.drain(fifo.get_ref(), writer),
                ready = fifo.readable() => ready?,
                () = tokio::time::sleep(IDLE), if large.is_some() => {
                    large = large.and_then(|grant| grant.give_back(fifo.get_ref()).err());
                    continue;
                }
            };
            if let Some(pause) = pace.before_turn(Instant::now()) {
                tokio::select! {
                    () = self.shutdown.cancelled() => continue,
                    () = self.stop.cancelled() => continue,
                    () = tokio::time::sleep(pause) => {}
                }
            }
            for _ in 0..TURN {
                match writer.fill(fifo.get_ref())? {
                    Filled::Closed => return Ok(End::Gone),
                    Filled::Idle => {
                        ready.clear_ready();
                        break;
                    }
                    Filled::Bytes(bytes) if bytes >= FULL && large.is_none() => {
                        large = self.budget.enlarge(fifo.get_ref())?;
                    }
                    Filled::Bytes(_) => {}
                }
            }
            pace.after_turn(Instant::now());
        }
    }

    /// Accounts for a pipe that an earlier life of the process enlarged.
    fn inherited(&self, fifo: &OwnedFd) -> io::Result<Option<Grant>> {
        if sys::pipe_size(fifo)? >= super::pipes::LARGE {
            self.budget.enlarge(fifo)
        } else {
            Ok(None)
        }
    }

    /// Stores what is left. Nothing more is written by now, though dockerd still has the FIFO
    /// open: empty is the end.
    fn drain(&self, fifo: &OwnedFd, writer: &mut Writer) -> io::Result<End> {
        let deadline = Instant::now() + DRAIN;
        while let Filled::Bytes(_) = writer.fill(fifo)? {
            if Instant::now() > deadline {
                tracing::error!(stream = %self.id, "the stream did not end within its time");
                break;
            }
        }
        Ok(End::Stopped)
    }
}
