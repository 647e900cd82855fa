//! Stopping all processes that use a directory, for a moment, and letting them go.
//!
//! By ptrace, and not by SIGSTOP: the kernel itself lets a tracee go when its tracer's thread ends,
//! however that ends, and what somebody else had stopped stays so. After SIGSTOP somebody has to
//! send SIGCONT when the plugin is killed, and a child that waits for that may be killed before it
//! has: the runtime kills what is in the plugin's control group.
//!
//! No stop is ever waited for by wait(2), which would take with it the signal that a process was
//! about to get.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::procfs::{self, Mount};
use crate::sys;
use crate::text;

const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Which processes use a directory: those that have files of it, or all that have it mounted.
#[derive(Clone, Copy)]
enum By {
    Files,
    Namespace,
}

struct Finder {
    /// Where the directory is: the device, and the path from the root of its file system.
    device: String,
    root: PathBuf,
    by: By,
    /// For each mount namespace which of its mounts are of the directory. Empty for most.
    namespaces: BTreeMap<PathBuf, BTreeSet<u64>>,
}

impl Finder {
    fn new(arguments: &Value) -> Result<Self> {
        let directory = Path::new(text(arguments, "directory")?);
        let by = match text(arguments, "by")? {
            "files" => By::Files,
            "namespace" => By::Namespace,
            other => bail!("by files or by namespace, not {other}"),
        };
        let id = sys::mount_id(directory).context("statx")?;
        let own = procfs::mounts("self")?;
        let mount = own.into_iter().find(|mount| mount.id == id).context("no such mount")?;
        let root = mount.root.join(directory.strip_prefix(&mount.point)?);
        // The host's and the plugin's own processes are never stopped.
        let spared = ["self", "1"].map(|pid| fs::read_link(format!("/proc/{pid}/ns/mnt")));
        let mut namespaces = BTreeMap::new();
        for namespace in spared {
            namespaces.insert(namespace.context("read a mount namespace")?, BTreeSet::new());
        }
        Ok(Self { device: mount.device, root, by, namespaces })
    }

    fn find(&mut self) -> Result<Vec<i32>> {
        let mut found = Vec::new();
        for pid in procfs::processes()? {
            // Kernel threads and what ended meanwhile have none.
            let Ok(namespace) = procfs::mount_namespace(pid) else { continue };
            if !self.namespaces.contains_key(&namespace) {
                let mounts = procfs::mounts(&pid.to_string()).unwrap_or_default();
                let ours = mounts.into_iter().filter(|mount| self.covers(mount));
                let ours = ours.map(|mount| mount.id).collect();
                self.namespaces.insert(namespace.clone(), ours);
            }
            let mounts = &self.namespaces[&namespace];
            let uses = match self.by {
                By::Namespace => !mounts.is_empty(),
                By::Files => !mounts.is_empty() && has_files(pid, mounts),
            };
            if uses {
                found.push(pid);
            }
        }
        Ok(found)
    }

    fn covers(&self, mount: &Mount) -> bool {
        mount.device == self.device && mount.root.starts_with(&self.root)
    }
}

/// Whether a process works in, has open or has mapped a file on one of these mounts.
fn has_files(pid: i32, mounts: &BTreeSet<u64>) -> bool {
    let on_mount = |path: &Path| sys::mount_id(path).is_ok_and(|id| mounts.contains(&id));
    on_mount(&procfs::of(pid, "cwd"))
        || ["fd", "map_files"].iter().any(|kind| {
            let Ok(entries) = fs::read_dir(procfs::of(pid, kind)) else { return false };
            entries.flatten().any(|entry| on_mount(&entry.path()))
        })
}

/// The processes that use `directory`, and how long finding them took.
pub(crate) fn find(arguments: &Value) -> Result<Value> {
    let begun = Instant::now();
    let found = Finder::new(arguments)?.find()?;
    Ok(json!({"pids": found, "micros": micros(begun)}))
}

/// Stops all that use `directory`, for `millis` or, without that, until the plugin is killed.
pub(crate) fn hold(arguments: &Value) -> Result<Value> {
    let finder = Finder::new(arguments)?;
    let millis = arguments["millis"].as_u64();
    let (tell, told) = mpsc::channel();
    let tracer = thread::spawn(move || {
        tell.send(stop(finder)).ok();
        match millis {
            Some(millis) => thread::sleep(Duration::from_millis(millis)),
            None => loop {
                thread::park();
            },
        }
    });
    let answer = told.recv().context("the tracer has ended")??;
    if millis.is_some() {
        tracer.join().ok().context("the tracer panicked")?;
    }
    Ok(answer)
}

/// Stops all there are for as long as the thread lives that this runs on.
fn stop(mut finder: Finder) -> Result<Value> {
    let begun = Instant::now();
    let mut threads = BTreeSet::new();
    let mut pids;
    let mut rounds = 0;
    loop {
        pids = finder.find()?;
        rounds += 1;
        let all = pids.iter().flat_map(|pid| procfs::threads(*pid));
        let new: Vec<_> = all.filter(|thread| !threads.contains(thread)).collect();
        if new.is_empty() {
            break;
        }
        for thread in new {
            trace(thread)?;
            threads.insert(thread);
        }
    }
    let signalled = micros(begun);
    let all = wait_stopped(&pids);
    Ok(json!({
        "pids": pids,
        "rounds": rounds,
        "all": all,
        "micros_to_signal": signalled,
        "micros_to_stop": micros(begun),
    }))
}

/// Makes a thread a tracee of this one, and stops it.
fn trace(thread: i32) -> Result<()> {
    let target = Pid::from_raw(thread);
    let seized = ptrace::seize(target, ptrace::Options::empty());
    match seized.and_then(|()| ptrace::interrupt(target)) {
        // One that has ended meanwhile is as good as stopped.
        Err(Errno::EPERM) if procfs::state(thread).is_none_or(|state| "ZX".contains(state)) => {
            Ok(())
        }
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("trace {thread}")),
    }
}

/// Waits until no thread of these runs any more: they are told to stop before they do.
fn wait_stopped(pids: &[i32]) -> bool {
    let begun = Instant::now();
    let still = |pid: &&i32| {
        let states = procfs::threads(**pid).into_iter().filter_map(procfs::state);
        states.into_iter().any(|state| !"TtZX".contains(state))
    };
    while pids.iter().find(still).is_some() {
        if begun.elapsed() > STOP_LIMIT {
            return false;
        }
        thread::yield_now();
    }
    true
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
