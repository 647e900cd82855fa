//! What a delivery keeps on disk, and when.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use plugin_sdk::durable;

use super::super::target::FileTarget;
use super::super::{FileOutlet, Target};
use super::*;
use crate::frame::testing::{frames, line};
use crate::names::ContainerId;
use crate::options::FileFormat;
use crate::sys::HostRoot;

fn segment(dir: &Path, sequence: i64) {
    let bytes = frames([&line(sequence, format!("line {sequence}"))]);
    durable::write(&dir.join(format!("journal/{sequence:020}.t")), &bytes).unwrap();
}

fn delivery(dir: &Path) -> Delivery {
    let journal = Arc::new(Journal::open(&dir.join("journal")));
    let owner = dir.metadata().unwrap();
    let target = FileTarget {
        path: "out".into(),
        format: FileFormat::Raw,
        max_size: u64::MAX,
        max_files: 1,
        max_age: None,
        compress: false,
        mode: 0o600,
        uid: owner.uid(),
        gid: owner.gid(),
        attributes: None,
    };
    let ledger = Ledger::open(&dir.join("cursor")).unwrap();
    let reader = Reader::open(&journal, &ledger.state.position);
    let suspect = ledger.state.sent;
    let ledger = Arc::new(Mutex::new(ledger));
    let root = HostRoot::new(dir);
    let file = FileOutlet::new(root, "/logs".into(), target.clone(), Arc::clone(&ledger));
    let id = ContainerId::parse("c").unwrap();
    let meter = Meter::new(
        Arc::clone(&journal),
        id,
        "c".to_owned(),
        &Target::File(target),
        "out".to_owned(),
    );
    Delivery {
        journal,
        reader: Some(reader),
        outlet: Some(Outlet::File(Box::new(file))),
        marks: VecDeque::new(),
        dropped: Dropped::default(),
        suspect,
        ledger,
        meter: Arc::new(meter),
        replaced: CancellationToken::new(),
        backoff: Backoff::default(),
    }
}

/// What was dropped is in the ledger only with the place after it: who goes on from the place
/// before counts it again.
#[tokio::test]
async fn what_was_dropped_is_counted_once_over_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    durable::create_dir(&dir.join("logs"), 0o700).unwrap();
    durable::create_dir(&dir.join("journal"), 0o700).unwrap();
    segment(dir, 1);
    let mut first = delivery(dir);
    assert_eq!(first.turn().await.unwrap(), Turn::Delivered);
    drop(first);
    for sequence in 2..=5 {
        segment(dir, sequence);
    }
    // The retention of a life of the process in which the sink had no time to read on.
    let later = SystemTime::now() + Duration::from_mins(1);
    assert_eq!(Journal::open(&dir.join("journal")).remove_older(later).unwrap(), 5);
    segment(dir, 6);
    for killed in [true, false] {
        let mut delivery = delivery(dir);
        let batch = delivery.read().await.unwrap();
        let unsaid = delivery.unsaid();
        assert_eq!(unsaid, Dropped { lines: 4, ..Dropped::default() });
        delivery.lock().keep().unwrap();
        if !killed {
            delivery.deliver(batch, unsaid).await.unwrap();
            assert_eq!(delivery.lock().state.dropped, 4);
            assert!(!delivery.unsaid().any());
        }
    }
}

/// What was sent before a kill and is gone when it would be sent again may have arrived.
#[tokio::test]
async fn what_may_have_arrived_is_counted_apart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    durable::create_dir(&dir.join("journal"), 0o700).unwrap();
    for sequence in 1..=5 {
        segment(dir, sequence);
    }
    let first = delivery(dir);
    first.lock().accept(3);
    first.lock().send().unwrap();
    drop(first);
    let later = SystemTime::now() + Duration::from_mins(1);
    assert_eq!(Journal::open(&dir.join("journal")).remove_older(later).unwrap(), 5);
    segment(dir, 6);
    let mut second = delivery(dir);
    assert_eq!(second.read().await.unwrap().entries.len(), 1);
    assert_eq!(second.unsaid(), Dropped { lines: 2, doubtful: 3, uncounted: false });
}

/// A kill left lines in the file that the ledger does not know; while they are looked at, logrotate cuts
/// the file.
#[test]
fn a_file_that_is_cut_while_it_is_compared_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let log = dir.join("logs/out");
    durable::create_dir(&dir.join("logs"), 0o700).unwrap();
    durable::write(&log, b"1\n2\n").unwrap();
    let receipt = format!(
        r#"{{"inode":{},"size":0,"skip":0,"unfinished":null}}"#,
        log.metadata().unwrap().ino()
    );
    let mut ledger = Ledger::open(&dir.join("cursor")).unwrap();
    ledger.state.receipt = serde_json::from_str(&receipt).unwrap();
    ledger.keep().unwrap();
    let Some(Outlet::File(mut file)) = delivery(dir).outlet else { panic!("a file") };
    for (text, expected) in [("1", "1\n2\n"), ("3", "3\n")] {
        file.accept(&[line(7, text)], Dropped::default());
        file.write().unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), expected);
        std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
    }
}

/// It is delivered on, and said until it can be kept again.
#[tokio::test]
async fn what_cannot_be_kept_is_said_as_long_as_that_is_so() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    durable::create_dir(&dir.join("logs"), 0o700).unwrap();
    durable::create_dir(&dir.join("journal"), 0o700).unwrap();
    segment(dir, 1);
    let mut delivery = delivery(dir);
    let error = |delivery: &Delivery| delivery.meter.status().error;
    // More than the ledger's page has room for.
    delivery.lock().state.position.open = (10..1000).map(|n| (n, n)).collect();
    delivery.meter.judge_keeping(delivery.lock().keep().err().map(|error| error.to_string()));
    delivery.meter.judge(None);
    assert!(error(&delivery).is_some(), "what is delivered does not hide it");
    assert_eq!(delivery.turn().await.unwrap(), Turn::Delivered);
    assert_eq!(error(&delivery), None);
}
