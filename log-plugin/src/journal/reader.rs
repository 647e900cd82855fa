//! What a sink reads a journal by: in the order of the log, from a position that outlives the
//! process, and with account of what retention took away before it was read.
//!
//! Invariants:
//! - An entry is in exactly one of the batches, or counted as dropped. After a restart that holds
//!   from the position that was kept on.
//! - Nothing waits for a reader: retention removes what it must. A reader that goes on reading
//!   finds removed segments still open; one that cannot calls [`Reader::let_go`].
//!
//! All of this blocks on files.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use prost::Message;
use serde::{Deserialize, Serialize};

use super::held::{Held, Queue};
use super::{Contents, Journal};
use crate::frame::{LogEntry, Scan, Step};

/// Most removed segments that are held for a reader that goes on reading, and their size; of
/// larger ones a single one.
const HELD_SEGMENTS: usize = 16;
const HELD_BYTES: u64 = 64 << 20;

/// How far a reader has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The highest sequence that was begun.
    pub newest: u64,
    /// How far each segment was read that may have more. Others up to the newest are done with.
    pub open: BTreeMap<u64, u64>,
    /// How many lines of each of these were read, where that is known.
    #[serde(default)]
    pub lines: BTreeMap<u64, u64>,
}

/// What retention took away unread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Lines; of a line in pieces the last one counts.
    pub lines: u64,
    /// So many more may be missing: they were on their way, and in memory only, when the process
    /// was killed.
    pub doubtful: u64,
    /// There were more, nobody knows how many: what was removed cannot be read, or was removed
    /// too long ago.
    pub uncounted: bool,
}

/// Entries in the order of the log.
#[derive(Debug, Default)]
pub struct Batch {
    /// At most as many as were asked for, by size; none when there is nothing more right now.
    pub entries: Vec<LogEntry>,
    /// The size of their frames.
    pub bytes: u64,
}

/// A sink's reading of a journal.
#[derive(Debug)]
pub struct Reader {
    journal: Arc<Journal>,
    id: u64,
    queue: Arc<Queue>,
    cursors: VecDeque<Cursor>,
    newest: u64,
    dropped: Dropped,
}

#[derive(Debug)]
struct Cursor {
    sequence: u64,
    /// Open from the first reading on.
    file: Option<Arc<Contents>>,
    scan: Scan,
    /// How many lines were read, if that is known.
    lines: Option<u64>,
    /// It has no name any more, and does not grow.
    removed: bool,
    /// How many lines it had in all when it was removed, if that was told.
    all: Option<u64>,
}

impl Cursor {
    fn at(sequence: u64, offset: u64, lines: Option<u64>) -> Self {
        Self { sequence, file: None, scan: Scan::from(offset), lines, removed: false, all: None }
    }

    /// Nothing of it was read yet.
    fn begin(sequence: u64) -> Self {
        Self::at(sequence, 0, Some(0))
    }
}

impl Dropped {
    /// Whether anything was.
    pub fn any(&self) -> bool {
        self.lines > 0 || self.doubtful > 0 || self.uncounted
    }

    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.doubtful += other.doubtful;
        self.uncounted |= other.uncounted;
    }

    /// What of it is not among `said`.
    pub fn subtract(&mut self, said: Self) {
        self.lines = self.lines.saturating_sub(said.lines);
        self.doubtful = self.doubtful.saturating_sub(said.doubtful);
        self.uncounted &= !said.uncounted;
    }
}

impl Reader {
    /// A reader of `journal` from `position` on.
    pub fn open(journal: &Arc<Journal>, position: &Position) -> Self {
        let (id, queue, last) = journal.register();
        // A power cut can take segments back whose numbers are then given out again.
        let beginning = Position::default();
        let position = if position.newest > last { &beginning } else { position };
        let cursor = |(&sequence, &offset): (&u64, &u64)| {
            let lines = position.lines.get(&sequence).copied();
            Cursor::at(sequence, offset, lines.or((offset == 0).then_some(0)))
        };
        let cursors = position.open.iter().map(cursor);
        let reader = Self {
            journal: Arc::clone(journal),
            id,
            queue,
            cursors: cursors.collect(),
            newest: position.newest,
            dropped: Dropped::default(),
        };
        reader.tell();
        reader
    }

    /// Where a later reader would go on after the last batch.
    pub fn position(&self) -> Position {
        let mut newest = self.newest;
        let (mut open, mut lines) = (BTreeMap::new(), BTreeMap::new());
        for cursor in self.cursors.iter().rev() {
            // Those at the end that were not begun need not be told of.
            if open.is_empty() && cursor.sequence == newest && cursor.scan.position() == 0 {
                newest -= 1;
            } else {
                open.insert(cursor.sequence, cursor.scan.position());
                lines.extend(cursor.lines.map(|read| (cursor.sequence, read)));
            }
        }
        Position { newest, open, lines }
    }

    /// What was dropped since this was last asked.
    pub fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// Waits until retention has removed something that this reader has not read.
    pub fn removed(&self) -> impl Future<Output = ()> + Send + 'static {
        let queue = Arc::clone(&self.queue);
        async move { queue.any().await }
    }

    /// The next entries, up to `limit` bytes of frames or one more entry.
    pub fn read(&mut self, limit: u64) -> io::Result<Batch> {
        self.extend();
        while let Some(oldest) = self.too_many() {
            self.drop_cursor(oldest)?;
        }
        let mut batch = Batch::default();
        let mut at = 0;
        while at < self.cursors.len() && batch.bytes < limit {
            // Asked before the end is: what is sealed by now does not grow afterwards.
            let done = self.is_done(at);
            if self.read_cursor(at, limit, &mut batch)? && done {
                drop(self.cursors.remove(at));
            } else {
                at += 1;
            }
        }
        self.tell();
        Ok(batch)
    }

    /// Counts what is in removed segments and lets them go, for a reader that cannot go on.
    pub fn let_go(&mut self) -> io::Result<()> {
        self.extend();
        while let Some(at) = self.cursors.iter().position(|cursor| cursor.removed) {
            self.drop_cursor(at)?;
        }
        self.tell();
        Ok(())
    }

    /// Tells the journal what is still to be read.
    fn tell(&self) {
        let open = self.cursors.iter().map(|cursor| cursor.sequence).collect();
        self.queue.come_to(self.newest, open);
    }

    /// Takes note of segments that have come and of those that have gone.
    fn extend(&mut self) {
        let (held, named) = self.journal.news(&self.queue, self.newest);
        let mut later: BTreeMap<_, _> =
            named.into_iter().map(|at| (at, Cursor::begin(at))).collect();
        for Held { sequence, file, lines } in held {
            if let Some(own) = self.cursors.iter_mut().find(|cursor| cursor.sequence == sequence) {
                own.file = own.file.take().or(file);
                (own.removed, own.all) = (true, lines);
            } else if sequence > self.newest {
                let begun = Cursor::begin(sequence);
                later.insert(sequence, Cursor { file, removed: true, all: lines, ..begun });
            }
        }
        for (sequence, cursor) in later {
            // Those in between were removed by an earlier life of the process.
            self.dropped.add(self.journal.removed_between(self.newest, sequence));
            self.newest = sequence;
            self.cursors.push_back(cursor);
        }
    }

    /// The oldest of the removed segments, if they are too many to be held.
    fn too_many(&self) -> Option<usize> {
        let held = || self.cursors.iter().filter(|cursor| cursor.removed);
        let size = |cursor: &Cursor| {
            let file = cursor.file.as_ref().and_then(|file| file.file().metadata().ok());
            file.map_or(0, |file| file.len())
        };
        let too_large = || held().map(size).sum::<u64>() > HELD_BYTES;
        let count = held().count();
        (count > HELD_SEGMENTS || (count > 1 && too_large()))
            .then(|| self.cursors.iter().position(|cursor| cursor.removed))
            .flatten()
    }

    /// Counts what is left of a segment as dropped.
    fn drop_cursor(&mut self, at: usize) -> io::Result<()> {
        let mut lines = 0;
        let mut count = |entry: &LogEntry| lines += u64::from(!entry.continues());
        let cursor = &mut self.cursors[at];
        let file = cursor.file.clone();
        let counted = if let Some(file) = &file {
            walk(cursor, file, u64::MAX, |entry, _| count(&entry))
        } else {
            self.count_unread(at);
            Ok(true)
        };
        self.dropped.lines += lines;
        // Gone either way: a segment that cannot be read is never delivered.
        self.dropped.uncounted |= counted.is_err();
        self.cursors.remove(at);
        counted.map(drop)
    }

    /// Reads on at one cursor; true when it has no more right now.
    fn read_cursor(&mut self, at: usize, limit: u64, batch: &mut Batch) -> io::Result<bool> {
        let cursor = &mut self.cursors[at];
        let file = match &cursor.file {
            Some(file) => Arc::clone(file),
            None => match self.journal.open_named(cursor.sequence)? {
                Some(file) => {
                    // A power cut can leave less of a segment than was read of it.
                    let size = file.len()?;
                    if cursor.scan.position() > size {
                        // Half a frame at its end is cut off before anybody goes on there.
                        let mut scan = Scan::default();
                        while let Step::Frame(_) = scan.step(&*file, size)? {}
                        (cursor.scan, cursor.lines) = (Scan::from(scan.position()), None);
                    }
                    Arc::clone(cursor.file.insert(file))
                }
                None => return Ok(self.is_missing(at)),
            },
        };
        let room = limit.saturating_sub(batch.bytes);
        walk(cursor, &file, room, |entry, bytes| {
            batch.entries.push(entry);
            batch.bytes += bytes;
        })
    }

    /// A segment without a name is in the queue by now, and read from there next time; unless
    /// it was removed in an earlier life of the process.
    fn is_missing(&mut self, at: usize) -> bool {
        self.extend();
        let cursor = &mut self.cursors[at];
        if cursor.file.is_none() {
            cursor.removed = true;
            self.count_unread(at);
        }
        self.cursors[at].file.is_none()
    }

    /// Counts what was not read of a segment that cannot be read any more, once.
    fn count_unread(&mut self, at: usize) {
        let cursor = &mut self.cursors[at];
        let all = cursor.all.or_else(|| self.journal.lines_removed(cursor.sequence));
        match (all, cursor.lines) {
            (Some(all), Some(read)) => {
                self.dropped.lines += all.saturating_sub(read);
                cursor.lines = Some(all.max(read));
            }
            _ => self.dropped.uncounted = true,
        }
    }

    /// Whether the cursor's segment can be let go once it is read. The last one never, while it
    /// has its name: the container's next stream may go on in it.
    fn is_done(&self, at: usize) -> bool {
        let Cursor { sequence, removed, .. } = self.cursors[at];
        removed || (sequence < self.newest && !self.journal.is_growing(sequence))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.journal.unregister(self.id);
    }
}

/// Hands `take` the entries from the cursor on with the sizes of their frames, until they are
/// `room`; true when there are no more right now.
fn walk(
    cursor: &mut Cursor,
    file: &Contents,
    room: u64,
    mut take: impl FnMut(LogEntry, u64),
) -> io::Result<bool> {
    let end = file.len()?;
    let mut taken = 0;
    while taken < room {
        let Step::Frame(frame) = cursor.scan.step(file, end)? else {
            cursor.scan.rest();
            return Ok(true);
        };
        match LogEntry::decode(cursor.scan.body(file, frame, end)?) {
            Ok(entry) => {
                cursor.lines = cursor.lines.map(|lines| lines + u64::from(!entry.continues()));
                take(entry, frame.length as u64);
                taken += frame.length as u64;
            }
            Err(error) => {
                tracing::debug!(%error, segment = cursor.sequence, frame.offset, "not an entry");
            }
        }
    }
    // What is in there beyond the last frame may be half of one, which is cut off when another
    // stream goes on in the segment.
    cursor.scan.rest();
    Ok(false)
}
