//! Segments as files: their names, how they begin, change hands, end and go.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use plugin_sdk::durable;

use super::{Contents, Index, Journal, Limits, Packed, kept_index};
use crate::frame::{Scan, Step};
use crate::names::StreamId;

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

/// Gives `others`, whose numbers are other segments' too, numbers after all of them: a program that
/// could not list a journal began it anew.
fn renumber(
    dir: &Path,
    segments: &mut BTreeMap<u64, Segment>,
    mut others: Vec<Segment>,
) -> io::Result<()> {
    let time = |segment: &Segment| fs::metadata(segment.path(dir)).and_then(|of| of.modified());
    others
        .sort_by_key(|segment| (time(segment).unwrap_or(SystemTime::UNIX_EPOCH), segment.sequence));
    for other in others {
        let sequence = segments.last_key_value().map_or(1, |(last, _)| last + 1);
        let moved = Segment { sequence, index: None, ..other.clone() };
        kept_index::remove(&other.path(dir))?;
        durable::rename(&other.path(dir), &moved.path(dir))?;
        segments.insert(sequence, moved);
    }
    Ok(())
}

/// The segments in `dir`; none if there is no such directory.
pub(super) fn list(dir: &Path) -> io::Result<BTreeMap<u64, Segment>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let (mut segments, mut indexes) = (BTreeMap::<u64, Segment>::new(), Vec::new());
    let mut others = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        indexes.extend(kept_index::segment_of(&entry.path()));
        if let Some(segment) =
            name.to_str().and_then(|name| Segment::parse(name, entry.metadata().ok()?.len()))
        {
            let (kept, other) = match segments.remove(&segment.sequence) {
                Some(other) if segment.packed => (segment, Some(other)),
                Some(other) => (other, Some(segment)),
                None => (segment, None),
            };
            match other {
                // Both are there when packing was cut short at its very end: the plain one goes.
                Some(plain) if kept.packed && !plain.packed && plain.tag == kept.tag => {
                    plain.delete(dir)?;
                }
                other => others.extend(other),
            }
            segments.insert(kept.sequence, kept);
        }
    }
    renumber(dir, &mut segments, others)?;
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
        self.list()?;
        // In the order of their numbers, or who reads would have passed the lower one.
        let _alone = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = self.take_over(stream, limits) {
            return Ok(taken);
        }
        while self.over(limits) && self.remove_oldest()? {}
        durable::create_dir(&self.dir, 0o700)?;
        // Not given out before there is a file: to a sink a missing number is a loss.
        let sequence = self.state().last + 1;
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
        let file = file?;
        self.gone.prepare();
        let mut state = self.state();
        state.last = sequence;
        state.segments.insert(sequence, segment);
        drop(state);
        Ok(Opened::empty(sequence, file))
    }

    /// A container that crashes and restarts must not leave a file for each of its lives, so a
    /// new stream goes on in the last segment. Only the last that ever was: later ones would come
    /// before, and who has read of them is past it.
    fn take_over(&self, stream: &StreamId, limits: Limits) -> Option<Opened> {
        let old = {
            let mut state = self.state();
            let newest = state.last;
            let last = state.segments.values_mut().next_back()?;
            if last.sequence < newest || last.live || last.packed || last.size >= limits.segment {
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
}
