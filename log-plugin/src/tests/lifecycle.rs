//! Streams through kills, restarts and ends, as dockerd would see them.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Plugin, Rig, all, eventually, texts, with};
use crate::frame::testing::{frames, line};

fn numbered(n: u32) -> Vec<u8> {
    frames([&line(i64::from(n) + 1, format!("line {n:07}"))])
}

#[test]
fn calls_answer_what_dockerd_expects() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let ok = json!({"Err": ""});
    assert_eq!(
        plugin.call("/LogDriver.Capabilities", &json!({})),
        json!({"Cap": {"ReadLogs": true}, "Err": ""})
    );
    assert_eq!(plugin.call("/Plugin.Activate", &json!({})), json!({"Implements": ["LogDriver"]}));
    let (path, _fifo) = rig.fifo("f");
    assert_eq!(plugin.start_logging("c", &path, &[]), ok);
    assert_eq!(plugin.start_logging("c", &path, &[]), ok, "a repeated request");
    plugin.stop_logging(&path);
    plugin.stop_logging(&path);
    plugin.stop_logging(&rig.path().join("unknown"));
    assert_eq!(plugin.call("/LogDriver.StopLogging", &json!({})), ok, "a body that got lost");
}

#[test]
fn bad_requests_are_refused_in_words() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, _fifo) = rig.fifo("f");
    let err = |answer: serde_json::Value| answer["Err"].as_str().unwrap().to_owned();
    assert!(err(plugin.call("/LogDriver.StartLogging", &json!({}))).contains("FIFO"));
    assert!(err(plugin.start_logging("../c", &path, &[])).contains("container id"));
    assert!(err(plugin.start_logging("c", &path, &[("max-size", "x")])).contains("max-size=x"));
    assert!(err(plugin.start_logging("c", &rig.path().join("none"), &[])).contains("none"));
    // With a 200, dockerd would take the words for a frame.
    let (status, answer) = plugin.post("/LogDriver.ReadLogs", &json!({}));
    assert_eq!(status, 500);
    assert!(String::from_utf8(answer).unwrap().contains("container id"));
    assert_eq!(plugin.logs("nobody", &all()), []);
}

/// `docker logs` of a stopped container begins and ends a stream without data around ReadLogs.
#[test]
fn a_stream_without_data_leaves_no_trace() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, _fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    assert_eq!(plugin.logs("c", &all()), []);
    plugin.stop_logging(&path);
    assert!(!rig.path().join("state/journals").exists());
    assert_eq!(std::fs::read_dir(rig.path().join("state/streams")).unwrap().count(), 0);
}

#[test]
fn stopping_stores_what_is_in_the_pipe_and_cuts_half_a_frame() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    for n in 0..1000 {
        fifo.write_all(&numbered(n)).unwrap();
    }
    fifo.write_all(&numbered(1000)[..20]).unwrap();
    plugin.stop_logging(&path);
    assert_eq!(plugin.logs("c", &all()).len(), 1000);
    let (path, mut fifo) = rig.fifo("g");
    plugin.start_logging("c", &path, &[]);
    fifo.write_all(&numbered(7)).unwrap();
    plugin.stop_logging(&path);
    assert_eq!(
        texts(&plugin.logs("c", &with(&json!({"Tail": 2})))),
        ["line 0000999\n", "line 0000007\n"]
    );
}

/// The plugin dies again and again under a container that writes without pause.
#[test]
fn kills_lose_and_double_nothing() {
    let rig = Rig::new();
    let (path, mut fifo) = rig.fifo("f");
    let mut plugin = Plugin::start(rig.path());
    plugin.start_logging("c", &path, &[("max-size", "256k"), ("max-file", "1000")]);
    let done = Arc::new(AtomicBool::new(false));
    let written = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                // Split, so that a kill may fall between the halves of a frame.
                let frame = numbered(n);
                fifo.write_all(&frame[..9]).unwrap();
                fifo.write_all(&frame[9..]).unwrap();
                n += 1;
            }
            (n, fifo)
        }
    });
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(30));
        plugin.kill();
        plugin = Plugin::start(rig.path());
    }
    done.store(true, Ordering::Relaxed);
    let (written, _fifo) = written.join().unwrap();
    plugin.stop_logging(&path);
    let got = texts(&plugin.logs("c", &all()));
    let expected: Vec<_> = (0..written).map(|n| format!("line {n:07}\n")).collect();
    assert!(written > 1000);
    let differs = got.iter().zip(&expected).position(|(got, expected)| got != expected);
    assert!(got == expected, "{} of {written}, differs at {differs:?}", got.len());
}

#[test]
fn a_stop_finds_a_stream_that_an_earlier_process_began() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    plugin.kill();
    fifo.write_all(&numbered(1)).unwrap();
    let plugin = Plugin::start(rig.path());
    plugin.stop_logging(&path);
    assert_eq!(texts(&plugin.logs("c", &all())), ["line 0000001\n"]);
    assert!(path.exists(), "dockerd removes the FIFO");
}

/// Out of descriptors, say, just when the container ends.
#[test]
fn a_stop_waits_for_a_stream_that_fails_meanwhile() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    plugin.kill();
    fifo.write_all(&numbered(1)).unwrap();
    let aside = rig.path().join("aside");
    plugin_sdk::durable::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    let plugin = Plugin::start(rig.path());
    std::thread::scope(|scope| {
        scope.spawn(|| plugin.stop_logging(&path));
        std::thread::sleep(Duration::from_millis(1500));
        plugin_sdk::durable::rename(&aside, &path).unwrap();
    });
    assert_eq!(texts(&plugin.logs("c", &all())), ["line 0000001\n"]);
}

/// dockerd was killed under a running container: what it had written is kept, its FIFO is not,
/// and the container goes on in another.
#[test]
fn the_end_of_dockerd_ends_its_streams() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    fifo.write_all(&numbered(1)).unwrap();
    // What is in a pipe that nobody has open any more is gone.
    eventually("the first is stored", || plugin.logs("c", &all()).len() == 1);
    drop(fifo);
    eventually("the FIFO is removed", || !path.exists());
    let (second, mut fifo) = rig.fifo("g");
    plugin.start_logging("c", &second, &[]);
    fifo.write_all(&numbered(2)).unwrap();
    eventually("the second is stored", || plugin.logs("c", &all()).len() == 2);
    plugin.kill();
    drop(fifo);
    let plugin = Plugin::start(rig.path());
    eventually("the stale FIFO is removed", || !second.exists());
    assert_eq!(texts(&plugin.logs("c", &all())), ["line 0000001\n", "line 0000002\n"]);
}

#[test]
fn sigterm_leaves_the_rest_in_the_pipe_and_ends_followers() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    fifo.write_all(&numbered(1)).unwrap();
    let _follower = plugin.follow("c", &with(&json!({"Follow": true})));
    std::thread::sleep(Duration::from_millis(50));
    assert!(plugin.terminate() < Duration::from_secs(2));
    fifo.write_all(&numbered(2)).unwrap();
    let plugin = Plugin::start(rig.path());
    plugin.stop_logging(&path);
    assert_eq!(texts(&plugin.logs("c", &all())), ["line 0000001\n", "line 0000002\n"]);
}

/// What a failed StopLogging leaves behind is read on, but nobody waits for its end.
#[test]
fn a_forgotten_stream_keeps_no_follower() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (forgotten, mut old) = rig.fifo("f");
    plugin.start_logging("c", &forgotten, &[]);
    old.write_all(&numbered(1)).unwrap();
    eventually("the first is stored", || plugin.logs("c", &all()).len() == 1);
    let (path, mut fifo) = rig.fifo("g");
    plugin.start_logging("c", &path, &[]);
    let follower = plugin.follow("c", &with(&json!({"Follow": true})));
    fifo.write_all(&numbered(2)).unwrap();
    plugin.stop_logging(&path);
    assert_eq!(texts(&plugin.joined(follower)), ["line 0000001\n", "line 0000002\n"]);
}

#[test]
fn a_reader_is_freed_when_its_client_goes() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    fifo.write_all(&numbered(1)).unwrap();
    let segment = || rig.segments("c").pop();
    eventually("a segment", || segment().is_some());
    let held = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let target = segment().unwrap();
        fds.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| link == target)).count()
    };
    let before = held();
    let follower = plugin.follow("c", &with(&json!({"Follow": true})));
    eventually("the follower reads", || held() > before);
    follower.abort();
    eventually("the reader is gone", || held() == before);
    plugin.stop_logging(&path);
}

/// What retention has dropped costs no disk once everybody who follows has come past it.
#[test]
fn a_follower_keeps_nothing_that_it_has_read() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("max-size", "16k"), ("max-file", "2")]);
    let follower = plugin.follow("c", &with(&json!({"Follow": true})));
    for n in 0..3000 {
        fifo.write_all(&numbered(n)).unwrap();
    }
    eventually("everything is stored and followed", || {
        rig.segments("c").len() == 2 && rig.held() == 0
    });
    plugin.stop_logging(&path);
    assert_eq!(plugin.joined(follower).len(), 3000);
}

/// Nothing can be stored: the container must not notice, and what comes after is kept.
#[test]
fn a_disk_that_refuses_stops_nobody() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let in_the_way = rig.path().join("state/journals");
    File::create(&in_the_way).unwrap();
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    let begun = Instant::now();
    let mut n = 0;
    while begun.elapsed() < Duration::from_millis(500) {
        fifo.write_all(&numbered(n)).unwrap();
        n += 1;
    }
    std::fs::remove_file(&in_the_way).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    fifo.write_all(&numbered(n)).unwrap();
    plugin.stop_logging(&path);
    let got = texts(&plugin.logs("c", &all()));
    assert_eq!(got.last().unwrap(), &format!("line {n:07}\n"));
}

/// The disk was full when a container started: once it is not, the next process finds the stream.
#[test]
fn a_record_that_could_not_be_written_is_written_later() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let in_the_way = rig.path().join("state/streams/f.tmp");
    plugin_sdk::durable::create_dir(&in_the_way, 0o700).unwrap();
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    fifo.write_all(&numbered(1)).unwrap();
    std::fs::remove_dir(&in_the_way).unwrap();
    eventually("there is a record", || rig.path().join("state/streams/f").exists());
    plugin.kill();
    fifo.write_all(&numbered(2)).unwrap();
    let plugin = Plugin::start(rig.path());
    plugin.stop_logging(&path);
    assert_eq!(texts(&plugin.logs("c", &all())), ["line 0000001\n", "line 0000002\n"]);
    assert_eq!(std::fs::read_dir(rig.path().join("state/streams")).unwrap().count(), 0);
}

#[test]
fn noise_in_a_stream_costs_no_line_after_it() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("max-size", "64"), ("max-file", "100")]);
    for n in 0..20 {
        fifo.write_all(&numbered(n)).unwrap();
        fifo.write_all(b"\xff\xff\xff\xffnoise").unwrap();
    }
    fifo.write_all(&numbered(20)).unwrap();
    plugin.stop_logging(&path);
    let got = texts(&plugin.logs("c", &all()));
    assert_eq!(got, (0..21).map(|n| format!("line {n:07}\n")).collect::<Vec<_>>());
    let garbled =
        |plugin: &Plugin| plugin.call("/Pglog.Status", &json!({}))["dropped"]["garbled"].clone();
    assert_eq!(garbled(&plugin), 20 * 9);
    plugin.kill();
    assert_eq!(garbled(&Plugin::start(rig.path())), 20 * 9);
}

/// A clean end would pass for the whole log.
#[test]
fn the_end_of_the_process_breaks_a_follower_off() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[]);
    fifo.write_all(&numbered(1)).unwrap();
    let request = json!({"Info": {"ContainerID": "c"}, "Config": with(&json!({"Follow": true}))});
    let client = plugin.client.clone();
    let follower = plugin
        .calls
        .spawn(async move { client.post("/LogDriver.ReadLogs", request.to_string()).await });
    std::thread::sleep(Duration::from_millis(300));
    plugin.shutdown.cancel();
    assert!(plugin.calls.block_on(follower).unwrap().is_err());
    plugin.terminate();
}

/// The process must not end over it: dockerd would disable the plugin, and containers would wait.
#[test]
fn state_that_cannot_be_used_is_told_and_taken_when_it_can() {
    let rig = Rig::new();
    let first = Plugin::start(rig.path());
    let second = Plugin::start_on(rig.path(), "second.sock");
    let (path, mut fifo) = rig.fifo("f");
    let refused = |words: &str| {
        let answer = second.start_logging("c", &path, &[]);
        assert!(answer["Err"].as_str().unwrap().contains(words), "{answer}");
        let request = json!({"Info": {"ContainerID": "c"}, "Config": all()});
        let (status, answer) = second.post("/LogDriver.ReadLogs", &request);
        assert_eq!(status, 500);
        assert!(String::from_utf8(answer).unwrap().contains(words));
        second.stop_logging(&path);
    };
    refused("another pglog");
    let format = rig.path().join("state/format");
    let known = std::fs::read(&format).unwrap();
    let newer = plugin_sdk::record::encode("pglog-state", 99, &()).unwrap();
    plugin_sdk::durable::write(&format, &newer).unwrap();
    first.terminate();
    eventually("the newer format is noticed", || {
        second.start_logging("c", &path, &[])["Err"].to_string().contains("newer")
    });
    refused("newer");
    plugin_sdk::durable::write(&format, &known).unwrap();
    eventually("the state is taken", || {
        second.start_logging("c", &path, &[]) == json!({"Err": ""})
    });
    fifo.write_all(&numbered(1)).unwrap();
    second.stop_logging(&path);
    assert_eq!(texts(&second.logs("c", &all())), ["line 0000001\n"]);
}
