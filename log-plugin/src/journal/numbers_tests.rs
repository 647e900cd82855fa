//! Numbers of segments: given out once, in their order, whatever cannot be read and whoever begins at once.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use plugin_sdk::durable;
use tempfile::TempDir;

use super::*;
use crate::frame::testing::{frames, line};
use crate::options::LogSpec;

fn segment(dir: &Path, sequence: u64, tag: &str) {
    let bytes = frames([&line(7, format!("{sequence} of {tag}"))]);
    durable::create_dir(dir, 0o700).unwrap();
    durable::write(&dir.join(format!("{sequence:020}.{tag}")), &bytes).unwrap();
}

fn stream(name: &str) -> StreamId {
    StreamId::of_fifo(Path::new(name)).unwrap()
}

fn limits() -> Limits {
    Limits::from(&LogSpec::default())
}

fn texts(reader: &mut Reader) -> Vec<String> {
    let batch = reader.read(u64::MAX).unwrap();
    batch.entries.into_iter().map(|entry| String::from_utf8(entry.line).unwrap()).collect()
}

fn held(dir: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    links.filter(|link| link.starts_with(dir)).count()
}

/// A sink that has read of the last number is past all before it.
#[test]
fn a_stream_goes_on_in_no_segment_before_one_that_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    segment(dir.path(), 1, "old");
    segment(dir.path(), 2, "new");
    let journal = Arc::new(Journal::open(dir.path()));
    journal.attach(&stream("old"));
    let mut reader = Reader::open(&journal, &Position::default());
    assert_eq!(texts(&mut reader).len(), 2);
    assert!(journal.free_oldest().unwrap());
    journal.detach(&stream("old"));
    assert_eq!(texts(&mut reader).len(), 0);
    journal.attach(&stream("next"));
    assert_eq!(journal.begin(&stream("next"), limits()).unwrap().sequence, 3);
}

/// Or a sink that has read of them would take what is new for what it knows.
#[test]
fn numbers_of_removed_segments_are_not_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    segment(dir.path(), 1, "a");
    segment(dir.path(), 2, "a");
    let journal = Journal::open(dir.path());
    assert!(journal.remove_oldest().unwrap() && journal.remove_oldest().unwrap());
    drop(journal);
    let journal = Journal::open(dir.path());
    journal.attach(&stream("b"));
    assert_eq!(journal.begin(&stream("b"), limits()).unwrap().sequence, 3);
}

/// As with no descriptor left.
#[test]
fn a_journal_that_cannot_be_listed_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (place, away) = (dir.path().join("c"), dir.path().join("away"));
    segment(&away, 1, "a");
    segment(&away, 2, "a");
    fs::File::create(&place).unwrap();
    let journal = Arc::new(Journal::open(&place));
    assert!(journal.list().is_err() && journal.remove_all().is_err());
    journal.attach(&stream("b"));
    assert!(journal.begin(&stream("b"), limits()).is_err());
    fs::remove_file(&place).unwrap();
    durable::rename(&away, &place).unwrap();
    assert_eq!(journal.begin(&stream("b"), limits()).unwrap().sequence, 2);
    let position = Position { newest: 1, ..Position::default() };
    assert_eq!(texts(&mut Reader::open(&journal, &position)), ["2 of a"]);
}

/// What a program without that care has left.
#[test]
fn two_segments_of_one_number_are_both_kept() {
    let dir = tempfile::tempdir().unwrap();
    for (sequence, tag) in [(1, "a"), (2, "a"), (3, "a"), (1, "b"), (2, "b")] {
        segment(dir.path(), sequence, tag);
    }
    for _ in 0..2 {
        let journal = Arc::new(Journal::open(dir.path()));
        let mut all = texts(&mut Reader::open(&journal, &Position::default()));
        assert_eq!(all.len(), 5, "{all:?}");
        all.sort();
        assert_eq!(all, ["1 of a", "1 of b", "2 of a", "2 of b", "3 of a"]);
    }
}

/// Streams of one container that begin at once: a reader sees the segments in their order.
#[test]
fn segments_appear_in_the_order_of_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::open(dir.path()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let begin = |name: &'static str| {
            let journal = Arc::clone(&journal);
            scope.spawn(move || {
                journal.attach(&stream(name));
                for _ in 0..300 {
                    let begun = journal.begin(&stream(name), limits()).unwrap();
                    journal.grown(&stream(name), begun.sequence, 1);
                }
            })
        };
        let watch = scope.spawn(|| {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                seen.extend(journal.segments_after(seen.last().copied().unwrap_or(0)));
            }
            seen
        });
        for begun in ["one", "two", "three"].map(begin) {
            begun.join().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        done.store(true, Ordering::Relaxed);
        assert!(watch.join().unwrap().into_iter().eq(1..=900));
    });
}

/// A container's tiny `max-size` must not cost the others their descriptors.
#[test]
fn few_removed_segments_are_held_and_all_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    for sequence in 1..=300 {
        segment(dir.path(), sequence, "a");
    }
    let journal = Arc::new(Journal::open(dir.path()));
    let mut reader = Reader::open(&journal, &Position::default());
    for _ in 0..299 {
        assert!(journal.remove_oldest().unwrap());
    }
    assert!(held(dir.path()) < 50, "{}", held(dir.path()));
    let (read, dropped) = (texts(&mut reader).len() as u64, reader.take_dropped());
    assert_eq!((read + dropped.lines, dropped.uncounted), (300, false));
    assert!(read > 10);
}

/// A container that begins again and again while the disk takes nothing.
#[test]
fn streams_that_ended_on_a_full_disk_leave_the_account_its_room() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("journal");
    let in_the_way = |sequence: u64, name: &str| {
        let path = place.join(format!("{sequence:020}.{name}"));
        std::os::unix::fs::symlink("/dev/full", path).unwrap();
    };
    durable::create_dir(&place, 0o700).unwrap();
    for number in 0..60_u64 {
        let name = format!("fifo-of-{number:08}");
        let path = dir.path().join(&name);
        let (mut pipe, id) = (crate::sys::testing::fifo(&path), stream(&name));
        in_the_way(number + 1, &name);
        let journal = Arc::new(Journal::open(&place));
        journal.attach(&id);
        let fifo: OwnedFd = crate::sys::open_fifo(&path).unwrap();
        std::io::Write::write_all(&mut pipe, &frames([&line(1, "x")])).unwrap();
        let mut writer = Writer::new(Arc::clone(&journal), id.clone(), limits());
        assert!(matches!(writer.fill(&fifo).unwrap(), Filled::Bytes(_)));
        writer.finish().unwrap();
        journal.detach(&id);
        assert_eq!(Journal::open(&place).lost().messages, number + 1);
    }
}
