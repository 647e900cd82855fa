//! One server for each cluster, decided at the open of `global/pg_control` (fanotify).
//!
//! A cluster that is not yet made has no `pg_control`: then the data directory is watched, and
//! the file from the first event on that finds it there.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::AT_FDCWD;
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags,
    Response,
};
use serde_json::{Value, json};

use crate::{procfs, text};

static EVENTS: Mutex<Vec<Value>> = Mutex::new(Vec::new());

struct Guard {
    group: Fanotify,
    data: PathBuf,
    /// The inode of the `pg_control` that is watched, 0 for none.
    watched: u64,
    /// The server that was let through last: between its first open and its change into the data
    /// directory nothing else tells that it is one.
    claimant: Option<i32>,
    /// Answers nothing, to see what becomes of an opener whose guard is killed.
    silent: bool,
}

/// Guards the data directory `data` from now on. Also tells what was found when it began.
pub(crate) fn start(arguments: &Value) -> Result<Value> {
    let group = Fanotify::init(
        InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC,
        EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC,
    )
    .context("fanotify_init")?;
    let data = PathBuf::from(text(arguments, "data")?);
    let silent = arguments["silent"].as_bool().unwrap_or_default();
    let mask = MaskFlags::FAN_OPEN_PERM | MaskFlags::FAN_EVENT_ON_CHILD;
    let mut guard = Guard { group, data, watched: 0, claimant: None, silent };
    guard
        .group
        .mark(MarkFlags::FAN_MARK_ADD, mask, AT_FDCWD, Some(&guard.data))
        .context("fanotify_mark")?;
    guard.watch_control_file()?;
    let watched = guard.watched;
    let servers = servers(&guard.data);
    thread::spawn(move || guard.run());
    Ok(json!({"control_file": watched != 0, "servers": servers}))
}

/// All opens that were decided.
pub(crate) fn events() -> Value {
    json!(*EVENTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

impl Guard {
    fn run(&mut self) -> Result<()> {
        loop {
            for event in self.group.read_events()? {
                self.decide(&event)?;
            }
        }
    }

    /// Watches `pg_control` by itself as soon as it is there, and again when it was replaced.
    /// Looks only: an open would wait for its own answer.
    fn watch_control_file(&mut self) -> Result<()> {
        let control = self.data.join("global/pg_control");
        let Ok(found) = fs::metadata(&control) else { return Ok(()) };
        if found.ino() != self.watched {
            self.group
                .mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_PERM, AT_FDCWD, Some(&control))
                .context("fanotify_mark")?;
            self.watched = found.ino();
        }
        Ok(())
    }

    fn decide(&mut self, event: &FanotifyEvent) -> Result<()> {
        let begun = Instant::now();
        let Some(fd) = event.fd() else { return Ok(()) };
        self.watch_control_file()?;
        let pid = event.pid();
        let path = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
        let comm = procfs::comm(pid).map_err(|error| error.to_string());
        let namespace = procfs::mount_namespace(pid);
        // The data directory's other files only say when to look for this one.
        let control = fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .is_ok_and(|opened| opened.ino() == self.watched);
        let server = control && comm.as_deref() == Ok("postgres");
        let elsewhere = server
            && namespace.as_ref().is_ok_and(|own| {
                servers(&self.data).into_iter().chain(self.claimant).any(|server| {
                    procfs::mount_namespace(server).is_ok_and(|namespace| namespace != *own)
                })
            });
        // All looked up before the answer: a server that is denied is soon gone.
        let mut known = json!({
            "pid": pid,
            "path": path,
            "comm": comm.as_ref().unwrap_or_else(|error| error),
            "exe": shown(fs::read_link(procfs::of(pid, "exe"))),
            "namespace": shown(namespace),
            "answer": "none",
        });
        let mut events = EVENTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.silent && control {
            events.push(known);
            drop(events);
            loop {
                thread::park();
            }
        }
        let (response, answer) =
            if elsewhere { (Response::FAN_DENY, "deny") } else { (Response::FAN_ALLOW, "allow") };
        self.group.write_response(FanotifyResponse::new(fd, response))?;
        known["answer"] = json!(answer);
        known["micros"] = json!(micros(begun.elapsed()));
        events.push(known);
        Ok(())
    }
}

/// The PostgreSQL processes that work in a data directory, in whatever container.
fn servers(data: &Path) -> Vec<i32> {
    let found = procfs::processes().unwrap_or_default();
    let serves = |pid: &i32| {
        procfs::comm(*pid).is_ok_and(|comm| comm == "postgres")
            && procfs::same_file(&procfs::of(*pid, "cwd"), data)
    };
    found.into_iter().filter(serves).collect()
}

fn shown(link: std::io::Result<PathBuf>) -> Value {
    match link {
        Ok(path) => json!(path),
        Err(error) => json!(error.to_string()),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
