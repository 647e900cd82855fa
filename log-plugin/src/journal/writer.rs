//! From a FIFO into the journal, and what happens when the disk refuses.
//!
//! Bytes go by splice, so a kill leaves each either in the pipe or in the file. When nothing can
//! be stored and nothing of this container is left to drop, frames are taken from the pipe and
//! counted as lost: the container never waits for the disk.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::segment::Opened;
use super::{Journal, Limits};
use crate::frame::{HEADER, MAX_BODY, Probe, probe};
use crate::names::StreamId;
use crate::options::SyncPolicy;
use crate::sys::{self, Moved, Readiness};

/// Most bytes moved at once; a pipe never holds more.
const BATCH: u64 = 1 << 20;

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
    resumed: bool,
    current: Option<Opened>,
    refused: Option<Refused>,
}

/// Kept while the disk takes nothing.
#[derive(Debug)]
struct Refused {
    /// Taken from the pipe and not stored: at most one frame that is not all there.
    carry: Vec<u8>,
    retry: Instant,
    lost_frames: u64,
    lost_bytes: u64,
}

impl Writer {
    /// A writer of `stream`, which goes on where an earlier life of the process stopped.
    pub fn new(journal: Arc<Journal>, stream: StreamId, limits: Limits) -> Self {
        Self { journal, stream, limits, resumed: false, current: None, refused: None }
    }

    /// Stores what `fifo` holds, up to a batch, without waiting for more.
    pub fn fill(&mut self, fifo: &OwnedFd) -> io::Result<Filled> {
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
        self.report();
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
        match sys::splice_into(fifo, &current.file, current.size, length)? {
            Moved::Idle => Ok(Filled::Idle),
            Moved::Closed => Ok(Filled::Closed),
            Moved::Bytes(moved) => {
                current.size += moved as u64;
                let noise = current.scan.noise();
                current.walk()?;
                if current.scan.noise() > noise {
                    let bytes = current.scan.noise() - noise;
                    tracing::warn!(stream = %self.stream, bytes, "the stream is not all frames");
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
        if !self.resumed {
            self.current = self.journal.resume(&self.stream)?;
            self.resumed = true;
            if self.current.is_some() {
                return Ok(());
            }
        }
        let mut begun = self.journal.begin(&self.stream, self.limits)?;
        if let Some(refused) = &self.refused {
            if let Err(error) = begun.file.write_all_at(&refused.carry, begun.size) {
                begun.file.set_len(begun.size)?;
                self.current = Some(begun);
                return Err(error);
            }
            begun.size += refused.carry.len() as u64;
            begun.walk()?;
            self.report();
            self.refused = None;
        }
        self.current = Some(begun);
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
        let retry = Instant::now() + RETRY;
        let refused = self.refused.get_or_insert_with(|| {
            tracing::error!(stream = %self.stream, %error, "the log cannot be stored");
            Refused { carry: Vec::new(), retry, lost_frames: 0, lost_bytes: 0 }
        });
        refused.retry = retry;
        let Some(mut current) = self.current.take() else { return Ok(false) };
        // The frame in flight goes on: its beginning is carried into what is written next.
        if current.missing > 0 {
            let half = usize::try_from(current.size - current.scan.position()).unwrap_or(0);
            refused.carry = vec![0; half.min(HEADER + MAX_BODY)];
            current.file.read_exact_at(&mut refused.carry, current.scan.position())?;
            current.cut()?;
        }
        let worth = full && current.size >= WORTH_DROPPING;
        self.journal.grown(&self.stream, current.sequence, current.size);
        self.journal.sealed(current.sequence, current.index);
        if worth {
            self.journal.free(current.sequence)?;
            tracing::warn!(stream = %self.stream, "dropped the only segment");
        }
        Ok(worth)
    }

    /// Takes frames out of `fifo` and counts them.
    fn discard(&mut self, fifo: &OwnedFd) -> io::Result<Filled> {
        let Some(refused) = &mut self.refused else { return Ok(Filled::Idle) };
        let mut chunk = vec![0; 64 * 1024];
        let mut pipe = std::fs::File::from(fifo.try_clone()?);
        let taken = match pipe.read(&mut chunk) {
            Ok(0) => return Ok(Filled::Closed),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Filled::Idle),
            Err(error) => return Err(error),
        };
        refused.carry.extend_from_slice(&chunk[..taken]);
        let (mut at, mut frames) = (0, 0);
        loop {
            match probe(&refused.carry[at..]) {
                Probe::Frame(length) if at + length <= refused.carry.len() => {
                    at += length;
                    frames += 1;
                }
                Probe::Noise(length) => at += length,
                Probe::Frame(_) | Probe::Short(_) => break,
            }
        }
        refused.lost_frames += frames;
        refused.lost_bytes += at as u64;
        self.journal.lost().add(frames, at as u64);
        refused.carry.drain(..at);
        Ok(Filled::Bytes(taken))
    }

    /// Says what was lost.
    fn report(&self) {
        if let Some(Refused { lost_frames, lost_bytes: lost_bytes @ 1.., .. }) = &self.refused {
            tracing::error!(stream = %self.stream, lost_frames, lost_bytes, "log messages were lost");
        }
    }
}
