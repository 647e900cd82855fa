//! One server for each cluster, decided where a server cannot pass by: at the open of its control
//! file, whatever was mounted when, by whom and in which order.
//!
//! Every directory of a guarded volume that may be a cluster's is watched by fanotify. A process
//! of the server's program that opens a cluster's control file goes on if no server of that
//! cluster lives in other namespaces; else it is told `EPERM`, and ends. All others, such as
//! `pg_controldata`, backups and readers of logs, are never denied.
//!
//! Invariants:
//! - The thread that answers waits for nothing: a checkpoint of a running server waits for it.
//! - Nothing is watched while no such thread runs, and nobody waits for a look at other processes:
//!   the directory that one of them works in may lie on a file server that is gone.
//! - Whoever is let through is noted before it goes on, so that of two that start at the same
//!   instant the second is denied.
//! - While there is no guard the kernel allows. So when one begins, it looks for servers that
//!   are beside each other already, and tells of them; it stops neither.
//! - What cannot be judged is allowed, counted and told.
//!
//! Absent: any protection against a program that is no server and writes all the same, and
//! against a server on another machine.

mod answering;
mod arbiter;
mod background;
mod census;
mod scout;
mod table;
mod watched;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::name::VolumeName;
use crate::postgres::server;
use crate::sys::fanotify::Group;
use answering::Answering;
use arbiter::Arbiter;
use background::Background;
use census::Census;
use plugin_sdk::chain::chain;
use scout::Scout;
use table::Table;
use watched::{Holder, Watched};

/// How long after a failure the guard is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the start of a server may be held up by a judgement.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of a container's identifier is shown, as Docker does.
const SHORT_ID: usize = 12;

/// The guard of all volumes; it ends when this is dropped.
#[derive(Debug)]
pub struct Guard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Arc<Table>,
    scout: Scout,
    /// Looks who serves.
    examiner: Background,
    /// The group of the moment, if there is one.
    group: Mutex<Option<Group>>,
    /// Why there is none.
    trouble: Mutex<Option<String>>,
    stop: AtomicBool,
    /// Has the thread that answers panic once.
    #[cfg(test)]
    broken: AtomicBool,
    /// Has the look at other processes hang while a test holds it.
    #[cfg(test)]
    hung: Arc<Mutex<()>>,
}

/// What can be told of a volume's clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// The servers that run.
    pub running: Vec<Running>,
    /// Servers that were kept from starting.
    pub refused: u64,
    /// Opens that were allowed since they could not be judged.
    pub unjudged: u64,
    /// What is wrong.
    pub trouble: Option<String>,
}

/// A server that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Running {
    /// The cluster's directory, below the volume's root.
    pub directory: PathBuf,
    /// Its first process, as the host numbers it.
    pub pid: u32,
    /// Its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// When it began, give or take a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Guard {
    /// Begins to guard, as soon as that is possible.
    pub fn start() -> Self {
        let table = Arc::new(Table::default());
        #[cfg(test)]
        let hung = Arc::<Mutex<()>>::default();
        let examiner = {
            let table = Arc::clone(&table);
            #[cfg(test)]
            let hung = Arc::clone(&hung);
            move || {
                #[cfg(test)]
                drop(hung.lock());
                examine(&table);
            }
        };
        let shared = Arc::new(Shared {
            scout: Scout::new(Arc::clone(&table)),
            table,
            examiner: Background::start("examiner", examiner),
            group: Mutex::default(),
            trouble: Mutex::default(),
            stop: AtomicBool::new(false),
            #[cfg(test)]
            broken: AtomicBool::new(false),
            #[cfg(test)]
            hung,
        });
        // What is watched from here on waits for the thread that is about to answer.
        shared.open();
        let (keeper, scout) = (Arc::clone(&shared), Arc::clone(&shared));
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let started = named("guard").spawn(move || keeper.keep()).and_then(|_| {
            named("scout").spawn(move || scout.scout.run(|| scout.stopped(), || scout.group()))
        });
        if let Err(error) = started {
            shared.lose(error.to_string());
        }
        Self(shared)
    }

    /// Guards the volume whose root is `root` from now on, but for what is in the directories
    /// `except` of the root.
    pub fn watch(&self, volume: &VolumeName, root: PathBuf, except: Vec<String>) {
        self.0.table.enter(volume, root, except);
        self.0.scout.look(volume, self.0.group().as_ref());
    }

    /// Guards the volume no longer and holds nothing of it.
    pub fn forget(&self, volume: &VolumeName) {
        let Some(entry) = self.0.table.leave(volume) else { return };
        self.0.scout.forget(volume);
        if let Some(group) = self.0.group() {
            for watched in entry.directories {
                watched.end(&group);
            }
        }
    }

    /// Has somebody look who serves the guarded volumes, and note those that are beside each
    /// other; does not wait for it.
    pub fn examine(&self) {
        self.0.examiner.ask();
    }

    /// What can be told of `volume`.
    pub fn outlook(&self, volume: &VolumeName) -> Outlook {
        let Some(entry) = self.0.table.entry(volume) else { return Outlook::default() };
        let mut outlook = Outlook { trouble: self.0.trouble().clone(), ..Outlook::default() };
        if let Some(trouble) = &mut outlook.trouble {
            trouble.insert_str(0, "nothing keeps a second server off: ");
        }
        for watched in &entry.directories {
            let (refused, unjudged) = watched.counts();
            outlook.refused += refused;
            outlook.unjudged += unjudged;
            outlook.running.extend(running(watched));
            if let Some(trouble) = rivalry(watched) {
                outlook.trouble.get_or_insert(trouble);
            }
        }
        let partly = |trouble| format!("not all of it is guarded: {trouble}");
        outlook.trouble = outlook.trouble.or(entry.trouble.map(partly));
        outlook
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Keeps somebody answering: when that ends, for whatever reason, the kernel allows, and it
    /// begins anew.
    fn keep(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let marker = Background::start("marker", move || shared.watch_all());
        while !self.stopped() {
            if let Some(group) = self.group().or_else(|| self.open()) {
                let ended = thread::scope(|scope| {
                    let answering = scope.spawn(|| self.answer(group));
                    marker.ask();
                    answering.join()
                });
                let reason = match ended {
                    Ok(Ok(())) => "it was stopped".to_owned(),
                    Ok(Err(reason)) => reason,
                    Err(_) => "the thread that answers panicked".to_owned(),
                };
                if !self.stopped() {
                    tracing::error!(reason, "the guard against second servers is lost");
                }
                self.lose(reason);
            }
            // In short steps, since it may be stopped.
            for _ in 0..RETRY.as_millis() / 100 {
                if self.stopped() {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn answer(&self, group: Group) -> Result<(), String> {
        let arbiter = Arbiter::start().map_err(|error| error.to_string())?;
        let table = Arc::clone(&self.table);
        let pending = VecDeque::new();
        let answering = Answering { group, table, arbiter, patience: PATIENCE, pending };
        let stop = || {
            #[cfg(test)]
            assert!(!self.broken.swap(false, Ordering::Relaxed), "broken by a test");
            self.stopped()
        };
        answering.run(stop).map_err(|error| chain(&error))
    }

    /// Opens a group, which watches nothing yet.
    fn open(&self) -> Option<Group> {
        let group = match Group::new() {
            Ok(group) => group,
            Err(error) => {
                let why = unavailable(&error);
                if self.trouble().as_ref() != Some(&why) {
                    tracing::error!(why, "there is no guard against second servers");
                }
                *self.trouble() = Some(why);
                return None;
            }
        };
        self.set_group(Some(group.clone()));
        Some(group)
    }

    /// Has the group of the moment watch all that is guarded.
    fn watch_all(&self) {
        let Some(group) = self.group() else { return };
        for volume in self.table.volumes() {
            for watched in self.table.entry(&volume).into_iter().flat_map(|entry| entry.directories)
            {
                match watched.begin(&group) {
                    Ok(Some(control)) => self.table.index(&watched, control),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(volume = %volume, %error, "a directory cannot be watched");
                    }
                }
            }
            self.scout.look(&volume, Some(&group));
        }
        drop(group);
        // Whoever loses it meanwhile tells why after this.
        let group = self.locked_group();
        if group.is_some() {
            *self.trouble() = None;
        }
        drop(group);
        self.examiner.ask();
    }

    /// The kernel allows from here on.
    fn lose(&self, reason: String) {
        self.set_group(None);
        *self.trouble() = Some(reason);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The group of the moment. Not kept for long: only the last handle closes it.
    fn group(&self) -> Option<Group> {
        self.locked_group().clone()
    }

    fn set_group(&self, group: Option<Group>) {
        *self.locked_group() = group;
    }

    fn locked_group(&self) -> MutexGuard<'_, Option<Group>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks who serves what is in `table`. May hang, as its caller knows.
fn examine(table: &Table) {
    let volumes = table.volumes();
    if volumes.is_empty() {
        return;
    }
    let servers = match server::all() {
        Ok(servers) => servers,
        Err(error) => {
            tracing::error!(%error, "who serves cannot be seen");
            return;
        }
    };
    for volume in volumes {
        for watched in table.entry(&volume).into_iter().flat_map(|entry| entry.directories) {
            let census = Census::among(&watched, &servers);
            if let Some(oldest) = census.oldest()
                && !watched.holder().is_some_and(|holder| holder.is_alive())
            {
                watched.give_to(oldest);
            }
            watched.set_rivals(census.rivals());
            if let Some(trouble) = rivalry(&watched) {
                tracing::error!(volume = %volume, trouble, "two servers");
            }
        }
    }
}

/// Why the kernel gives no group.
fn unavailable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => {
            "the kernel was built without CONFIG_FANOTIFY_ACCESS_PERMISSIONS".to_owned()
        }
        _ => format!("fanotify: {error}"),
    }
}

/// The server of the cluster in `watched`, while one runs.
fn running(watched: &Watched) -> Option<Running> {
    let holder = watched.holder().filter(|holder| holder.is_alive())?;
    let process = &holder.process;
    server::is_server(process).then(|| Running {
        directory: watched.path.clone(),
        pid: process.pid(),
        container: process.container().ok().flatten(),
        since: process.started().ok().and_then(|since| Timestamp::from_second(since).ok()),
    })
}

/// That several servers run on the cluster in `watched`, while they do.
fn rivalry(watched: &Watched) -> Option<String> {
    let rivals: Vec<_> = watched.rivals().into_iter().filter(|rival| rival.is_alive()).collect();
    let told = |rival: &Arc<Holder>| {
        let pid = rival.process.pid();
        match rival.process.container() {
            Ok(Some(id)) => format!("process {pid} in container {}", &id[..SHORT_ID.min(id.len())]),
            _ => format!("process {pid}"),
        }
    };
    (rivals.len() > 1).then(|| {
        let told: Vec<_> = rivals.iter().map(told).collect();
        format!("several servers run on {}: {}", watched.path.display(), told.join(", "))
    })
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
