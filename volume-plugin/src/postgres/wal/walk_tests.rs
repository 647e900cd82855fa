//! Logs that are whole, and every way in which one is not.

use std::path::PathBuf;

use plugin_sdk::durable;
use proptest::prelude::*;

use super::super::sample::{SIZE, Sample};
use super::*;

fn walk(directory: &Dir, control: &Control) -> Result<Walk, WalError> {
    super::walk(directory, control, &mut |_, _| Ok(()))
}

struct Log {
    temporary: tempfile::TempDir,
    control: Control,
    end: Lsn,
}

/// Three segments' worth of records, with a checkpoint in the second.
fn log() -> Log {
    let temporary = tempfile::tempdir().unwrap();
    let mut sample = Sample::new(5);
    let redo = sample.record(10, 0x20, &[1; 100]);
    let fill = |sample: &mut Sample, until: u64| {
        while sample.at < until * u64::from(SIZE) {
            sample.record(10, 0x20, &vec![2; 20_000]);
        }
    };
    fill(&mut sample, 6);
    let checkpoint = sample.record(XLOG, CHECKPOINT_ONLINE, &[3; 90]);
    fill(&mut sample, 7);
    sample.record(11, 0, b"the last one");
    sample.write(temporary.path());
    // Ends are counted as the server does that.
    let end = Lsn(sample.at.next_multiple_of(8));
    assert_ne!(end, Lsn(sample.at));
    Log { temporary, control: Sample::control(redo, checkpoint), end }
}

impl Log {
    fn walk(&self) -> Result<Walk, WalError> {
        walk(&Dir::open(self.temporary.path()).unwrap(), &self.control)
    }

    fn file(&self, number: u64) -> PathBuf {
        self.temporary.path().join(Segment { number, timeline: 1 }.file_name(SIZE))
    }
}

#[test]
fn a_whole_log_is_read_to_its_end() {
    let log = log();
    let walk = log.walk().unwrap();
    assert_eq!(walk.end, log.end);
    assert!(walk.records > 100, "{walk:?}");
}

#[test]
fn a_log_without_its_beginning_is_refused() {
    let log = log();
    durable::remove(&log.file(5)).unwrap();
    assert!(matches!(log.walk(), Err(WalError::Redo(_))));
}

#[test]
fn a_log_that_ends_before_its_checkpoint_is_refused() {
    let log = log();
    durable::remove(&log.file(6)).unwrap();
    durable::remove(&log.file(7)).unwrap();
    assert!(matches!(log.walk(), Err(WalError::Checkpoint { .. })));
}

#[test]
fn a_hole_is_told_from_the_end() {
    let log = log();
    // The middle segment is another by now, as when it was recycled.
    let other = std::fs::read(log.file(5)).unwrap();
    let kept = std::fs::read(log.file(6)).unwrap();
    let mut half = kept.clone();
    let middle = half.len() / 2;
    half[middle..].copy_from_slice(&other[middle..]);
    durable::write(&log.file(6), &half).unwrap();
    assert!(matches!(log.walk(), Err(WalError::Hole { .. })));
    durable::write(&log.file(6), &kept).unwrap();
    // What is yet to come is no hole.
    durable::write(&log.file(8), &other).unwrap();
    assert_eq!(log.walk().unwrap().end, log.end);
}

#[test]
fn a_cluster_that_was_recovering_needs_more() {
    let mut log = log();
    log.control.details.min_recovery_point = log.end;
    log.walk().unwrap();
    log.control.details.min_recovery_point = Lsn(log.end.0 + 1);
    assert!(matches!(log.walk(), Err(WalError::Recovery { .. })));
}

#[test]
fn another_cluster_s_log_is_refused() {
    let mut log = log();
    log.control.details.system_identifier += 1;
    assert!(matches!(log.walk(), Err(WalError::Redo(_))));
    for (segment, block) in [(77, 8192), (1 << 31, 8192), (SIZE, 1 << 31), (SIZE, 512)] {
        log.control.details.wal_segment_size = segment;
        log.control.details.wal_block_size = block;
        assert!(matches!(log.walk(), Err(WalError::Size)), "{segment} {block}");
    }
}

/// What another timeline has written is for a server that goes on to it, which one that recovers from a crash does
/// not do by itself.
#[test]
fn only_timelines_that_recovery_follows_are_read() {
    let mut log = log();
    for number in [6, 7] {
        let later = Segment { number, timeline: 2 }.file_name(SIZE);
        durable::rename(&log.file(number), &log.temporary.path().join(later)).unwrap();
    }
    assert!(matches!(log.walk(), Err(WalError::Checkpoint { .. })));
    log.control.details.min_recovery_timeline = 2;
    assert_eq!(log.walk().unwrap().end, log.end);
}

#[test]
fn a_base_backup_needs_its_end() {
    let temporary = tempfile::tempdir().unwrap();
    let mut sample = Sample::new(1);
    let redo = sample.record(10, 0, b"first");
    let checkpoint = sample.record(XLOG, CHECKPOINT_ONLINE, &[3; 90]);
    let end = |sample: &mut Sample, start: u64| {
        let data = [&[255, 8][..], &start.to_le_bytes()].concat();
        sample.record(XLOG, BACKUP_END, &data)
    };
    // Another one's.
    end(&mut sample, redo.0 + 8);
    sample.write(temporary.path());
    let mut control = Sample::control(redo, checkpoint);
    let walk = |control: &Control| walk(&Dir::open(temporary.path()).unwrap(), control);
    let whole = walk(&control).unwrap().end;
    control.details.backup_start = redo;
    assert!(matches!(walk(&control), Err(WalError::Backup { .. })));
    // One of a standby ends at a position.
    control.details.backup_end = whole;
    walk(&control).unwrap();
    control.details.backup_end = Lsn(whole.0 + 8);
    assert!(matches!(walk(&control), Err(WalError::Backup { .. })));
    control.details.backup_end = Lsn(0);
    end(&mut sample, redo.0);
    sample.write(temporary.path());
    walk(&control).unwrap();
}

#[test]
fn whoever_sees_the_records_may_end_it() {
    let log = log();
    let directory = Dir::open(log.temporary.path()).unwrap();
    let mut left = 3;
    let mut visit = |_: &[u8], _| {
        left -= 1;
        if left == 0 { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    };
    let error = super::walk(&directory, &log.control, &mut visit).unwrap_err();
    assert!(matches!(error, WalError::Io(error) if error.kind() == io::ErrorKind::TimedOut));
    assert_eq!(left, 0);
}

#[test]
fn a_segment_that_was_left_early_is_followed_by_the_next() {
    let temporary = tempfile::tempdir().unwrap();
    let mut sample = Sample::new(1);
    let checkpoint = sample.record(XLOG, CHECKPOINT_SHUTDOWN, &[3; 90]);
    sample.record(XLOG, SWITCH, &[]);
    sample.at = 2 * u64::from(SIZE);
    sample.record(10, 0, b"behind");
    sample.write(temporary.path());
    let control = Sample::control(checkpoint, checkpoint);
    let walk = walk(&Dir::open(temporary.path()).unwrap(), &control).unwrap();
    assert_eq!((walk.records, walk.end), (3, Lsn(sample.at.next_multiple_of(8))));
}

#[test]
fn a_server_that_writes_no_whole_pages_any_more_says_so() {
    for (data, partial) in [([255, 1, 0], true), ([255, 1, 1], false)] {
        let temporary = tempfile::tempdir().unwrap();
        let mut sample = Sample::new(1);
        let checkpoint = sample.record(XLOG, CHECKPOINT_ONLINE, &[3; 90]);
        sample.record(XLOG, WHOLE_PAGES, &data);
        sample.write(temporary.path());
        let control = Sample::control(checkpoint, checkpoint);
        let walk = walk(&Dir::open(temporary.path()).unwrap(), &control).unwrap();
        assert_eq!((walk.records, walk.partial_pages), (2, partial));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A flipped byte ends the log there or was in what no record has; it is never read past.
    #[test]
    fn a_flipped_byte_is_noticed(at in 0_u64..2 * u64::from(SIZE), flip in 1_u8..) {
        let log = log();
        let file = log.file(5 + at / u64::from(SIZE));
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[usize::try_from(at % u64::from(SIZE)).unwrap()] ^= flip;
        durable::write(&file, &bytes).unwrap();
        if let Ok(walk) = log.walk() {
            prop_assert!(walk.end == log.end || walk.end.0 <= 5 * u64::from(SIZE) + at);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100_000)) {
        let log = log();
        durable::write(&log.file(6), &bytes).unwrap();
        prop_assert!(log.walk().is_err());
    }
}
