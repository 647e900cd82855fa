//! Stopping all processes that use a directory, for a moment, and letting them go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::procfs::{self, Mount};
use crate::sys::{self, Process};
use crate::text;
use crate::watchdog::Watchdog;

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
    let mut watchdog = Watchdog::start()?;
    let begun = Instant::now();
    let mut finder = Finder::new(arguments)?;
    let mut seen = BTreeSet::new();
    let mut stopped = Vec::new();
    let mut rounds = 0;
    loop {
        let new: Vec<_> = finder.find()?.into_iter().filter(|pid| seen.insert(*pid)).collect();
        rounds += 1;
        if new.is_empty() {
            break;
        }
        // What somebody else stopped stays as it is.
        let runs =
            |pid: &i32| procfs::thread_states(*pid).is_ok_and(|states| !states.contains(&'T'));
        let new: Vec<_> = new
            .into_iter()
            .filter(runs)
            .filter_map(|pid| Some((pid, Process::open(pid).ok()?)))
            .collect();
        watchdog.hold(new.iter().map(|(pid, _)| *pid))?;
        for (_, process) in &new {
            // One that has ended meanwhile is as good as stopped.
            process.signal(Signal::SIGSTOP).ok();
        }
        stopped.extend(new);
    }
    let signalled = micros(begun);
    let all = wait_stopped(&stopped);
    let until_stopped = micros(begun);
    let answer = |thawed: Option<u64>| {
        json!({
            "pids": stopped.iter().map(|(pid, _)| pid).collect::<Vec<_>>(),
            "rounds": rounds,
            "all": all,
            "micros_to_signal": signalled,
            "micros_to_stop": until_stopped,
            "micros_to_thaw": thawed,
        })
    };
    let Some(millis) = arguments["millis"].as_u64() else {
        let answer = answer(None);
        std::mem::forget(watchdog);
        return Ok(answer);
    };
    thread::sleep(Duration::from_millis(millis));
    let begun = Instant::now();
    for (_, process) in &stopped {
        // One that was killed meanwhile needs nothing.
        process.signal(Signal::SIGCONT).ok();
    }
    let thawed = micros(begun);
    watchdog.dismiss()?;
    Ok(answer(Some(thawed)))
}

/// Waits until no thread of these runs any more; a signal is sent sooner than it acts.
fn wait_stopped(processes: &[(i32, Process)]) -> bool {
    let begun = Instant::now();
    let still = |(pid, _): &&(i32, Process)| {
        procfs::thread_states(*pid)
            .is_ok_and(|states| states.iter().any(|state| !matches!(state, 'T' | 't' | 'Z' | 'X')))
    };
    while processes.iter().find(still).is_some() {
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
