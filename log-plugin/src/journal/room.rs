//! Removing segments: by retention, which takes nothing from who is about to read them, and for a full
//! disk, which needs their space at once.
//!
//! Invariant: what [`Journal::free_oldest`] removed is held open by no queue, so that it gives space back and
//! the next segment does not go for nothing. A sink that had not read it counts what it can and says so.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::Journal;
use super::gone::Cause;
use super::held::Held;
use super::segment::Segment;

impl Journal {
    /// Removes the oldest segment that nobody writes to; `false` when there is none.
    pub(super) fn remove_oldest(&self) -> io::Result<bool> {
        match self.oldest() {
            Some(oldest) => self.remove(oldest).map(|()| true),
            None => Ok(false),
        }
    }

    /// Removes segments that nobody writes to and that nobody has written to since `time`, the
    /// oldest first; tells how many.
    pub fn remove_older(&self, time: SystemTime) -> io::Result<usize> {
        let mut count = 0;
        while let Some(oldest) = self.oldest() {
            let Some(segment) = self.state().segments.get(&oldest).cloned() else { break };
            let modified = fs::metadata(segment.path(&self.dir)).and_then(|of| of.modified())?;
            if modified >= time {
                break;
            }
            self.remove(oldest)?;
            count += 1;
        }
        Ok(count)
    }

    /// Gives space back to a full disk: what is only held for those who read, else the oldest
    /// segment that nobody writes to; `false` when there is nothing.
    pub(super) fn free_oldest(&self) -> io::Result<bool> {
        if self.release_held() {
            return Ok(true);
        }
        match self.oldest() {
            Some(oldest) => self.free(oldest).map(|()| true),
            None => Ok(false),
        }
    }

    /// Removes a segment and holds it for nobody.
    pub(super) fn free(&self, sequence: u64) -> io::Result<()> {
        let Some(segment) = self.state().segments.get(&sequence).cloned() else { return Ok(()) };
        let lines = self.note_removal(sequence, Cause::FullDisk);
        segment.delete(&self.dir)?;
        let mut state = self.state();
        let now = state.segments.remove(&sequence);
        let readers = state.readers.values().filter(|queue| queue.wants(sequence));
        readers.for_each(|queue| drop(queue.push(Held { sequence, file: None, lines })));
        drop(state);
        self.delete_packed(&segment, now)
    }

    /// Removes a segment. Who has it open goes on reading it, and a follower that has not come to
    /// it yet, but soon will, finds it still open here.
    fn remove(&self, sequence: u64) -> io::Result<()> {
        let Some(segment) = self.state().segments.get(&sequence).cloned() else { return Ok(()) };
        let wanted = {
            let state = self.state();
            let read = || state.readers.values().any(|queue| queue.wants(sequence));
            state.removed.is_wanted(sequence) || read()
        };
        let file = wanted.then(|| segment.open(&self.dir).ok()).flatten().map(Arc::new);
        let lines = self.note_removal(sequence, Cause::Retention);
        segment.delete(&self.dir)?;
        let mut state = self.state();
        let now = state.segments.remove(&sequence);
        let let_go = file.map(|file| {
            let readers = state.readers.values().filter(|queue| queue.wants(sequence));
            let held = || Held { sequence, file: Some(Arc::clone(&file)), lines };
            let too_many: Vec<_> = readers.filter_map(|queue| queue.push(held())).collect();
            (too_many, state.removed.hold(sequence, segment.disk, file))
        });
        drop(state);
        drop(let_go);
        self.delete_packed(&segment, now)
    }

    /// Deletes a segment under the name that it has `now`, when it was packed after `before`: it would
    /// come back at the next start.
    fn delete_packed(&self, before: &Segment, now: Option<Segment>) -> io::Result<()> {
        match now {
            Some(now) if now.packed && !before.packed => now.delete(&self.dir),
            _ => Ok(()),
        }
    }

    fn oldest(&self) -> Option<u64> {
        let state = self.state();
        state.segments.values().find(|segment| !segment.live).map(|oldest| oldest.sequence)
    }

    /// Closes what is held open for those who have yet to read it; whether there was any.
    fn release_held(&self) -> bool {
        let (queued, followed) = {
            let mut state = self.state();
            let queued: Vec<_> = state.readers.values().flat_map(|queue| queue.release()).collect();
            (queued, state.removed.release())
        };
        // Closed here, outside the lock.
        let any = !queued.is_empty() || followed.any();
        drop((queued, followed));
        any
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dropped, Follower, Position, Reader};
    use super::*;
    use crate::frame::testing::{frames, line};
    use plugin_sdk::durable;
    use std::path::Path;

    /// A journal of so many segments of a line each.
    fn journal(dir: &Path, segments: u64) -> Arc<Journal> {
        for sequence in 1..=segments {
            let bytes = frames([&line(i64::try_from(sequence).unwrap(), "x")]);
            durable::write(&dir.join(format!("{sequence:020}.t")), &bytes).unwrap();
        }
        Arc::new(Journal::open(dir))
    }

    /// How many removed files of `dir` this process has open.
    fn held(dir: &Path) -> usize {
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = open.filter_map(|fd| fs::read_link(fd.path()).ok());
        let own = links.filter(|link| link.starts_with(dir));
        own.filter(|link| link.to_string_lossy().ends_with(" (deleted)")).count()
    }

    #[test]
    fn a_full_disk_gets_space_back_from_each_segment_that_goes() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path(), 4);
        let mut reader = Reader::open(&journal, &Position::default());
        let _follower = Follower::of(&journal);
        assert!(journal.remove_oldest().unwrap());
        assert_eq!(held(dir.path()), 1, "retention holds it for the reader");
        // That one goes before any other.
        assert!(journal.free_oldest().unwrap());
        assert_eq!((journal.inventory().segments.len(), held(dir.path())), (3, 0));
        assert!(journal.free_oldest().unwrap());
        assert_eq!((journal.inventory().segments.len(), held(dir.path())), (2, 0));
        assert_eq!(reader.read(u64::MAX).unwrap().entries.len(), 2);
        assert_eq!(reader.take_dropped(), Dropped { lines: 2, ..Dropped::default() });
    }

    #[test]
    fn what_makes_room_on_a_full_disk_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path(), 5);
        let removed = |journal: &Journal| journal.lost().removed;
        assert!(journal.remove_oldest().unwrap());
        assert_eq!(removed(&journal), 0, "that was retention");
        assert!(journal.free_oldest().unwrap());
        assert_eq!(removed(&journal), 1);
        // Killed after it was noted and before it went.
        journal.note_removal(3, Cause::FullDisk);
        let again = Journal::open(dir.path());
        assert_eq!(removed(&again), 1);
        assert!(again.free_oldest().unwrap());
        assert_eq!(removed(&again), 2);
        // So it was, but retention comes first when the disk has room again.
        again.note_removal(4, Cause::FullDisk);
        let again = Journal::open(dir.path());
        assert!(again.remove_oldest().unwrap());
        assert_eq!(removed(&again), 2);
        assert_eq!(removed(&Journal::open(dir.path())), 2);
    }

    #[test]
    fn a_reader_that_cannot_go_on_counts_what_it_has_open_and_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = frames([&line(1, "x"), &line(2, "y"), &line(3, "z")]);
        durable::write(&dir.path().join(format!("{:020}.t", 1)), &bytes).unwrap();
        let journal = Arc::new(Journal::open(dir.path()));
        let mut reader = Reader::open(&journal, &Position::default());
        assert_eq!(reader.read(1).unwrap().entries.len(), 1);
        assert!(journal.free_oldest().unwrap());
        assert_eq!(held(dir.path()), 1);
        reader.let_go().unwrap();
        assert_eq!(held(dir.path()), 0);
        let dropped = reader.take_dropped();
        assert_eq!((dropped.lines, dropped.uncounted), (2, false));
        assert!(!journal.free_oldest().unwrap(), "nothing is left");
    }

    #[test]
    fn nothing_is_held_for_a_reader_that_is_past_it() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path(), 3);
        let mut reader = Reader::open(&journal, &Position::default());
        assert_eq!(reader.read(u64::MAX).unwrap().entries.len(), 3);
        assert!(journal.remove_oldest().unwrap() && journal.remove_oldest().unwrap());
        assert_eq!(held(dir.path()), 0);
        assert!(reader.read(u64::MAX).unwrap().entries.is_empty());
        assert!(!reader.take_dropped().any());
        // So it is for one that goes on where that one was.
        let position = reader.position();
        drop(reader);
        let _reader = Reader::open(&journal, &position);
        assert!(journal.remove_oldest().unwrap());
        assert_eq!(held(dir.path()), usize::from(position.open.contains_key(&3)));
    }
}
