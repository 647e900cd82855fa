//! What becomes of lines that no disk takes.

use super::*;
use crate::frame::testing::{frames, line};
use crate::options::LogSpec;
use crate::sys::testing;
use plugin_sdk::durable;
use std::io::Write;
use tempfile::TempDir;

struct Stream {
    dir: TempDir,
    journal: Arc<Journal>,
    pipe: std::fs::File,
    fifo: OwnedFd,
    id: StreamId,
}

impl Stream {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let journal = Arc::new(Journal::open(&dir.path().join("journal")));
        let (pipe, fifo) = (testing::fifo(&path), sys::open_fifo(&path).unwrap());
        Self { dir, journal, pipe, fifo, id: StreamId::of_fifo(&path).unwrap() }
    }

    /// What an earlier life of the process has stored of it.
    fn store(&mut self, bytes: &[u8]) {
        let name = format!("{:020}.{}", 1, self.id.tag());
        durable::create_dir(&self.dir.path().join("journal"), 0o700).unwrap();
        durable::write(&self.dir.path().join("journal").join(name), bytes).unwrap();
        self.restart();
    }

    fn restart(&mut self) {
        self.journal = Arc::new(Journal::open(&self.dir.path().join("journal")));
        self.journal.attach(&self.id);
    }

    fn writer(&self) -> Writer {
        let limits = Limits::from(&LogSpec::default());
        Writer::new(Arc::clone(&self.journal), self.id.clone(), limits)
    }

    /// One that the disk has just refused.
    fn refused(&self) -> Writer {
        let mut writer = self.writer();
        writer.resume().unwrap();
        let retry = Instant::now() + Duration::from_mins(1);
        Writer { refused: Some(Refused { retry, lost: Lost::default() }), ..writer }
    }

    fn stored(&self) -> Vec<u8> {
        let file = self.journal.open_segment(1).unwrap().unwrap();
        let mut bytes = Vec::new();
        file.file().read_to_end(&mut bytes).unwrap();
        bytes
    }
}

fn each(numbers: std::ops::RangeInclusive<i64>) -> Vec<u8> {
    let lines: Vec<_> = numbers.map(|number| line(number, "x".repeat(100))).collect();
    frames(&lines)
}

#[test]
fn what_no_disk_takes_is_counted_for_ever() {
    let mut stream = Stream::new();
    stream.store(&each(1..=2));
    let (all, half) = (each(3..=5), each(3..=4).len() + 30);
    stream.pipe.write_all(&all[..half]).unwrap();
    let mut writer = stream.refused();
    let whole = each(3..=4).len();
    assert_eq!(writer.fill(&stream.fifo).unwrap(), Filled::Bytes(whole));
    // The rest of a frame is waited for.
    assert_eq!(writer.fill(&stream.fifo).unwrap(), Filled::Idle);
    let lost = Lost { messages: 2, bytes: whole as u64, ..Lost::default() };
    assert_eq!(stream.journal.lost(), lost);
    drop(writer);
    stream.restart();
    assert_eq!(stream.journal.lost(), lost);
    // There is room again.
    stream.pipe.write_all(&all[half..]).unwrap();
    let mut writer = stream.writer();
    assert!(matches!(writer.fill(&stream.fifo).unwrap(), Filled::Bytes(_)));
    assert_eq!(stream.stored(), [each(1..=2), each(5..=5)].concat());
    assert_eq!(stream.journal.lost(), lost);
    assert_eq!(stream.journal.gone().taking(stream.id.tag()), None);
    writer.finish().unwrap();
    stream.journal.detach(&stream.id);
    stream.journal.remove_all().unwrap();
    assert_eq!(stream.journal.lost(), Lost::default());
}

#[test]
fn of_a_frame_whose_rest_is_lost_nothing_stays() {
    let mut stream = Stream::new();
    let (all, half) = (each(1..=3), each(1..=1).len() + 50);
    stream.store(&all[..half]);
    stream.pipe.write_all(&all[half..]).unwrap();
    let mut writer = stream.refused();
    assert_eq!(writer.fill(&stream.fifo).unwrap(), Filled::Bytes(all.len() - half));
    assert_eq!(writer.fill(&stream.fifo).unwrap(), Filled::Idle);
    assert_eq!((stream.journal.lost().messages, stream.stored()), (2, each(1..=1)));
}

/// Killed between counting and taking, and between taking and storing on.
#[test]
fn nothing_is_counted_or_taken_twice() {
    for taken in [false, true] {
        let mut stream = Stream::new();
        let (all, half) = (each(1..=3), each(1..=1).len() + 50);
        stream.store(&all[..half]);
        let taking = Taking {
            length: all.len() - half,
            checksum: crc32c::crc32c(&all[half..]),
            cut: Some(each(1..=1).len() as u64),
        };
        let lost = Lost { messages: 2, bytes: 200, ..Lost::default() };
        stream.journal.gone().note_taking(stream.id.tag(), taking, lost);
        if !taken {
            stream.pipe.write_all(&all[half..]).unwrap();
        }
        stream.pipe.write_all(&each(4..=5)).unwrap();
        stream.restart();
        let mut writer = stream.writer();
        while let Filled::Bytes(_) = writer.fill(&stream.fifo).unwrap() {}
        assert_eq!(stream.stored(), [each(1..=1), each(4..=5)].concat(), "{taken}");
        assert_eq!(stream.journal.lost(), lost);
    }
}

/// The place of the segment is taken by what no pipe can be spliced into.
#[test]
fn a_writer_whose_disk_refuses_goes_on_without_it() {
    let mut stream = Stream::new();
    let journal = stream.dir.path().join("journal");
    durable::create_dir(&journal, 0o700).unwrap();
    let segment = journal.join(format!("{:020}.{}", 1, stream.id.tag()));
    std::os::unix::fs::symlink("/dev/full", &segment).unwrap();
    stream.restart();
    stream.pipe.write_all(&each(1..=7)).unwrap();
    let mut writer = stream.writer();
    assert!(matches!(writer.fill(&stream.fifo).unwrap(), Filled::Bytes(_)));
    assert_eq!(stream.journal.lost().messages, 7);
}

#[test]
fn a_frame_larger_than_what_is_seen_of_the_pipe_is_lost_as_one() {
    let mut stream = Stream::new();
    sys::set_pipe_size(&stream.fifo, 1 << 20).unwrap();
    let large = frames([&line(1, "x".repeat(300_000))]);
    stream.pipe.write_all(&large).unwrap();
    stream.pipe.write_all(&each(2..=3)).unwrap();
    let mut writer = stream.refused();
    while let Filled::Bytes(_) = writer.fill(&stream.fifo).unwrap() {}
    let bytes = (large.len() + each(2..=3).len()) as u64;
    assert_eq!(stream.journal.lost(), Lost { messages: 3, bytes, ..Lost::default() });
}
