//! Processes in mount namespaces of their own that are stopped and let go.

use std::path::{Path, PathBuf};

use super::*;
use crate::sys::process::Process;
use crate::volume::testing::Neighbour;

/// Writes numbers by one process after the other.
const BUSY: &str = "busy() { n=0; while :; do n=$((n + 1)); \
                    (for i in 1 2 3 4 5; do echo $n.$i >$FILE; done) & wait $!; done; }; busy & ";

struct Busy {
    dir: tempfile::TempDir,
    neighbour: Neighbour,
}

impl Busy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = BUSY.replace("$FILE", &dir.path().join("file").display().to_string());
        let neighbour = Neighbour::new("private", &script);
        Self { dir, neighbour }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("file")
    }

    fn pid(&self) -> u32 {
        self.neighbour.0.id()
    }

    fn namespaces(&self) -> BTreeSet<u64> {
        [Process::open(self.pid()).unwrap().namespaces().unwrap().mount].into()
    }

    fn all(&self) -> Vec<u32> {
        let here = self.namespaces();
        let all = Process::all().unwrap();
        let here =
            |process: &Process| process.namespaces().is_ok_and(|home| here.contains(&home.mount));
        all.filter(here).map(|process| process.pid()).collect()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for pid in self.all() {
            if pid != self.pid() {
                drop(crate::sys::tool::run("kill", &["-9", &pid.to_string()], LIMIT));
            }
        }
    }
}

fn content(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn changes(file: &Path) -> bool {
    let before = content(file);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if content(file) != before {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

#[test]
fn nothing_is_written_while_all_are_stopped() {
    let busy = Busy::new();
    for _ in 0..20 {
        assert!(changes(&busy.file()));
        let barrier = Barrier::stop(busy.namespaces()).unwrap();
        let stopped = content(&busy.file());
        assert!(busy.all().into_iter().all(trace::is_stopped));
        thread::sleep(Duration::from_millis(20));
        assert_eq!(content(&busy.file()), stopped);
        let stall = barrier.release().unwrap();
        assert!((Duration::from_millis(20)..LIMIT).contains(&stall), "{stall:?}");
    }
    assert!(changes(&busy.file()));
}

#[test]
fn they_go_on_when_nobody_lets_them_go() {
    let busy = Busy::new();
    let barrier = Barrier::stop(busy.namespaces()).unwrap();
    assert!(barrier.deadline() > Instant::now());
    thread::sleep(LIMIT + Duration::from_millis(100));
    assert!(changes(&busy.file()));
    assert!(matches!(barrier.release(), Err(BarrierError::TooLong)));
    // Forgotten is let go, too.
    drop(Barrier::stop(busy.namespaces()).unwrap());
    assert!(changes(&busy.file()));
}

#[test]
fn whom_somebody_traces_is_named_and_all_go_on() {
    let busy = Busy::new();
    let held = Barrier::stop(busy.namespaces()).unwrap();
    let error = Barrier::stop(busy.namespaces()).unwrap_err();
    assert!(matches!(error, BarrierError::Traced { .. }), "{error}");
    assert!(error.to_string().contains("is being traced by process"), "{error}");
    held.release().unwrap();
    assert!(changes(&busy.file()));
}

#[test]
fn what_was_stopped_stays_so() {
    let busy = Busy::new();
    let pid = busy.pid();
    let signal = |name: &str| {
        crate::sys::tool::run("kill", &[name, &pid.to_string()], LIMIT).unwrap();
    };
    signal("-STOP");
    let barrier = Barrier::stop(busy.namespaces()).unwrap();
    barrier.release().unwrap();
    assert!(changes(&busy.file()));
    thread::sleep(Duration::from_millis(20));
    assert!(trace::is_stopped(pid));
    signal("-CONT");
}

#[test]
fn nobody_is_stopped_at_once() {
    let barrier = Barrier::stop(BTreeSet::new()).unwrap();
    assert!(barrier.release().unwrap() < LIMIT);
}

#[test]
fn who_is_sent_in_meanwhile_is_noticed() {
    let busy = Busy::new();
    let barrier = Barrier::stop(busy.namespaces()).unwrap();
    let target = busy.pid().to_string();
    #[expect(clippy::disallowed_methods, reason = "it runs beside the test")]
    let mut sent = std::process::Command::new("nsenter")
        .args(["--target", &target, "--mount", "sleep", "60"])
        .spawn()
        .unwrap();
    while !busy.all().contains(&sent.id()) {
        thread::sleep(Duration::from_millis(1));
    }
    let error = barrier.release().unwrap_err();
    assert!(matches!(error, BarrierError::Came { pid } if pid == sent.id()), "{error}");
    sent.kill().unwrap();
    sent.wait().unwrap();
    assert!(changes(&busy.file()));
    Barrier::stop(busy.namespaces()).unwrap().release().unwrap();
}
