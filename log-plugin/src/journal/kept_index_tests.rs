//! What is kept of indexes, and when it goes.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plugin_sdk::durable;

use super::super::{Journal, Limits};
use super::*;
use crate::frame::testing::{frames, line};
use crate::names::StreamId;
use crate::options::SyncPolicy;

const LIMITS: Limits = Limits {
    segment: 64 << 20,
    full: 64 << 20,
    total: 256 << 20,
    turn: None,
    sync: SyncPolicy::None,
};

/// A journal of so many segments that are worth an index, each of so many frames.
fn journal(dir: &Path, segments: u64) -> Journal {
    let lines: Vec<_> = (0..FRAMES).map(|n| line(n, vec![b'x'; 10_000])).collect();
    for sequence in 1..=segments {
        durable::write(&segment(dir, sequence), &frames(&lines)).unwrap();
    }
    Journal::open(dir)
}

const FRAMES: i64 = 120;

fn segment(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:020}.t"))
}

fn looked_up(journal: &Journal, sequence: u64) -> Arc<Index> {
    let contents = journal.open_segment(sequence).unwrap().unwrap();
    journal.index_of(sequence, &contents).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_segment_is_walked_once_over_all_lives_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = looked_up(&journal(dir.path(), 1), 1);
    assert_eq!(first.frames(), 120);
    // A walk would now find less.
    let file = OpenOptions::new().write(true).open(segment(dir.path(), 1)).unwrap();
    file.write_all_at(&vec![0; 600_000], 100_000).unwrap();
    let journal = Journal::open(dir.path());
    assert_eq!(looked_up(&journal, 1), first);
    // What is not of this length, or damaged, is not believed.
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let journal = Journal::open(dir.path());
    assert!(looked_up(&journal, 1).frames() < 100);
    let kept = beside(&segment(dir.path(), 1));
    let mut bytes = fs::read(&kept).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    durable::write(&kept, &bytes).unwrap();
    assert_eq!(read(&segment(dir.path(), 1), file.metadata().unwrap().len()), None);
    let journal = Journal::open(dir.path());
    assert!(looked_up(&journal, 1).frames() < 100);
    assert!(read(&segment(dir.path(), 1), file.metadata().unwrap().len()).is_some(), "kept anew");
}

#[test]
fn what_a_stream_leaves_has_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let stream = StreamId::of_fifo(Path::new("s")).unwrap();
    journal.attach(&stream);
    let mut opened = journal.begin(&stream, LIMITS).unwrap();
    let lines: Vec<_> = (0..FRAMES).map(|n| line(n, vec![b'x'; 10_000])).collect();
    let bytes = frames(&lines);
    opened.file.write_all_at(&bytes, 0).unwrap();
    opened.size = bytes.len() as u64;
    opened.walk().unwrap();
    journal.grown(&stream, 1, opened.size);
    journal.sealed(1, opened.index);
    journal.detach(&stream);
    let index = read(&dir.path().join(format!("{:020}.s", 1)), bytes.len() as u64).unwrap();
    assert_eq!(index.frames(), 120);
    // The next stream goes on with the segment, so that it is another's.
    let next = StreamId::of_fifo(Path::new("n")).unwrap();
    journal.attach(&next);
    assert_eq!(journal.begin(&next, LIMITS).unwrap().sequence, 1);
    assert!(!names(dir.path()).iter().any(|name| name.ends_with(ENDING)));
}

#[test]
fn an_index_goes_with_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), 5);
    for sequence in 1..=4 {
        looked_up(&journal, sequence);
    }
    let kept = || names(dir.path()).iter().filter(|name| name.ends_with(ENDING)).count();
    assert_eq!(kept(), 4);
    assert!(journal.remove_oldest().unwrap() && journal.free_oldest().unwrap());
    assert_eq!(kept(), 2);
    let later = SystemTime::now() + Duration::from_mins(1);
    assert_eq!(journal.pack(later).unwrap(), 2);
    assert_eq!(kept(), 0, "a packed segment has its own");
    looked_up(&journal, 5);
    // Of a segment that went without it.
    durable::write(&beside(&segment(dir.path(), 2)), b"orphan").unwrap();
    let journal = Journal::open(dir.path());
    assert_eq!(kept(), 1);
    durable::write(&beside(&segment(dir.path(), 2)), b"orphan").unwrap();
    journal.remove_all().unwrap();
    assert!(!dir.path().exists());
}

#[test]
fn of_what_is_small_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    durable::write(&segment(dir.path(), 1), &frames([&line(1, "x")])).unwrap();
    assert_eq!(looked_up(&Journal::open(dir.path()), 1).frames(), 1);
    assert_eq!(names(dir.path()).len(), 1);
}
