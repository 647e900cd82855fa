//! The journal against a model: a list of lines.
//!
//! Lines go through a real FIFO in pieces of any size, the writer is killed or stopped anywhere,
//! segments are small. What is read back must be the model's end, as much of it as retention
//! promises, and a follower must have seen every line once.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use crate::frame::testing::{entries, frames, line};
use crate::frame::{Probe, probe};
use crate::history::{Chunk, History, Query};
use crate::journal::{Dropped, Filled, Journal, Limits, Position, Reader, Writer};
use crate::names::StreamId;
use crate::options::LogSpec;
use crate::sys;

#[derive(Debug, Clone)]
enum Action {
    /// dockerd writes so many lines of such a length.
    Lines(u8, u16),
    /// So many bytes reach the pipe.
    Write(u16),
    /// The plugin is killed and started.
    Kill,
    /// StopLogging, and the container starts again.
    Restart,
    /// A sink takes a batch of so many bytes.
    Take(u16),
    /// A sink that cannot deliver counts what was removed.
    LetGo,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1..20_u8, 0..600_u16).prop_map(|(count, length)| Action::Lines(count, length)),
        8 => (1..4000_u16).prop_map(Action::Write),
        1 => Just(Action::Kill),
        1 => Just(Action::Restart),
        6 => (1..3000_u16).prop_map(Action::Take),
        1 => Just(Action::LetGo),
    ]
}

struct World {
    dir: TempDir,
    limits: Limits,
    journal: Arc<Journal>,
    writer: Option<Writer>,
    fifo: File,
    read_end: OwnedFd,
    stream: StreamId,
    streams: u32,
    follower: History,
    followed: Vec<i64>,
    reader: Reader,
    taken: Vec<i64>,
    dropped: Dropped,
    /// Bytes that dockerd has not written yet, a frame each.
    unwritten: VecDeque<(i64, Vec<u8>)>,
    /// How much of the first of them is written.
    begun: usize,
    /// Lines written completely, by number and size.
    written: Vec<(i64, usize)>,
    next: i64,
}

impl World {
    fn new(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Arc::new(Journal::open(&dir.path().join("journal")));
        let (stream, fifo, read_end) = open_stream(&dir, 0);
        journal.attach(&stream);
        let writer = Some(Writer::new(Arc::clone(&journal), stream.clone(), limits));
        let follower = follow(&journal);
        let reader = Reader::open(&journal, &Position::default());
        Self {
            dir,
            limits,
            journal,
            writer,
            fifo,
            read_end,
            stream,
            streams: 0,
            follower,
            followed: Vec::new(),
            reader,
            taken: Vec::new(),
            dropped: Dropped::default(),
            unwritten: VecDeque::new(),
            begun: 0,
            written: Vec::new(),
            next: 1,
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Lines(count, length) => {
                for _ in 0..count {
                    let frame = frames([&line(self.next, vec![b'x'; length.into()])]);
                    self.unwritten.push_back((self.next, frame));
                    self.next += 1;
                }
            }
            Action::Write(bytes) => {
                self.write(bytes.into());
                self.fill();
            }
            Action::Kill => {
                // The rest of what the follower would have seen is seen by the next one.
                self.writer = None;
                let position = self.reader.position();
                self.journal = Arc::new(Journal::open(&self.dir.path().join("journal")));
                self.reader = Reader::open(&self.journal, &position);
                self.journal.attach(&self.stream);
                self.writer = Some(self.new_writer());
                self.follower = follow(&self.journal);
                self.write(1);
                self.fill();
            }
            Action::Restart => {
                self.fill();
                self.writer.take().unwrap().finish().unwrap();
                self.journal.detach(&self.stream);
                if self.begun > 0 {
                    self.unwritten.pop_front();
                    self.begun = 0;
                }
                self.streams += 1;
                (self.stream, self.fifo, self.read_end) = open_stream(&self.dir, self.streams);
                self.journal.attach(&self.stream);
                self.writer = Some(self.new_writer());
            }
            Action::Take(limit) => {
                self.take(limit.into());
            }
            Action::LetGo => {
                self.reader.let_go().unwrap();
                self.dropped.add(self.reader.take_dropped());
            }
        }
    }

    fn take(&mut self, limit: u64) -> bool {
        let batch = self.reader.read(limit).unwrap();
        self.taken.extend(batch.entries.iter().map(|entry| entry.time_nano));
        self.dropped.add(self.reader.take_dropped());
        !batch.entries.is_empty()
    }

    fn new_writer(&self) -> Writer {
        Writer::new(Arc::clone(&self.journal), self.stream.clone(), self.limits)
    }

    fn write(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let Some((number, frame)) = self.unwritten.front() else { return };
            let part = bytes.min(frame.len() - self.begun);
            self.fifo.write_all(&frame[self.begun..self.begun + part]).unwrap();
            bytes -= part;
            self.begun += part;
            if self.begun == frame.len() {
                self.written.push((*number, frame.len()));
                self.unwritten.pop_front();
                self.begun = 0;
            }
        }
    }

    fn fill(&mut self) {
        while let Filled::Bytes(_) = self.writer.as_mut().unwrap().fill(&self.read_end).unwrap() {
            while let Chunk::Frames(bytes) = self.follower.read().unwrap() {
                self.followed.extend(entries(&bytes).iter().map(|entry| entry.time_nano));
            }
        }
    }

    fn check(&mut self) {
        self.fill();
        let expected: Vec<_> = self.written.iter().map(|&(number, _)| number).collect();
        let kept = read(&self.journal);
        assert!(expected.ends_with(&kept), "{kept:?} is not the end of {expected:?}");
        let (lost, held) = self.written.split_at(expected.len() - kept.len());
        if !lost.is_empty() {
            let held: usize = held.iter().map(|(_, size)| size).sum();
            let full = self.limits.total / self.limits.full - 1;
            let promised = full * self.limits.segment;
            assert!(held as u64 >= promised, "{held} bytes are kept of {promised}");
        }
        // A follower that began with a process has seen all of what that process stored.
        let mut ever: Vec<_> = self.followed.clone();
        ever.dedup();
        ever.sort_unstable();
        ever.dedup();
        assert_eq!(ever, expected);
        assert_eq!(self.followed.len(), expected.len(), "doubled");
        self.check_files();
        self.check_sink(&expected);
    }

    /// Every line was taken once and in order, or is counted.
    fn check_sink(&mut self, expected: &[i64]) {
        while self.take(1000) {}
        let missing = expected.len() - self.taken.len();
        let mut ordered = self.taken.clone();
        ordered.sort_unstable();
        ordered.dedup();
        assert_eq!(self.taken, ordered);
        assert!(self.taken.iter().all(|number| expected.contains(number)));
        assert_eq!(self.dropped, Dropped { lines: missing as u64, ..Dropped::default() });
    }

    fn check_files(&self) {
        let Ok(dir) = std::fs::read_dir(self.dir.path().join("journal")) else { return };
        let mut total = 0;
        let paths = dir.map(|entry| entry.unwrap().path());
        for path in paths.filter(|path| path.extension().is_some()) {
            let bytes = std::fs::read(path).unwrap();
            assert!(matches!(probe(&bytes), Probe::Frame(_) | Probe::Short(_)));
            assert!((bytes.len() as u64) < self.limits.segment + 1000);
            total += bytes.len() as u64;
        }
        let files = self.limits.total / self.limits.full;
        assert!(total <= self.limits.total + 1000 * files, "{total}");
    }
}

fn open_stream(dir: &TempDir, number: u32) -> (StreamId, File, OwnedFd) {
    let path: PathBuf = dir.path().join(format!("fifo{number}"));
    let fifo = sys::testing::fifo(&path);
    (StreamId::of_fifo(&path).unwrap(), fifo, sys::open_fifo(&path).unwrap())
}

/// A follower of what comes.
fn follow(journal: &Arc<Journal>) -> History {
    let query = Query { tail: Some(0), follow: true, ..Query::default() };
    let mut history = History::open(Arc::clone(journal), query).unwrap();
    history.seek().unwrap();
    history
}

fn read(journal: &Arc<Journal>) -> Vec<i64> {
    let mut history = History::open(Arc::clone(journal), Query::default()).unwrap();
    history.seek().unwrap();
    let mut numbers = Vec::new();
    while let Chunk::Frames(bytes) = history.read().unwrap() {
        numbers.extend(entries(&bytes).iter().map(|entry| entry.time_nano));
    }
    numbers
}

/// After a kill two streams of a container go on, and the newer one has something to say first.
#[test]
fn what_a_stream_had_begun_is_not_taken_from_it() {
    let mut world = World::new(Limits::from(&LogSpec::default()));
    world.act(&Action::Lines(2, 100));
    world.act(&Action::Write(150));
    world.writer = None;
    world.journal = Arc::new(Journal::open(&world.dir.path().join("journal")));
    let (newer, mut fifo, read_end) = open_stream(&world.dir, 1);
    world.journal.attach(&world.stream);
    world.journal.attach(&newer);
    fifo.write_all(&frames([&line(99, "newer")])).unwrap();
    let mut writer = Writer::new(Arc::clone(&world.journal), newer, world.limits);
    assert!(matches!(writer.fill(&read_end).unwrap(), Filled::Bytes(_)));
    world.writer = Some(world.new_writer());
    world.write(1000);
    while let Filled::Bytes(_) = world.writer.as_mut().unwrap().fill(&world.read_end).unwrap() {}
    assert_eq!(read(&world.journal), [1, 2, 99]);
}

/// A reader has half a frame in memory that is cut off when the next stream goes on.
#[test]
fn half_a_frame_is_not_taken_for_what_comes_in_its_place() {
    let mut world = World::new(Limits::from(&LogSpec::default()));
    // A frame is 66 bytes long.
    for action in [Action::Lines(3, 50), Action::Write(152), Action::Take(1), Action::Restart] {
        world.act(&action);
    }
    world.act(&Action::Lines(2, 30));
    world.act(&Action::Write(1000));
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_history_reads_back(
        actions in proptest::collection::vec(action(), 1..60),
        max_size in 100..5000_u64,
        max_file in 1..6_u32,
    ) {
        let mut world = World::new(Limits::from(&LogSpec { max_size, max_file, ..LogSpec::default() }));
        for action in &actions {
            world.act(action);
        }
        world.check();
    }
}
