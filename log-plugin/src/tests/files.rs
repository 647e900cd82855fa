//! The file sink through kills, full and missing places, and other people's hands on the files.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plugin_sdk::durable;
use serde_json::json;

use super::{Plugin, Rig, eventually};
use crate::frame::testing::{frames, line};

fn numbered(n: u32) -> Vec<u8> {
    frames([&line(i64::from(n) + 1, format!("line {n:07}"))])
}

fn lines(range: std::ops::Range<u32>) -> String {
    let lines: Vec<_> = range.map(|n| format!("line {n:07}\n")).collect();
    lines.concat()
}

fn logs(rig: &Rig) -> PathBuf {
    rig.path().join("host/logs")
}

/// All that a file and the rotated ones before it hold.
fn content(path: &Path) -> String {
    let numbered = |n: u32| PathBuf::from(format!("{}.{n}", path.display()));
    let rotated = (1..1000).map(numbered).take_while(|path| path.exists()).collect::<Vec<_>>();
    let all = rotated.iter().rev().map(PathBuf::as_path).chain([path]);
    all.map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect()
}

#[test]
fn lines_come_into_the_file_of_the_container() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    let options = [("sinks", "file"), ("file-mode", "0604")];
    assert_eq!(plugin.start_logging("c", &path, &options), json!({"Err": ""}));
    fifo.write_all(&numbered(0)).unwrap();
    let file = logs(&rig).join("n/n.log");
    eventually("a line comes while the stream lives", || content(&file) == lines(0..1));
    for n in 1..100 {
        fifo.write_all(&numbered(n)).unwrap();
    }
    plugin.stop_logging(&path);
    eventually("the rest comes after its end", || content(&file) == lines(0..100));
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o604);
    eventually("a sink whose log has ended ends", || plugin.sinks().is_empty());
}

#[test]
fn files_wait_for_the_directory_that_is_meant() {
    let rig = Rig::new();
    let why = "setting LOG_DIR=logs: allowed is an absolute path";
    let plugin = Plugin::start_with(rig.path(), "plugin.sock", Some(why.to_owned()));
    let (path, mut fifo) = rig.fifo("f");
    assert_eq!(plugin.start_logging("c", &path, &[("sinks", "file")]), json!({"Err": ""}));
    fifo.write_all(&numbered(0)).unwrap();
    eventually("it says why", || {
        let status = plugin.call("/Pglog.Status", &json!({}));
        let sink = &status["sinks"][0];
        sink["error"] == why && sink["target"] == "LOG_DIR/n/n.log"
    });
    plugin.stop_logging(&path);
    assert!(!logs(&rig).exists());
    plugin.terminate();
    let plugin = Plugin::start(rig.path());
    eventually("it comes", || content(&logs(&rig).join("n/n.log")) == lines(0..1));
    eventually("a sink whose log has ended ends", || plugin.sinks().is_empty());
}

/// The plugin dies again and again under a container that writes without pause into small files.
#[test]
fn kills_lose_and_double_nothing() {
    let rig = Rig::new();
    let (path, mut fifo) = rig.fifo("f");
    let mut plugin = Plugin::start(rig.path());
    let options = [
        ("max-size", "10m"),
        ("max-file", "100"),
        ("file-max-size", "64k"),
        ("file-max-files", "1000"),
    ];
    plugin.start_logging("c", &path, &options);
    let done = Arc::new(AtomicBool::new(false));
    let written = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                fifo.write_all(&numbered(n)).unwrap();
                n += 1;
            }
            (n, fifo)
        }
    });
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(50));
        plugin.kill();
        plugin = Plugin::start(rig.path());
    }
    done.store(true, Ordering::Relaxed);
    let (written, _fifo) = written.join().unwrap();
    plugin.stop_logging(&path);
    eventually("all of it is delivered", || plugin.sinks().is_empty());
    let file = logs(&rig).join("n/n.log");
    let (got, expected) = (content(&file), lines(0..written));
    let differs = got.lines().zip(expected.lines()).position(|(got, expected)| got != expected);
    assert!(got == expected, "{} bytes of {}, line {differs:?}", got.len(), expected.len());
    assert!(written > 10_000, "{written} lines are too few to rotate");
}

/// What a killed process wrote and did not note is recognised by its bytes.
#[test]
fn what_the_file_has_already_is_not_written_again() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("file-path", "x.log")]);
    fifo.write_all(&numbered(0)).unwrap();
    let file = logs(&rig).join("x.log");
    eventually("a line", || content(&file) == lines(0..1));
    plugin.kill();
    let append = |text: &str| {
        OpenOptions::new().append(true).open(&file).unwrap().write_all(text.as_bytes()).unwrap();
    };
    append(&lines(1..3));
    append("line 00");
    for n in 1..5 {
        fifo.write_all(&numbered(n)).unwrap();
    }
    let plugin = Plugin::start(rig.path());
    eventually("all of it once", || content(&file) == lines(0..5));
    plugin.kill();
    append("somebody else's\n");
    fifo.write_all(&numbered(5)).unwrap();
    let _plugin = Plugin::start(rig.path());
    let expected = lines(0..5) + "somebody else's\n" + &lines(5..6);
    eventually("it goes on after what is not its own", || content(&file) == expected);
}

#[test]
fn a_file_that_was_moved_removed_or_cut_is_begun_anew() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("file-path", "x.log")]);
    let file = logs(&rig).join("x.log");
    let mut write = |n: u32| fifo.write_all(&numbered(n)).unwrap();
    write(0);
    eventually("a line", || content(&file) == lines(0..1));
    let aside = logs(&rig).join("aside");
    durable::rename(&file, &aside).unwrap();
    write(1);
    eventually("a new file", || content(&file) == lines(1..2));
    assert_eq!(content(&aside), lines(0..1));
    durable::remove(&file).unwrap();
    write(2);
    eventually("a new file again", || content(&file) == lines(2..3));
    OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
    write(3);
    eventually("from its beginning", || content(&file) == lines(3..4));
    durable::rename(&logs(&rig), &rig.path().join("host/old")).unwrap();
    write(4);
    eventually("a new directory", || content(&file) == lines(4..5));
}

/// What retention removes before the file can be written is counted and said in the file.
#[test]
fn a_dead_file_costs_no_container_anything_and_says_what_is_missing() {
    let rig = Rig::new();
    durable::create_dir(&rig.path().join("host"), 0o755).unwrap();
    durable::write(&logs(&rig), b"in the way").unwrap();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    let options = [("max-size", "20k"), ("max-file", "3"), ("sinks", "file")];
    assert_eq!(plugin.start_logging("c", &path, &options), json!({"Err": ""}));
    fifo.write_all(&numbered(0)).unwrap();
    let error = || plugin.sinks().first().and_then(|sink| sink.error.clone());
    eventually("the error is shown", || error().is_some());
    assert!(error().unwrap().contains("/logs"), "{error:?}", error = error());
    for n in 1..5000 {
        fifo.write_all(&numbered(n)).unwrap();
    }
    eventually("what is dropped is counted", || plugin.sinks()[0].dropped_lines > 3000);
    plugin.kill();
    durable::remove(&logs(&rig)).unwrap();
    let plugin = Plugin::start(rig.path());
    plugin.stop_logging(&path);
    let file = logs(&rig).join("n/n.log");
    eventually("the rest is delivered", || {
        plugin.sinks().is_empty() && content(&file).ends_with(&lines(4999..5000))
    });
    let got = content(&file);
    let notices: Vec<_> = got.lines().filter(|line| line.starts_with("pglog: ")).collect();
    let said = |line: &&str| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
    let missing: usize = notices.iter().map(said).sum();
    assert_eq!(got.lines().count() - notices.len() + missing, 5000, "{notices:?}");
    assert!(notices.len() == 1 && missing > 3000, "{notices:?}");
}

/// The disk was full when a container started: once it is not, the next process finds its sinks.
#[test]
fn a_record_that_could_not_be_written_is_written_later() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let in_the_way = rig.path().join("state/sinks/c.record.tmp");
    durable::create_dir(&in_the_way, 0o700).unwrap();
    let (path, mut fifo) = rig.fifo("f");
    assert_eq!(plugin.start_logging("c", &path, &[("sinks", "file")]), json!({"Err": ""}));
    let record = rig.path().join("state/sinks/c.record");
    assert!(!record.exists());
    std::fs::remove_dir(&in_the_way).unwrap();
    eventually("there is a record", || record.exists());
    plugin.kill();
    fifo.write_all(&numbered(0)).unwrap();
    let plugin = Plugin::start(rig.path());
    let file = logs(&rig).join("n/n.log");
    eventually("its log is delivered", || content(&file) == lines(0..1));
    plugin.stop_logging(&path);
}

/// A batch is half written when the next file cannot be begun; retention goes past it, and the
/// plugin dies: what is read next is not what was half written.
#[test]
fn a_kill_after_half_a_batch_costs_nothing_of_the_next() {
    let rig = Rig::new();
    let in_the_way = logs(&rig).join("x.log.999");
    durable::create_dir(&in_the_way, 0o755).unwrap();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    let limits = [("max-size", "20k"), ("max-file", "3")];
    plugin.start_logging("c", &path, &limits);
    fifo.write_all(&(0..300).flat_map(numbered).collect::<Vec<_>>()).unwrap();
    plugin.stop_logging(&path);
    let (path, mut fifo) = rig.fifo("g");
    let file = [("file-path", "x.log"), ("file-max-size", "2000"), ("file-max-files", "1000")];
    plugin.start_logging("c", &path, &[limits.as_slice(), &file].concat());
    eventually("half of it is written", || plugin.sinks()[0].error.is_some());
    for n in 300..5000 {
        fifo.write_all(&numbered(n)).unwrap();
    }
    eventually("what is dropped is counted", || plugin.sinks()[0].dropped_lines > 3000);
    plugin.stop_logging(&path);
    rig.all_is_counted();
    plugin.kill();
    std::fs::remove_dir(&in_the_way).unwrap();
    let plugin = Plugin::start(rig.path());
    eventually("the rest is delivered", || plugin.sinks().is_empty());
    let got = content(&logs(&rig).join("x.log"));
    let (written, rest) = got.split_once("pglog: ").expect("what is missing is said");
    let (said, rest) = rest.split_once('\n').unwrap();
    let missing: u32 = said.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(written, lines(0..154));
    assert_eq!(rest, lines(missing..5000), "{said}");
}

/// A file is followed by the next when it is a quarter of `file-max-age` old.
#[test]
fn files_end_with_time_and_are_compressed() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    let options = [("file-path", "x.log"), ("file-max-age", "4s"), ("file-compress", "true")];
    assert_eq!(plugin.start_logging("c", &path, &options), json!({"Err": ""}));
    fifo.write_all(&numbered(0)).unwrap();
    let file = logs(&rig).join("x.log");
    eventually("a line", || content(&file) == lines(0..1));
    std::thread::sleep(Duration::from_millis(1100));
    fifo.write_all(&numbered(1)).unwrap();
    eventually("the next file", || content(&file) == lines(1..2));
    let packed = std::fs::File::open(logs(&rig).join("x.log.1.gz")).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut text).unwrap();
    assert_eq!(text, lines(0..1));
    plugin.stop_logging(&path);
}

#[test]
fn two_containers_do_not_write_one_file() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let options = [("file-path", "one.log")];
    let (first, mut one) = rig.fifo("f");
    plugin.start_logging("c1", &first, &options);
    let (second, mut two) = rig.fifo("g");
    let answer = plugin.start_logging("c2", &second, &options);
    let words = answer["Err"].as_str().unwrap();
    assert!(words.contains("/logs/one.log") && words.contains("`n`"), "{words}");
    one.write_all(&numbered(0)).unwrap();
    plugin.stop_logging(&first);
    // As compose does when it makes a container anew.
    assert_eq!(plugin.start_logging("c2", &second, &options), json!({"Err": ""}));
    two.write_all(&numbered(1)).unwrap();
    let file = logs(&rig).join("one.log");
    eventually("one after the other", || content(&file) == lines(0..2));
    // The log of a container that had the file can be looked at, and even started.
    let (third, mut again) = rig.fifo("h");
    assert_eq!(plugin.start_logging("c1", &third, &options), json!({"Err": ""}));
    again.write_all(&numbered(2)).unwrap();
    eventually("it waits", || {
        plugin.sinks().iter().any(|sink| sink.container == "c1" && sink.error.is_some())
    });
    plugin.stop_logging(&second);
    eventually("and has its turn", || content(&file) == lines(0..3));
}

#[test]
fn paths_that_leave_the_directory_are_refused() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, _fifo) = rig.fifo("f");
    for bad in ["../x", "a/../../x", "{{.ID}}/../..", "x.1", "", "{{truncate .ID}}"] {
        let answer = plugin.start_logging("c", &path, &[("file-path", bad)]);
        assert!(answer["Err"].as_str().unwrap().contains("file-path"), "{bad}: {answer}");
    }
    assert!(!logs(&rig).exists());
}

/// As after `docker rename`: the rest of the log goes where the name says.
#[test]
fn a_container_with_another_name_gets_another_file() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    for (fifo, name, n) in [("f", "/old", 0), ("g", "/new", 1)] {
        let (path, mut fifo) = rig.fifo(fifo);
        let info = json!({"ContainerID": "c", "ContainerName": name, "Config": {"sinks": "file"}});
        plugin.call("/LogDriver.StartLogging", &json!({"File": path, "Info": info}));
        fifo.write_all(&numbered(n)).unwrap();
        plugin.stop_logging(&path);
        eventually("delivered", || plugin.sinks().is_empty());
    }
    assert_eq!(content(&logs(&rig).join("old/old.log")), lines(0..1));
    assert_eq!(content(&logs(&rig).join("new/new.log")), lines(1..2));
}

#[test]
fn rotation_keeps_so_many_files() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (path, mut fifo) = rig.fifo("f");
    let options = [("file-path", "x.log"), ("file-max-size", "130"), ("file-max-files", "3")];
    plugin.start_logging("c", &path, &options);
    for n in 0..95 {
        fifo.write_all(&numbered(n)).unwrap();
    }
    plugin.stop_logging(&path);
    eventually("delivered", || plugin.sinks().is_empty());
    let file = logs(&rig).join("x.log");
    assert_eq!(content(&file), lines(70..95));
    assert_eq!(std::fs::read_dir(logs(&rig)).unwrap().count(), 3);
}
