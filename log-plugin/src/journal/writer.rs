//! From a FIFO into the journal, and what happens when the disk refuses.
//!
//! Bytes go by splice, so a kill leaves each either in the pipe or in the file. When nothing can
//! be stored and nothing of this container is left to drop, frames are counted as lost and taken
//! from the pipe: the container never waits for the disk.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gone::Taking;
use super::segment::Opened;
use super::{Journal, Limits, Lost};
use crate::frame::{Probe, probe};
use crate::names::StreamId;
use crate::options::SyncPolicy;
use crate::sys::{self, Moved, Readiness};

/// Most bytes moved at once; a pipe never holds more.
const BATCH: u64 = 1 << 20;

/// How much of a pipe is looked at at once while the disk takes nothing.
const PEEKED: usize = 64 * 1024;

/// How long nothing is tried after the disk refused a segment of next to nothing.
const RETRY: Duration = Duration::from_secs(1);

/// A segment smaller than this is not worth dropping for its space.
const WORTH_DROPPING: u64 = 256 * 1024;

/// What one turn of filling came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes were taken from the FIFO.
    Bytes(usize),
    /// The FIFO is empty, but somebody may write.
    Idle,
    /// The FIFO is empty and nobody has it open for writing.
    Closed,
}

/// Stores one stream.
#[derive(Debug)]
pub struct Writer {
    journal: Arc<Journal>,
    stream: StreamId,
    limits: Limits,
    /// What an earlier life of the process had begun to take out of the pipe is out of it.
    recovered: bool,
    /// What it had begun to store is gone on with.
    resumed: bool,
    current: Option<Opened>,
    refused: Option<Refused>,
}

/// Kept while the disk takes nothing.
#[derive(Debug)]
struct Refused {
    retry: Instant,
    lost: Lost,
}

impl Writer {
    /// A writer of `stream`, which goes on where an earlier life of the process stopped.
    pub fn new(journal: Arc<Journal>, stream: StreamId, limits: Limits) -> Self {
        let (current, refused) = (None, None);
        Self { journal, stream, limits, recovered: false, resumed: false, current, refused }
    }

    /// Stores what `fifo` holds, up to a batch, without waiting for more.
    pub fn fill(&mut self, fifo: &OwnedFd) -> io::Result<Filled> {
        if !self.recovered {
            self.recover(fifo)?;
            self.recovered = true;
        }
        if self.refused.as_ref().is_some_and(|refused| Instant::now() < refused.retry) {
            return self.discard(fifo);
        }
        loop {
            match self.store(fifo.as_fd()) {
                Ok(filled) => return Ok(filled),
                Err(error) => {
                    if !self.make_room(&error)? {
                        return self.discard(fifo);
                    }
                }
            }
        }
    }

    /// The stream has ended: what is stored of it is final.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(refused) = &self.refused {
            refused.report(&self.stream);
        }
        // Nobody comes back to its pipe, and the account has room for some only.
        self.journal.gone().note_taken(self.stream.tag());
        self.seal()
    }

    fn store(&mut self, fifo: BorrowedFd<'_>) -> io::Result<Filled> {
        let turn = self.limits.turn.unwrap_or(Duration::MAX);
        let done = |at: &Opened| at.size >= self.limits.segment || at.begun.elapsed() >= turn;
        if self.current.as_ref().is_some_and(|at| at.missing == 0 && at.size > 0 && done(at)) {
            self.seal()?;
        }
        let Some(current) = &mut self.current else {
            // A stream without data leaves no trace: `docker logs` of a stopped container
            // begins and ends one. Nor does it read its last segment when the process starts,
            // as hundreds of others do.
            return match sys::readiness(fifo)? {
                Readiness::Idle => Ok(Filled::Idle),
                Readiness::Closed => Ok(Filled::Closed),
                Readiness::Data => {
                    self.begin()?;
                    self.store(fifo)
                }
            };
        };
        let room = match self.limits.segment.saturating_sub(current.size) {
            0 => current.missing,
            room => room,
        };
        let length = usize::try_from(room.min(BATCH)).unwrap_or(usize::MAX);
        if self.refused.is_some() {
            // What follows in the pipe must not be taken for it.
            self.journal.gone().note_taken(self.stream.tag());
        }
        match sys::splice_into(fifo, &current.file, current.size, length)? {
            Moved::Idle => Ok(Filled::Idle),
            Moved::Closed => Ok(Filled::Closed),
            Moved::Bytes(moved) => {
                if let Some(refused) = self.refused.take() {
                    refused.report(&self.stream);
                }
                current.size += moved as u64;
                let noise = current.scan.noise();
                current.walk()?;
                if current.scan.noise() > noise {
                    let bytes = current.scan.noise() - noise;
                    tracing::warn!(stream = %self.stream, bytes, "the stream is not all frames");
                    self.journal.gone().note_garbled(bytes);
                }
                self.journal.grown(&self.stream, current.sequence, current.size);
                match self.limits.sync {
                    SyncPolicy::None => {}
                    SyncPolicy::Interval => self.journal.to_be_synced(current.sequence),
                    SyncPolicy::Always => current.file.sync_data()?,
                }
                Ok(Filled::Bytes(moved))
            }
        }
    }

    /// Finds a segment for the next frame; once, the one that this stream had before the process
    /// was killed.
    fn begin(&mut self) -> io::Result<()> {
        self.resume()?;
        if self.current.is_some() {
            return Ok(());
        }
        self.current = Some(self.journal.begin(&self.stream, self.limits)?);
        Ok(())
    }

    fn seal(&mut self) -> io::Result<()> {
        if let Some(mut done) = self.current.take() {
            let cut = done.cut();
            self.journal.grown(&self.stream, done.sequence, done.size);
            self.journal.sealed(done.sequence, done.index);
            cut?;
        }
        Ok(())
    }

    /// The disk refused with `error`. Drops the oldest of this container's log, in the end the
    /// segment being written; `false` when that would not help.
    fn make_room(&mut self, error: &io::Error) -> io::Result<bool> {
        let full =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full && self.journal.free_oldest()? {
            tracing::warn!(stream = %self.stream, %error, "dropped the oldest segment");
            return Ok(true);
        }
        let refused = self.refused.get_or_insert_with(|| {
            tracing::error!(stream = %self.stream, %error, "the log cannot be stored");
            Refused { retry: Instant::now(), lost: Lost::default() }
        });
        refused.retry = Instant::now() + RETRY;
        match &self.current {
            Some(current) if full && current.size >= WORTH_DROPPING => {
                // First the frame in flight has to be out of the pipe.
                if current.missing > 0 {
                    refused.retry = Instant::now();
                    return Ok(false);
                }
                let sequence = current.sequence;
                self.seal()?;
                self.journal.free(sequence)?;
                tracing::warn!(stream = %self.stream, "dropped the only segment");
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Takes whole frames out of `fifo` and counts them; that of a frame whose beginning is stored
    /// is cut off. Counted first: should the process be killed before they are taken, the next
    /// life finds them by their checksum and takes them without counting.
    fn discard(&mut self, fifo: &OwnedFd) -> io::Result<Filled> {
        let Some(refused) = &mut self.refused else { return Ok(Filled::Idle) };
        let (peeked, more) = sys::peek(fifo, PEEKED)?;
        if peeked.is_empty() {
            let closed = sys::readiness(fifo)? == Readiness::Closed;
            return Ok(if closed { Filled::Closed } else { Filled::Idle });
        }
        let mut bytes = self.current.as_ref().map_or(Ok(Vec::new()), Opened::half)?;
        let half = bytes.len();
        bytes.extend_from_slice(&peeked);
        let (mut end, mut messages) = whole(&bytes);
        if end <= half {
            if !more {
                return Ok(Filled::Idle);
            }
            // A frame that is larger than what can be seen of the pipe: its rest is none.
            (end, messages) = (bytes.len(), 1);
        }
        let length = end - half;
        let lost = Lost { messages, bytes: end as u64, ..Lost::default() };
        let checksum = crc32c::crc32c(&peeked[..length]);
        let cut = self.current.as_ref().filter(|_| half > 0).map(|at| at.scan.position());
        let tag = self.stream.tag();
        self.journal.gone().note_taking(tag, Taking { length, checksum, cut }, lost);
        if let Some(current) = &mut self.current {
            current.cut()?;
            self.journal.grown(&self.stream, current.sequence, current.size);
        }
        take(fifo, length)?;
        refused.lost.messages += lost.messages;
        refused.lost.bytes += lost.bytes;
        Ok(Filled::Bytes(length))
    }

    /// Finishes what a kill may have cut short in [`Writer::discard`].
    fn recover(&mut self, fifo: &OwnedFd) -> io::Result<()> {
        let Some(taking) = self.journal.gone().taking(self.stream.tag()) else { return Ok(()) };
        if let Some(cut) = taking.cut {
            self.resume()?;
            if let Some(current) = &mut self.current
                && current.missing > 0
                && current.scan.position() == cut
            {
                current.cut()?;
            }
        }
        let (peeked, _) = sys::peek(fifo, taking.length)?;
        if peeked.len() == taking.length && crc32c::crc32c(&peeked) == taking.checksum {
            take(fifo, taking.length)?;
        }
        self.journal.gone().note_taken(self.stream.tag());
        Ok(())
    }

    /// Goes on in the segment that this stream had before the process was killed; once.
    fn resume(&mut self) -> io::Result<()> {
        if !self.resumed {
            self.current = self.journal.resume(&self.stream)?;
            self.resumed = true;
        }
        Ok(())
    }
}

impl Refused {
    /// Says what was lost.
    fn report(&self, stream: &StreamId) {
        let Lost { messages, bytes, .. } = self.lost;
        if bytes > 0 {
            tracing::error!(%stream, messages, bytes, "log messages were lost");
        }
    }
}

/// Where the whole frames at the beginning of `bytes` end, with what is no frame between them, and
/// how many they are.
fn whole(bytes: &[u8]) -> (usize, u64) {
    let (mut at, mut frames) = (0, 0);
    loop {
        match probe(&bytes[at..]) {
            Probe::Frame(length) if at + length <= bytes.len() => {
                at += length;
                frames += 1;
            }
            Probe::Noise(length) => at += length,
            Probe::Frame(_) | Probe::Short(_) => return (at, frames),
        }
    }
}

/// Takes `length` bytes, which are there, out of `fifo`.
fn take(fifo: &OwnedFd, length: usize) -> io::Result<()> {
    std::fs::File::from(fifo.try_clone()?).read_exact(&mut vec![0; length])
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
