//! The rules of Docker's own log readers, as the engine's suite fixes them for its drivers.

use std::io::Write;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Plugin, Rig, eventually, with};
use crate::frame::testing::frames;
use crate::frame::{LogEntry, PartialLogEntryMetadata};

const MINUTE: i64 = 60_000_000_000;
const BEGIN: i64 = 1_700_000_000_123_456_789;

fn piece(ordinal: i32, last: bool, entry: LogEntry) -> LogEntry {
    let id = "5f".repeat(32);
    let partial_log_metadata = Some(PartialLogEntryMetadata { last, id, ordinal });
    LogEntry { partial: true, partial_log_metadata, ..entry }
}

/// Seven messages: a line in three pieces, one of 4 KiB, one after the clock stepped back.
fn messages() -> Vec<LogEntry> {
    let entry = |source: &str, minutes: i64, line: &str| LogEntry {
        source: source.to_owned(),
        time_nano: BEGIN + minutes * MINUTE,
        line: line.into(),
        ..LogEntry::default()
    };
    vec![
        entry("stdout", 0, "a first line"),
        piece(1, false, entry("stdout", 1, "one piece, ")),
        piece(2, false, entry("stdout", 1, "another, ")),
        piece(3, true, entry("stdout", 1, "the end")),
        entry("stderr", 2, &"x".repeat(4096)),
        entry("stderr", 2 - 90, "the clock stepped back"),
        entry("stdout", 4, ""),
    ]
}

/// What a reader is to see of `messages`.
fn seen(messages: &[LogEntry]) -> Vec<LogEntry> {
    let newline = |mut entry: LogEntry| {
        if !entry.continues() {
            entry.line.push(b'\n');
        }
        entry
    };
    messages.iter().cloned().map(newline).collect()
}

fn time(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap().to_string()
}

/// What is asked, and which of the messages are to be seen.
fn cases() -> Vec<(Value, std::ops::Range<usize>)> {
    let at = |message: usize| time(messages()[message].time_nano);
    let mut cases = vec![
        (json!({}), 0..7),
        (json!({"Tail": -1}), 0..7),
        (json!({"Tail": 0}), 0..0),
        (json!({"Tail": 1}), 6..7),
        (json!({"Tail": 4}), 3..7),
        (json!({"Tail": 7}), 0..7),
        (json!({"Tail": 100}), 0..7),
        // A seek: what is older but comes later is there.
        (json!({"Since": at(1)}), 1..7),
        (json!({"Since": at(4)}), 4..7),
        (json!({"Since": time(BEGIN + 1)}), 1..7),
        (json!({"Since": time(BEGIN + 9 * MINUTE)}), 0..0),
        // The first later message is the end, whatever follows.
        (json!({"Until": at(3)}), 0..4),
        (json!({"Until": at(0)}), 0..1),
        (json!({"Until": time(BEGIN - 1)}), 0..0),
        (json!({"Since": at(1), "Until": at(3)}), 1..4),
        (json!({"Since": at(1), "Tail": 2}), 5..7),
        (json!({"Since": at(4), "Tail": 6}), 4..7),
        (json!({"Tail": 5, "Until": at(3)}), 2..4),
    ];
    cases.push((json!({"Since": at(4), "Until": at(4), "Tail": 3}), 4..6));
    cases
}

#[test]
fn a_stored_log_is_read_as_docker_s_drivers_do() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    assert_eq!(plugin.logs("c", &with(&json!({}))), []);
    fifo.write_all(&frames(&messages())).unwrap();
    plugin.stop_logging(&path);
    for (config, range) in cases() {
        let got = plugin.logs("c", &with(&config));
        assert_eq!(got, seen(&messages()[range]), "{config}");
    }
}

/// A segment for each message or two makes every reader cross from one into the next.
#[test]
fn the_same_over_many_segments() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("max-size", "64"), ("max-file", "1000")]);
    fifo.write_all(&frames(&messages())).unwrap();
    plugin.stop_logging(&path);
    assert!(rig.segments("c").len() > 4);
    for (config, range) in cases() {
        let got = plugin.logs("c", &with(&config));
        assert_eq!(got, seen(&messages()[range]), "{config}");
    }
}

#[test]
fn a_follower_of_an_empty_log_sees_all_and_ends_with_it() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    let follower = plugin.follow("c", &with(&json!({"Follow": true})));
    for message in messages() {
        fifo.write_all(&frames([&message])).unwrap();
    }
    plugin.stop_logging(&path);
    assert_eq!(plugin.joined(follower), seen(&messages()));
}

#[test]
fn a_follower_joins_in_the_middle_by_since_until_and_tail() {
    let all = messages();
    let at = |message: usize| time(all[message].time_nano);
    for (config, range) in [
        (json!({}), 0..7),
        (json!({"Tail": 0}), 4..7),
        (json!({"Tail": 2}), 2..7),
        (json!({"Since": at(2)}), 1..7),
        (json!({"Since": at(4)}), 4..7),
        (json!({"Since": at(4), "Tail": 1}), 4..7),
    ] {
        let rig = Rig::new();
        let plugin = Plugin::start(rig.path());
        let (path, mut fifo) = rig.fifo("f");
        plugin.start_logging("c", &path, &[("max-size", "100")]);
        fifo.write_all(&frames(&all[..4])).unwrap();
        eventually("four are stored", || plugin.logs("c", &super::all()).len() == 4);
        let mut config = with(&config);
        config["Follow"] = true.into();
        let follower = plugin.follow("c", &config);
        // Time for it to have found its place.
        std::thread::sleep(std::time::Duration::from_millis(100));
        fifo.write_all(&frames(&all[4..])).unwrap();
        plugin.stop_logging(&path);
        assert_eq!(plugin.joined(follower), seen(&all[range]), "{config}");
    }
}

#[test]
fn until_ends_a_follower_without_waiting_for_the_log_s_end() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    let until = time(messages()[3].time_nano);
    let follower = plugin.follow("c", &with(&json!({"Follow": true, "Until": until})));
    fifo.write_all(&frames(&messages())).unwrap();
    assert_eq!(plugin.joined(follower), seen(&messages()[..4]));
    plugin.stop_logging(&path);
}

#[test]
fn earlier_runs_of_the_container_come_first() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    for (run, part) in [0..3, 3..5, 5..7].into_iter().enumerate() {
        let (path, mut fifo) = rig.fifo(&format!("f{run}"));
        plugin.start_logging("c", &path, &[]);
        fifo.write_all(&frames(&messages()[part])).unwrap();
        plugin.stop_logging(&path);
    }
    assert_eq!(plugin.logs("c", &with(&json!({}))), seen(&messages()));
    assert_eq!(plugin.logs("c", &with(&json!({"Tail": 5}))), seen(&messages()[2..]));
    assert_eq!(rig.segments("c").len(), 1, "a container that restarts makes no file each time");
}

#[test]
fn a_follower_crosses_rotation_without_loss_or_doubling() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("max-size", "16k"), ("max-file", "4")]);
    let follower = plugin.follow("c", &with(&json!({"Follow": true})));
    let line = |n: i64| crate::frame::testing::line(BEGIN + n, format!("line {n:06}"));
    for n in 0..5000 {
        fifo.write_all(&frames([&line(n)])).unwrap();
        if n % 100 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    plugin.stop_logging(&path);
    let expected: Vec<_> = (0..5000).map(|n| format!("line {n:06}\n")).collect();
    assert_eq!(super::texts(&plugin.joined(follower)), expected);
    assert!(rig.segments("c").len() <= 5);
}

/// What lies before it is not even looked at: here it could not be read.
#[test]
fn a_tail_reads_the_end_of_the_log_only() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("max-size", "64"), ("max-file", "1000")]);
    fifo.write_all(&frames(&messages())).unwrap();
    plugin.stop_logging(&path);
    let oldest = rig.segments("c").remove(0);
    std::fs::remove_file(&oldest).unwrap();
    plugin_sdk::durable::create_dir(&oldest, 0o700).unwrap();
    assert_eq!(plugin.logs("c", &with(&json!({"Tail": 2}))), seen(&messages()[5..]));
}
