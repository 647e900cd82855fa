//! Containers that are in each other's way: what one does costs no other anything.

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use plugin_sdk::{durable, record};
use serde_json::json;

use super::{Plugin, Rig, all, eventually, texts};
use crate::frame::testing::{frames, line};
use crate::sys::{self, testing::fifo};

fn numbered(n: u32) -> Vec<u8> {
    frames([&line(7, format!("line {n:07}"))])
}

/// Their files are read at each connection: one that is a FIFO, or has no end, is an error of that sink.
#[test]
fn files_that_a_sink_names_keep_no_other_waiting() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    drop(fifo(&rig.path().join("host/fifo")));
    File::create(rig.path().join("host/large")).unwrap().set_len(1 << 40).unwrap();
    let mut pipes = Vec::new();
    for (number, file) in ["/fifo", "/fifo", "/fifo", "/large"].into_iter().enumerate() {
        let (path, mut pipe) = rig.fifo(&format!("f{number}"));
        let options = [("syslog-address", "tcp+tls://127.0.0.1:1"), ("syslog-tls-ca-cert", file)];
        let started = plugin.start_logging(&format!("c{number}"), &path, &options);
        assert_eq!(started, json!({"Err": ""}));
        pipe.write_all(&numbered(1)).unwrap();
        pipes.push(pipe);
    }
    let failed = || plugin.sinks().into_iter().filter_map(|sink| sink.error).collect::<Vec<_>>();
    eventually("each says why", || failed().len() == 4);
    assert!(failed().iter().all(|error| error.contains("/fifo") || error.contains("/large")));
    let (path, mut pipe) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("file-path", "c.log")]);
    pipe.write_all(&numbered(2)).unwrap();
    let written = || fs::read_to_string(rig.path().join("host/logs/c.log")).unwrap_or_default();
    eventually("the file is written", || written() == "line 0000002\n");
}

/// A stream that has no segment yet, and begins before the other of its container is known again.
#[test]
fn streams_that_are_taken_up_leave_each_other_what_they_had_begun() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let mut pipes = Vec::new();
    let mut start = |name: &str, container: &str| {
        let (path, pipe) = rig.fifo(name);
        assert_eq!(plugin.start_logging(container, &path, &[]), json!({"Err": ""}));
        pipes.push(pipe);
        path
    };
    let older = start("older", "c");
    for number in 0..100 {
        start(&format!("f{number}"), &format!("other{number}"));
    }
    let newer = start("newer", "c");
    let (long, half) = (numbered(1), numbered(1).len() / 2);
    pipes[101].write_all(&long[..half]).unwrap();
    let begun = || rig.segments("c").len() == 1;
    eventually("half a line is stored", || {
        begun() && fs::metadata(&rig.segments("c")[0]).unwrap().len() == half as u64
    });
    plugin.kill();
    pipes[101].write_all(&long[half..]).unwrap();
    pipes[0].write_all(&numbered(2)).unwrap();
    let plugin = Plugin::start(rig.path());
    plugin.stop_logging(&older);
    plugin.stop_logging(&newer);
    let mut got = texts(&plugin.logs("c", &all()));
    got.sort();
    assert_eq!(got, ["line 0000001\n", "line 0000002\n"]);
}

/// dockerd waits no longer and removes the FIFO, say while there was no descriptor: what is in it is stored.
#[test]
fn what_a_stream_had_when_dockerd_gave_up_is_stored_later() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut pipe) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    pipe.write_all(&numbered(1)).unwrap();
    eventually("it is stored", || plugin.logs("c", &all()).len() == 1);
    // What was to be dropped of it cannot be finished: its segment is in nobody's reach.
    let (segment, aside) = (rig.segments("c")[0].clone(), rig.path().join("aside"));
    plugin.kill();
    let taking = json!({"f": {"length": 1, "checksum": 0, "cut": 1}});
    let lost = json!({"messages": 0, "bytes": 0, "removed": 0});
    let note = json!({"turn": 99, "lost": lost, "removed": {}, "taking": taking});
    let mut slots = vec![0; 4096];
    slots.extend(record::encode("pglog-gone", 2, &note).unwrap());
    slots.resize(2 * 4096, 0);
    durable::write(&segment.with_file_name("gone"), &slots).unwrap();
    durable::rename(&segment, &aside).unwrap();
    durable::create_dir(&segment, 0o700).unwrap();
    pipe.write_all(&numbered(2)).unwrap();
    let plugin = Plugin::start(rig.path());
    std::thread::sleep(Duration::from_millis(200));
    std::thread::scope(|scope| {
        scope.spawn(|| plugin.stop_logging(&path));
        std::thread::sleep(Duration::from_millis(500));
        fs::remove_file(&path).unwrap();
        drop(pipe);
        fs::remove_dir(&segment).unwrap();
        durable::rename(&aside, &segment).unwrap();
    });
    eventually("both are there", || {
        texts(&plugin.logs("c", &all())) == ["line 0000001\n", "line 0000002\n"]
    });
}

/// Of root's pipes the kernel makes the next ones small once all of them together hold 64 MiB: who fills
/// theirs by hundreds has not more than a part of that, whoever has asked first.
#[test]
fn hundreds_of_full_pipes_leave_other_processes_theirs() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let mut pipes = Vec::new();
    for number in 0..200 {
        let (path, pipe) = rig.fifo(&format!("f{number}"));
        let started = plugin.start_logging(&format!("c{number}"), &path, &[]);
        assert_eq!(started, json!({"Err": ""}));
        pipes.push(pipe);
    }
    let much: Vec<u8> = (0..5000).flat_map(numbered).collect();
    for pipe in &mut pipes {
        pipe.write_all(&much).unwrap();
    }
    let stored = |number: usize| {
        let segments = rig.segments(&format!("c{number}"));
        segments.iter().map(|segment| fs::metadata(segment).unwrap().len()).sum::<u64>()
    };
    eventually("all is stored", || (0..200).all(|number| stored(number) == much.len() as u64));
    let sizes: Vec<_> = pipes.iter().map(|pipe| sys::pipe_size(pipe).unwrap()).collect();
    let large = sizes.iter().filter(|size| **size > 64 << 10).count();
    assert!(large <= 32 && sizes.iter().sum::<usize>() <= (200 << 16) + (32 << 20), "{sizes:?}");
}
