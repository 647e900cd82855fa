//! Packing segments that are done with.
//!
//! Never the last one, since the container's next stream may go on in it, and only after a while:
//! of a container that writes in a hurry the oldest goes before anybody had the trouble. The
//! packed file gets its name when it is whole and on the disk, and only then the plain one goes:
//! whatever a kill leaves, the segment is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use plugin_sdk::durable;

use super::packed::pack;
use super::removal::missing_is_fine;
use super::segment::Segment;
use super::{Contents, Index, Journal, kept_index};
use crate::frame::{Scan, Step};
use crate::sys;

/// Smaller ones gain nothing.
const WORTH_PACKING: u64 = 64 * 1024;

impl Journal {
    /// Packs the segments that nobody has written to since `time`; tells how many. To be called by
    /// one thread at a time.
    pub fn pack(&self, time: SystemTime) -> io::Result<usize> {
        let (mut count, packable) = (0, self.packable());
        if !packable.is_empty() {
            durable::sweep(&self.dir)?;
        }
        for segment in packable {
            let plain = match File::open(segment.path(&self.dir)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            if plain.metadata()?.modified()? < time && self.pack_one(&segment, plain)? {
                count += 1;
            }
        }
        Ok(count)
    }

    /// What is where in the segment numbered `sequence`, which does not grow any more.
    pub fn index_of(&self, sequence: u64, contents: &Contents) -> io::Result<Arc<Index>> {
        if let Some(index) = contents.index() {
            return Ok(Arc::new(index.clone()));
        }
        let known = self.state().segments.get(&sequence).and_then(|own| own.index.clone());
        if let Some(index) = known {
            return Ok(index);
        }
        let done = self.state().segments.get(&sequence).filter(|own| !own.live).cloned();
        let length = contents.len()?;
        let kept = done.as_ref().and_then(|own| kept_index::read(&own.path(&self.dir), length));
        let (index, known) = match kept {
            Some(index) => (Arc::new(index), true),
            None => (Arc::new(looked_up(contents)?), false),
        };
        // Somebody may have gone on with it meanwhile.
        let same = |own: &&mut Segment| !own.live && own.size == length;
        let still = self.state().segments.get_mut(&sequence).filter(same).map(|own| {
            own.index = Some(Arc::clone(&index));
            own.clone()
        });
        if let Some(segment) = still
            && !known
        {
            self.keep_index(&segment, &index);
        }
        Ok(index)
    }

    /// Keeps `index` beside `segment`, which is done with, where that is worth it.
    pub(super) fn keep_index(&self, segment: &Segment, index: &Index) {
        if segment.packed || segment.size < kept_index::LEAST {
            return;
        }
        if let Err(error) = kept_index::write(&segment.path(&self.dir), segment.size, index) {
            tracing::debug!(%error, segment = segment.sequence, "an index is not kept");
        }
    }

    fn packable(&self) -> Vec<Segment> {
        let state = self.state();
        let mut all: Vec<_> = state.segments.values().collect();
        all.pop();
        all.retain(|segment| !segment.live && !segment.packed && segment.size >= WORTH_PACKING);
        all.into_iter().cloned().collect()
    }

    /// Packs `segment`, whose file is `plain`; false when that gains nothing.
    fn pack_one(&self, segment: &Segment, plain: File) -> io::Result<bool> {
        let length = plain.metadata()?.len();
        // On a disk that fills, what is being written has the space.
        if sys::available(&self.dir)? < length.saturating_mul(2) {
            return Ok(false);
        }
        let mut temporary = segment.path(&self.dir).into_os_string();
        temporary.push(durable::TEMPORARY);
        let temporary = PathBuf::from(temporary);
        let written = self.write_packed(segment, plain, &temporary);
        let disk = written.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        let packed = Segment { size: length, disk, packed: true, index: None, ..segment.clone() };
        let unchanged = |own: &Segment| own.tag == segment.tag && !own.live && !own.packed;
        let unchanged = self.state().segments.get(&segment.sequence).is_some_and(unchanged);
        if !unchanged || disk >= length {
            return fs::remove_file(temporary).map(|()| false);
        }
        durable::rename(&temporary, &packed.path(&self.dir))?;
        let needless = self.exchange(segment, packed);
        kept_index::remove(&needless)?;
        missing_is_fine(fs::remove_file(needless))?;
        Ok(true)
    }

    /// Writes a packed `segment` to `path`, whole and on the disk; tells its size.
    fn write_packed(&self, segment: &Segment, plain: File, path: &Path) -> io::Result<u64> {
        let (length, modified) = (plain.metadata()?.len(), plain.metadata()?.modified()?);
        let contents = Contents::Plain(plain);
        let index = self.index_of(segment.sequence, &contents)?;
        let mut new = OpenOptions::new();
        let file = new.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut out = BufWriter::new(&file);
        pack(contents.file(), length, &index, &mut out)?;
        out.flush()?;
        drop(out);
        // Retention goes by when it was last written to.
        file.set_modified(modified)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }

    /// Puts `packed` in the place of `plain`, unless that has gone or is being written to again;
    /// tells which file is of no use any more.
    fn exchange(&self, plain: &Segment, packed: Segment) -> PathBuf {
        let mut state = self.state();
        match state.segments.get_mut(&plain.sequence) {
            Some(own) if own.tag == plain.tag && !own.live => {
                *own = packed;
                plain.path(&self.dir)
            }
            _ => packed.path(&self.dir),
        }
    }
}

fn looked_up(contents: &Contents) -> io::Result<Index> {
    let end = contents.len()?;
    let (mut scan, mut index) = (Scan::default(), Index::default());
    while let Step::Frame(frame) = scan.step(contents, end)? {
        index.note(frame.offset, scan.body(contents, frame, end)?);
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::super::{Position, Reader};
    use super::*;
    use crate::frame::testing::{frames, line};
    use crate::history::{Chunk, History, Query};
    use std::time::Duration;

    const LINES: i64 = 3000;

    /// Four segments of so many lines; the clock is put back within the second.
    fn journal(dir: &Path) -> Arc<Journal> {
        for sequence in 0..4 {
            let time = |n: i64| if sequence == 1 && n > 2000 { n - 2000 } else { n };
            let lines =
                (0..LINES).map(|n| line(sequence * LINES + time(n), format!("{sequence} {n}")));
            let bytes = frames(&lines.collect::<Vec<_>>());
            durable::write(&dir.join(format!("{:020}.t", sequence + 1)), &bytes).unwrap();
        }
        Arc::new(Journal::open(dir))
    }

    fn history(journal: &Arc<Journal>, query: Query) -> Vec<u8> {
        let mut history = History::open(Arc::clone(journal), query).unwrap();
        history.seek().unwrap();
        let mut all = Vec::new();
        while let Chunk::Frames(frames) = history.read().unwrap() {
            all.extend(frames);
        }
        all
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        // The account of what is gone is no segment.
        names.retain(|name| name.contains('.'));
        names.sort();
        names
    }

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_mins(1)
    }

    #[test]
    fn a_packed_log_reads_as_before() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (plain, packed) = (journal(other.path()), journal(dir.path()));
        assert_eq!(packed.pack(SystemTime::UNIX_EPOCH).unwrap(), 0, "all are too new");
        // Who reads goes on where it is.
        let mut reader = Reader::open(&packed, &Position::default());
        let mut read = reader.read(50_000).unwrap().entries;
        assert_eq!(packed.pack(later()).unwrap(), 3, "all but the last");
        assert!(packed.inventory().bytes() * 2 < plain.inventory().bytes());
        let position = reader.position();
        assert_eq!(packed.unread(&position), plain.unread(&position));
        read.extend(reader.read(u64::MAX).unwrap().entries);
        let expected = Reader::open(&plain, &Position::default()).read(u64::MAX).unwrap().entries;
        assert!(read == expected);
        let mut resumed = Reader::open(&packed, &position);
        assert_eq!(resumed.read(u64::MAX).unwrap().entries, expected[read_at(&position, &plain)..]);
        for since in [None, Some(0), Some(4000), Some(5000), Some(5001), Some(8999), Some(20_000)] {
            for tail in [None, Some(0), Some(1), Some(3500), Some(100_000)] {
                let query = Query { since, tail, ..Query::default() };
                assert!(history(&packed, query) == history(&plain, query), "{query:?}");
            }
        }
        // And so it does in the next life of the process.
        let again = Arc::new(Journal::open(dir.path()));
        assert!(history(&again, Query::default()) == history(&plain, Query::default()));
        assert_eq!(again.inventory(), packed.inventory());
    }

    /// How many entries are before `position`.
    fn read_at(position: &Position, journal: &Arc<Journal>) -> usize {
        let all = Reader::open(journal, &Position::default()).read(u64::MAX).unwrap().entries;
        let rest = Reader::open(journal, position).read(u64::MAX).unwrap().entries;
        all.len() - rest.len()
    }

    /// A time before the clock was put back is found although later ones are older.
    #[test]
    fn a_clock_that_is_put_back_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path());
        let since = Some(LINES + 1999);
        let before = history(&journal, Query { since, ..Query::default() });
        let first = crate::frame::testing::entries(&before)[0].clone();
        assert_eq!((first.time_nano, &*first.line), (LINES + 1999, &b"1 1999\n"[..]));
        assert_eq!(journal.pack(later()).unwrap(), 3);
        assert!(history(&journal, Query { since, ..Query::default() }) == before);
    }

    #[test]
    fn whatever_a_kill_leaves_the_segment_is_there_once() {
        let dir = tempfile::tempdir().unwrap();
        let plain = journal(dir.path());
        let whole = history(&plain, Query::default());
        let first = dir.path().join(format!("{:020}.t", 1));
        let bytes = fs::read(&first).unwrap();
        plain.pack(later()).unwrap();
        // Killed before the plain one went, and in the middle of writing another.
        durable::write(&first, &bytes).unwrap();
        durable::write(&dir.path().join(format!("{:020}.t", 4)), &bytes[..0]).unwrap();
        fs::File::create(dir.path().join(format!("{:020}.t.tmp", 4))).unwrap();
        let again = Arc::new(Journal::open(dir.path()));
        assert!(!first.exists());
        assert!(whole.starts_with(&history(&again, Query::default())));
        again.remove_all().unwrap();
        assert!(!dir.path().exists());
    }

    #[test]
    fn what_retention_removes_or_a_stream_takes_over_is_not_packed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path());
        let segment = journal.packable()[0].clone();
        let plain = File::open(segment.path(dir.path())).unwrap();
        assert!(journal.remove_oldest().unwrap());
        assert!(!journal.pack_one(&segment, plain).unwrap());
        assert_eq!(names(dir.path()).len(), 3);
        let packed = Segment { packed: true, size: 1, ..segment.clone() };
        assert_eq!(journal.exchange(&segment, packed.clone()), packed.path(dir.path()));
        // Of lines that are alike little is left, of others all.
        let noise: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ n << 7).to_le_bytes())
            .collect();
        let lines: Vec<_> = noise.chunks(16_000).map(|chunk| line(0, chunk.to_vec())).collect();
        durable::write(&dir.path().join(format!("{:020}.t", 9)), &frames(&lines)).unwrap();
        durable::write(&dir.path().join(format!("{:020}.t", 10)), b"").unwrap();
        let again = Journal::open(dir.path());
        let packed = again.pack(later()).unwrap();
        assert!((3..=4).contains(&packed));
    }
}
