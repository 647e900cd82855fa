//! Segments as files: their names, how they begin, change hands, end and go.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_sdk::durable;

use super::{Contents, Index, Journal, Packed, kept_index};
use crate::frame::{Scan, Step};
use crate::names::StreamId;
use crate::options::{LogSpec, SyncPolicy};

/// Largest segment whatever `max-size` says: the tail of a log is found by walking its last
/// segment, and what is kept is dropped a segment at a time.
const LARGEST: u64 = 64 << 20;

/// By how much a segment may outgrow the size at which it is ended: the frame that was being
/// written, of dockerd's 16 KiB and what it says about them.
const LAST_FRAME: u64 = 17 << 10;

/// In how many segments at least the lines of `max-age` are: what is kept longer is a part of it.
const TURNS: u32 = 4;

/// Digits of a sequence in a file name, so that names sort as numbers do.
const DIGITS: usize = 20;

/// A file of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its place in the log.
    pub(super) sequence: u64,
    /// The stream it belongs to.
    pub(super) tag: String,
    /// Its length, as far as it is known to the writer.
    pub(super) size: u64,
    /// What it takes of the disk: less when it is packed.
    pub(super) disk: u64,
    pub(super) packed: bool,
    /// What is where in it, if it is plain and somebody has looked.
    pub(super) index: Option<Arc<Index>>,
    /// Whether its stream may still write to it.
    pub(super) live: bool,
}

impl Segment {
    /// A segment of which nothing is stored yet.
    fn new(sequence: u64, tag: &str) -> Self {
        let tag = tag.to_owned();
        Self { sequence, tag, size: 0, disk: 0, packed: false, index: None, live: true }
    }

    /// A packed one's name tells its length, so that it need not be opened for that.
    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        let Self { sequence, tag, size, packed, .. } = self;
        let length = if *packed { format!(".{size}") } else { String::new() };
        dir.join(format!("{sequence:0DIGITS$}.{tag}{length}"))
    }

    fn parse(name: &str, disk: u64) -> Option<Self> {
        let (sequence, tag) = name.split_once('.')?;
        let (tag, length) = match tag.split_once('.') {
            Some((tag, length)) => (tag, Some(length.parse().ok()?)),
            None => (tag, None),
        };
        if sequence.len() != DIGITS || tag.is_empty() {
            return None;
        }
        let own = Self::new(sequence.parse().ok()?, tag);
        let size = length.unwrap_or(disk);
        Some(Self { size, disk, packed: length.is_some(), live: false, ..own })
    }

    /// Opens it for reading.
    pub(super) fn open(&self, dir: &Path) -> io::Result<Contents> {
        let file = File::open(self.path(dir))?;
        if self.packed {
            Packed::open(file).map(Contents::Packed)
        } else {
            Ok(Contents::Plain(file))
        }
    }
}

/// How much of a container's log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A segment of this size is followed by the next.
    pub segment: u64,
    /// What it has grown to by then at most, as far as room for the oldest is concerned.
    pub full: u64,
    /// All segments together; the oldest go so that this holds when the newest is full.
    pub total: u64,
    /// A segment that was begun so long ago is followed by the next, so that it can be removed
    /// for its age.
    pub turn: Option<Duration>,
    /// When what was stored is brought to the disk.
    pub sync: SyncPolicy,
}

impl From<&LogSpec> for Limits {
    fn from(spec: &LogSpec) -> Self {
        let full = spec.max_size.min(LARGEST);
        Self {
            // Of tiny segments only a part is left for it: that of a line.
            segment: full - LAST_FRAME.min(full / 8),
            full,
            total: spec.max_size.saturating_mul(spec.max_file.into()),
            turn: spec.max_age.map(|age| age / TURNS),
            sync: spec.sync,
        }
    }
}

/// A segment that its stream may write to.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) sequence: u64,
    pub(super) file: File,
    pub(super) size: u64,
    /// Stands after the last whole frame.
    pub(super) scan: Scan,
    /// What the frame in flight still needs; none between two frames.
    pub(super) missing: u64,
    pub(super) index: Index,
    pub(super) begun: Instant,
}

impl Opened {
    fn whole(sequence: u64, file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let begun = age(&file).and_then(|age| Instant::now().checked_sub(age));
        let mut opened = Self { size, ..Self::empty(sequence, file) };
        opened.begun = begun.unwrap_or(opened.begun);
        opened.walk()?;
        Ok(opened)
    }

    fn empty(sequence: u64, file: File) -> Self {
        let (scan, index) = (Scan::default(), Index::default());
        Self { sequence, file, size: 0, scan, missing: 0, index, begun: Instant::now() }
    }

    /// Walks over what was added.
    pub(super) fn walk(&mut self) -> io::Result<()> {
        self.missing = loop {
            match self.scan.step(&self.file, self.size)? {
                Step::Frame(frame) => {
                    let body = self.scan.body(&self.file, frame, self.size)?;
                    self.index.note(frame.offset, body);
                }
                Step::End(missing) => break missing,
            }
        };
        self.scan.rest();
        Ok(())
    }
}

/// How long ago a file was made; none where its file system does not tell.
fn age(file: &File) -> Option<Duration> {
    file.metadata().ok()?.created().ok()?.elapsed().ok()
}

/// The segments in `dir`; none if there is no such directory.
pub(super) fn list(dir: &Path) -> io::Result<BTreeMap<u64, Segment>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let (mut segments, mut indexes) = (BTreeMap::<u64, Segment>::new(), Vec::new());
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        indexes.extend(kept_index::segment_of(&entry.path()));
        if let Some(segment) =
            name.to_str().and_then(|name| Segment::parse(name, entry.metadata().ok()?.len()))
        {
            // Both are there when packing was cut short at its very end: the plain one goes.
            let (kept, other) = match segments.remove(&segment.sequence) {
                Some(other) if segment.packed => (segment, Some(other)),
                Some(other) => (other, Some(segment)),
                None => (segment, None),
            };
            if let Some(plain) = other {
                plain.delete(dir)?;
            }
            segments.insert(kept.sequence, kept);
        }
    }
    // What a kill has left of segments that are gone.
    indexes.retain(|segment| !segment.exists());
    indexes.iter().try_for_each(|segment| kept_index::remove(segment))?;
    Ok(segments)
}

impl Journal {
    /// The segment that `stream` had begun in an earlier life of the process and may go on with.
    pub(super) fn resume(&self, stream: &StreamId) -> io::Result<Option<Opened>> {
        let own = self.state().newest_of(stream).map(|own| {
            own.live = true;
            own.clone()
        });
        let Some(own) = own else { return Ok(None) };
        kept_index::remove(&own.path(&self.dir))?;
        let file = OpenOptions::new().read(true).write(true).open(own.path(&self.dir))?;
        Opened::whole(own.sequence, file).map(Some)
    }

    /// A segment for the next frame of `stream`: the last one, if it is done with and has room,
    /// else a new one, for which the oldest make room.
    pub(super) fn begin(&self, stream: &StreamId, limits: Limits) -> io::Result<Opened> {
        if let Some(taken) = self.take_over(stream, limits) {
            return Ok(taken);
        }
        while self.over(limits) && self.remove_oldest()? {}
        durable::create_dir(&self.dir, 0o700)?;
        let sequence = {
            let mut state = self.state();
            state.last += 1;
            state.last
        };
        let segment = Segment::new(sequence, stream.tag());
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(segment.path(&self.dir))
        };
        let file = match open() {
            // The whole journal was being deleted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                durable::create_dir(&self.dir, 0o700).and_then(|()| open())
            }
            made => made,
        };
        let file = file.inspect_err(|_| self.not_begun(sequence))?;
        self.gone.prepare();
        self.state().segments.insert(sequence, segment);
        Ok(Opened::empty(sequence, file))
    }

    /// Takes a number back that no segment got: to a sink a missing one is a loss.
    fn not_begun(&self, sequence: u64) {
        let mut state = self.state();
        if state.last == sequence {
            state.last -= 1;
        }
    }

    /// A container that crashes and restarts must not leave a file for each of its lives, so a
    /// new stream goes on in the last segment. Only the last: later ones would come before.
    fn take_over(&self, stream: &StreamId, limits: Limits) -> Option<Opened> {
        let old = {
            let mut state = self.state();
            let last = state.segments.values_mut().next_back()?;
            if last.live || last.packed || last.size >= limits.segment {
                return None;
            }
            // What is known of it grows old.
            (last.live, last.index) = (true, None);
            last.clone()
        };
        let new = Segment { tag: stream.tag().to_owned(), ..old.clone() };
        let renamed = (|| {
            let from = old.path(&self.dir);
            let file = OpenOptions::new().read(true).write(true).open(&from)?;
            if limits.turn.is_some_and(|turn| age(&file).is_none_or(|age| age >= turn)) {
                return Ok(None);
            }
            let mut opened = Opened::whole(old.sequence, file)?;
            opened.cut()?;
            kept_index::remove(&from)?;
            #[expect(
                clippy::disallowed_methods,
                reason = "if a power cut undoes it, the segment is the old stream's, as before"
            )]
            fs::rename(&from, new.path(&self.dir))?;
            Ok(Some(opened))
        })()
        .inspect_err(|error: &io::Error| {
            tracing::warn!(%error, segment = old.sequence, "the last segment cannot be gone on with");
        });
        let mut state = self.state();
        let last = state.segments.get_mut(&old.sequence)?;
        if let Ok(Some(opened)) = renamed {
            *last = Segment { size: opened.size, ..new };
            Some(opened)
        } else {
            last.live = false;
            None
        }
    }

    /// Whether a new segment, once full, would make the journal too large.
    fn over(&self, limits: Limits) -> bool {
        let size = |segment: &Segment| segment.disk.min(limits.full);
        let held: u64 = self.state().segments.values().map(size).sum();
        held.saturating_add(limits.full) > limits.total
    }

    /// A segment has grown to `size`.
    pub(super) fn grown(&self, stream: &StreamId, sequence: u64, size: u64) {
        let mut state = self.state();
        if let Some(segment) = state.segments.get_mut(&sequence) {
            (segment.size, segment.disk) = (size, size);
        }
        if let Some(attached) = state.streams.iter_mut().find(|attached| attached.id == *stream) {
            attached.superseded = false;
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// A segment is done with; `index` is of all of it.
    pub(super) fn sealed(&self, sequence: u64, index: Index) {
        let index = Arc::new(index);
        let sealed = self.state().segments.get_mut(&sequence).map(|segment| {
            (segment.live, segment.index) = (false, Some(Arc::clone(&index)));
            segment.clone()
        });
        self.changed.send_replace(());
        if let Some(segment) = sealed {
            self.keep_index(&segment, &index);
        }
    }
}

impl Opened {
    /// The half frame at the end.
    pub(super) fn half(&self) -> io::Result<Vec<u8>> {
        let at = self.scan.position();
        let mut bytes = vec![0; usize::try_from(self.size - at).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Cuts off the half frame at the end, whose rest will never come.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        if self.missing > 0 {
            self.file.set_len(self.scan.position())?;
            self.size = self.scan.position();
            self.missing = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_segments_are_taken() {
        let name = format!("{:020}.0123456789abcdef", 7);
        let segment = Segment::parse(&name, 5).unwrap();
        assert_eq!((segment.sequence, &*segment.tag, segment.size), (7, "0123456789abcdef", 5));
        assert_eq!(segment.path(Path::new("d")), Path::new("d").join(name));
        let packed = Segment::parse("00000000000000000008.ab.12345", 99).unwrap();
        assert!(packed.packed && (packed.size, packed.disk) == (12345, 99));
        assert_eq!(packed.path(Path::new("d")), Path::new("d/00000000000000000008.ab.12345"));
        let bad = ["", "7.a", "00000000000000000007", "00000000000000000007.", "x.y.z"];
        for bad in bad.into_iter().chain(["00000000000000000007.a.", "00000000000000000007.a.1.2"])
        {
            assert_eq!(Segment::parse(bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn limits_are_the_options_product() {
        let limits = |max_size, max_file| {
            Limits::from(&LogSpec { max_size, max_file, ..LogSpec::default() })
        };
        let expected = |segment, full, total| Limits {
            segment,
            full,
            total,
            turn: None,
            sync: SyncPolicy::Interval,
        };
        assert_eq!(limits(1, 3), expected(1, 1, 3));
        assert_eq!(limits(80, 3), expected(70, 80, 240));
        let (segment, full) = (LARGEST - LAST_FRAME, LARGEST);
        assert_eq!(limits(1 << 30, 2), expected(segment, full, 2 << 30));
        assert_eq!(limits(u64::MAX, 5), expected(segment, full, u64::MAX));
        let aged = LogSpec { max_age: Some(Duration::from_secs(40)), ..LogSpec::default() };
        assert_eq!(Limits::from(&aged).turn, Some(Duration::from_secs(10)));
    }
}
