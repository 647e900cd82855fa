//! The task of one stream: from the moment dockerd has a FIFO until it is done with it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::pace::{EMPTY_TURNS, PAUSE, Pace};
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
const BATCHES: usize = 4;

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
    pub(super) interrupt: CancellationToken,
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

/// What a stream's next phase is.
enum Next {
    Quiet,
    Busy,
    End(End),
}

/// What reading until there was nothing came to.
enum Turn {
    Read,
    Nothing,
    /// There is more.
    Unfinished,
    Closed,
}

impl Stream {
    /// Stores the stream until it ends. Its FIFO is in `held` from when it could be opened, so that what
    /// is in it outlives a failure, also when dockerd is done with it meanwhile.
    pub(super) async fn run(&self, held: Arc<OnceLock<OwnedFd>>) -> io::Result<End> {
        let mut writer = Writer::new(Arc::clone(&self.journal), self.id.clone(), self.limits);
        let opened = match held.get() {
            Some(fifo) => Ok(fifo),
            None => sys::open_fifo(&self.path).map(|fifo| held.get_or_init(|| fifo)),
        };
        let end = match opened {
            Ok(fifo) => Pump { stream: self, writer: &mut writer, fifo, large: None }.run().await?,
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
}

/// A stream whose FIFO is open.
struct Pump<'s> {
    stream: &'s Stream,
    writer: &'s mut Writer,
    fifo: &'s OwnedFd,
    large: Option<Grant>,
}

impl Pump<'_> {
    async fn run(mut self) -> io::Result<End> {
        // A pipe that an earlier life of the process enlarged is accounted for.
        if sys::pipe_size(self.fifo)? >= super::pipes::LARGE {
            self.large = self.stream.budget.enlarge(self.fifo);
        }
        let mut next = Next::Quiet;
        loop {
            next = match next {
                Next::Quiet => self.quiet().await?,
                Next::Busy => self.busy().await?,
                Next::End(end) => return Ok(end),
            };
        }
    }

    /// Reads as soon as there is something, until the stream becomes busy.
    async fn quiet(&mut self) -> io::Result<Next> {
        let watched = sys::watch(self.fifo.try_clone()?)?;
        let mut pace = Pace::default();
        // A FIFO without a writer from the beginning is never called ready.
        if let Turn::Closed = self.turn()? {
            return Ok(Next::End(End::Gone));
        }
        loop {
            let mut ready = tokio::select! {
                biased;
                () = self.stream.stop.cancelled() => return self.drain(),
                () = self.stream.interrupt.cancelled() => return Ok(Next::End(End::Interrupted)),
                ready = watched.readable() => ready?,
                () = tokio::time::sleep(IDLE), if self.large.is_some() => {
                    let grant = self.large.take();
                    self.large = grant.and_then(|grant| grant.give_back(self.fifo).err());
                    continue;
                }
            };
            match self.turn()? {
                Turn::Closed => return Ok(Next::End(End::Gone)),
                Turn::Unfinished => return Ok(Next::Busy),
                Turn::Read | Turn::Nothing => ready.clear_ready(),
            }
            if pace.is_busy(Instant::now()) {
                return Ok(Next::Busy);
            }
        }
    }

    /// Reads every now and then, until there is nothing. The FIFO is not watched meanwhile, or
    /// every write would wake this process.
    async fn busy(&mut self) -> io::Result<Next> {
        let mut empty = 0;
        while empty < EMPTY_TURNS {
            tokio::select! {
                biased;
                () = self.stream.stop.cancelled() => return self.drain(),
                () = self.stream.interrupt.cancelled() => return Ok(Next::End(End::Interrupted)),
                () = tokio::time::sleep(PAUSE) => {}
            }
            match self.turn()? {
                Turn::Closed => return Ok(Next::End(End::Gone)),
                Turn::Nothing => empty += 1,
                Turn::Read | Turn::Unfinished => empty = 0,
            }
        }
        Ok(Next::Quiet)
    }

    fn turn(&mut self) -> io::Result<Turn> {
        for batch in 0..BATCHES {
            match self.writer.fill(self.fifo)? {
                Filled::Closed => return Ok(Turn::Closed),
                Filled::Idle if batch == 0 => return Ok(Turn::Nothing),
                Filled::Idle => return Ok(Turn::Read),
                Filled::Bytes(bytes) if bytes >= FULL && self.large.is_none() => {
                    self.large = self.stream.budget.enlarge(self.fifo);
                }
                Filled::Bytes(_) => {}
            }
        }
        Ok(Turn::Unfinished)
    }

    /// Stores what is left. Nothing more is written by now, though dockerd still has the FIFO
    /// open: empty is the end.
    fn drain(&mut self) -> io::Result<Next> {
        let (deadline, mut drained) = (Instant::now() + DRAIN, 0);
        while let Filled::Bytes(bytes) = self.writer.fill(self.fifo)? {
            drained += bytes;
            // More than a pipe holds: somebody still writes. A disk that is slow is waited for, or what
            // is left would be lost.
            if Instant::now() > deadline && drained > super::pipes::LARGE {
                tracing::error!(stream = %self.stream.id, "the stream did not end in its time");
                break;
            }
        }
        Ok(Next::End(End::Stopped))
    }
}
