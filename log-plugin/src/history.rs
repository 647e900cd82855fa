//! `docker logs` out of the journal, by the rules that Docker's own drivers follow:
//! - The order is that of writing, never that of times.
//! - `since` is a seek: from the first entry that is not older, everything, older or not.
//! - `tail` counts stored pieces, among those from `since` on; `until` plays no part in it.
//! - `until` ends the reading at the first entry that is later, also when following.
//! - Without `follow` the end is where the log ended when the reading began.
//! - A line gets its newline back; a piece that another one follows has none.
//!
//! A reader holds its segments open, so that what retention removes under it is still read. All
//! of this blocks on files; the API runs it on threads for blocking work.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use prost::Message;

use crate::frame::{LogEntry, Scan, Step};
use crate::journal::{Contents, Follower, Index, Journal};

/// How much is handed over at a time.
const CHUNK: usize = 64 * 1024;

/// What is asked for. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query {
    /// Seek to the first entry of this time or later.
    pub since: Option<i64>,
    /// End at the first entry later than this.
    pub until: Option<i64>,
    /// Only so many of the last pieces.
    pub tail: Option<u64>,
    /// Go on with what comes.
    pub follow: bool,
}

/// A piece of the answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Whole frames.
    Frames(Vec<u8>),
    /// Nothing more right now.
    Idle,
    /// Nothing more ever: `until` was reached.
    End,
}

/// A reading in progress.
#[derive(Debug)]
pub struct History {
    journal: Arc<Journal>,
    query: Query,
    /// In the order of the log. Before the last one only those that may still grow or are not
    /// yet read.
    cursors: VecDeque<Cursor>,
    /// The highest sequence that has had a cursor.
    newest: u64,
    /// When following: keeps what retention removes until it is opened here.
    follower: Option<Follower>,
    ended: bool,
}

#[derive(Debug)]
struct Cursor {
    sequence: u64,
    file: Arc<Contents>,
    scan: Scan,
    /// How much of the file counts.
    end: u64,
}

impl Cursor {
    fn open(journal: &Journal, sequence: u64) -> io::Result<Option<Self>> {
        let Some(file) = journal.open_segment(sequence)? else { return Ok(None) };
        let end = file.len()?;
        Ok(Some(Self { sequence, file, scan: Scan::default(), end }))
    }

    /// The next entry with the offset of its frame.
    fn next(&mut self) -> io::Result<Option<(u64, LogEntry)>> {
        while let Step::Frame(frame) = self.scan.step(&*self.file, self.end)? {
            let body = self.scan.body(&*self.file, frame, self.end)?;
            match LogEntry::decode(body) {
                Ok(entry) => return Ok(Some((frame.offset, entry))),
                Err(error) => {
                    tracing::debug!(%error, segment = self.sequence, frame.offset, "not an entry");
                }
            }
        }
        Ok(None)
    }

    /// Moves over at most `count` frames and tells over how many.
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        for skipped in 0..count {
            if let Step::End(_) = self.scan.step(&*self.file, self.end)? {
                return Ok(skipped);
            }
        }
        Ok(count)
    }

    /// What is where, of a segment that does not grow any more.
    fn index(&self, journal: &Journal) -> io::Result<Option<Arc<Index>>> {
        if journal.is_growing(self.sequence) {
            return Ok(None);
        }
        journal.index_of(self.sequence, &self.file).map(Some)
    }
}

impl History {
    /// Opens what there is of `journal`. Cheap: [`History::seek`] finds where to begin.
    pub fn open(journal: Arc<Journal>, query: Query) -> io::Result<Self> {
        journal.list()?;
        let follower = query.follow.then(|| Follower::of(&journal));
        let cursors = VecDeque::new();
        let mut history = Self { journal, query, cursors, newest: 0, follower, ended: false };
        history.extend()?;
        Ok(history)
    }

    /// Goes to the first entry that was asked for.
    pub fn seek(&mut self) -> io::Result<()> {
        if let Some(since) = self.query.since {
            self.seek_since(since)?;
        }
        if let Some(tail) = self.query.tail {
            self.seek_tail(tail)?;
        }
        Ok(())
    }

    /// What comes next, without waiting for more to be stored.
    pub fn read(&mut self) -> io::Result<Chunk> {
        if self.ended {
            return Ok(Chunk::End);
        }
        if self.query.follow {
            self.extend()?;
        }
        let mut out = Vec::new();
        let mut at = 0;
        while at < self.cursors.len() && !self.ended && out.len() < CHUNK {
            // Asked before the end is: what is sealed by now does not grow afterwards.
            let done = self.is_done(at);
            let cursor = &mut self.cursors[at];
            if self.query.follow {
                cursor.end = cursor.file.len()?;
            }
            let exhausted = self.read_cursor(at, &mut out)?;
            if exhausted && done {
                drop(self.cursors.remove(at));
            } else {
                at += 1;
            }
        }
        Ok(match (out.is_empty(), self.ended) {
            (false, _) => Chunk::Frames(out),
            (true, true) => Chunk::End,
            (true, false) => Chunk::Idle,
        })
    }

    /// Reads on at one cursor, until it has no more or `out` is a chunk.
    fn read_cursor(&mut self, at: usize, out: &mut Vec<u8>) -> io::Result<bool> {
        let cursor = &mut self.cursors[at];
        while out.len() < CHUNK {
            let Some((_, mut entry)) = cursor.next()? else {
                cursor.scan.rest();
                return Ok(true);
            };
            if self.query.since.is_some_and(|since| entry.time_nano < since) {
                continue;
            }
            self.query.since = None;
            if self.query.until.is_some_and(|until| entry.time_nano > until) {
                self.ended = true;
                return Ok(false);
            }
            if !entry.continues() {
                entry.line.push(b'\n');
            }
            entry.frame_into(out);
        }
        // Half a frame in there may be cut off before this goes on.
        cursor.scan.rest();
        Ok(false)
    }

    /// Whether the cursor's segment can be let go once it is read. The last one never, when
    /// following: the container's next stream may go on in it.
    fn is_done(&self, at: usize) -> bool {
        if !self.query.follow {
            return true;
        }
        let sequence = self.cursors[at].sequence;
        sequence < self.newest && !self.journal.is_growing(sequence)
    }

    /// Opens the segments that have come.
    fn extend(&mut self) -> io::Result<()> {
        for sequence in self.journal.segments_after(self.newest) {
            self.newest = sequence;
            self.cursors.extend(Cursor::open(&self.journal, sequence)?);
        }
        if let Some(follower) = &self.follower {
            follower.come_to(self.newest);
        }
        Ok(())
    }

    fn seek_since(&mut self, since: i64) -> io::Result<()> {
        let mut at = 0;
        while at < self.cursors.len() {
            let done = self.is_done(at);
            let cursor = &mut self.cursors[at];
            let index = cursor.index(&self.journal)?;
            let begin = index.map_or(0, |index| index.first_since(since).unwrap_or(index.end));
            cursor.scan = Scan::from(begin);
            while let Some((offset, entry)) = cursor.next()? {
                if entry.time_nano >= since {
                    cursor.scan = Scan::from(offset);
                    self.query.since = None;
                    self.cursors.drain(..at);
                    return Ok(());
                }
            }
            if done {
                drop(self.cursors.remove(at));
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    fn seek_tail(&mut self, tail: u64) -> io::Result<()> {
        let mut wanted = tail;
        for at in (0..self.cursors.len()).rev() {
            let done = self.is_done(at);
            if wanted == 0 && done {
                drop(self.cursors.remove(at));
                continue;
            }
            let cursor = &mut self.cursors[at];
            let begin = cursor.scan.position();
            // It is of the whole segment.
            let index = if begin == 0 { cursor.index(&self.journal)? } else { None };
            let count = match &index {
                Some(index) => index.frames(),
                None => cursor.skip(u64::MAX)?,
            };
            if count > 0 && wanted > 0 {
                let from_begin = (begin, count.saturating_sub(wanted));
                let (offset, skip) = index.map_or(from_begin, |index| index.last(wanted));
                cursor.scan = Scan::from(offset);
                cursor.skip(skip)?;
                wanted = wanted.saturating_sub(count);
            } else if done {
                drop(self.cursors.remove(at));
            } else if let Some(index) = index {
                cursor.scan = Scan::from(index.end);
            }
        }
        Ok(())
    }
}
