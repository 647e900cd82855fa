//! Where logs go beside `docker logs`: sinks, each a task with its own cursor on the journal.
//!
//! Invariants:
//! - No sink keeps a container from starting or stopping, or its log from being stored.
//! - What sinks a container has, and how far each is, lies on disk: the next life of the process
//!   goes on, also for a container that has ended.
//! - Two containers never write one file at the same time.

mod delivery;
mod file;
mod fluentd;
mod forget;
mod kept;
mod ledger;
mod link;
mod notice;
mod outlet;
mod retry;
mod status;
mod syslog;
mod target;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use plugin_sdk::{durable, record};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::delivery::{Delivery, DeliveryError};
use self::file::FileOutlet;
use self::fluentd::FluentdOutlet;
pub use self::forget::ForgetError;
use self::kept::Record;
pub(crate) use self::kept::{KIND as RECORD_KIND, VERSION as RECORD_VERSION};
use self::ledger::Ledger;
pub(crate) use self::ledger::{KIND as LEDGER_KIND, VERSION as LEDGER_VERSION};
use self::outlet::Outlet;
use self::retry::Backoff;
use self::status::{Meter, SinkId};
pub use self::status::{SinkKind, SinkStatus};
use self::syslog::SyslogOutlet;
use self::target::Target;
pub use self::target::{FileTarget, FluentdTarget, SyslogTarget, Targets};
use crate::journal::{Dropped, Journal, Journals, Reader};
use crate::names::ContainerId;
use crate::sys::HostRoot;

/// How long a sink that ended by a failure is left before it is taken up again.
const RETRY: Duration = Duration::from_secs(1);

/// A file is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "log option `file-path`: {} is written for the container `{by}`; allowed is a path that no \
     other container has, such as `{{{{.Name}}}}/{{{{.Name}}}}.log`",
    path.display()
)]
pub struct Taken {
    path: PathBuf,
    by: String,
}

/// Where files of the host are.
#[derive(Debug, Clone)]
pub struct Host {
    /// The host's root, as the plugin reaches it.
    pub root: HostRoot,
    /// The directory of the host that files are written below.
    pub log_directory: PathBuf,
    /// Why none is written, where that directory is not the one that is meant.
    pub no_files: Option<String>,
}

/// All sinks.
#[derive(Debug)]
pub struct Sinks {
    runtime: Handle,
    directory: PathBuf,
    host: Host,
    journals: Arc<Journals>,
    running: Mutex<HashMap<Key, Running>>,
    /// Records that the disk has refused so far. Locked before `running`.
    unkept: Mutex<HashMap<ContainerId, Record>>,
    /// Held by the task that writes a file.
    files: Mutex<HashMap<PathBuf, Weak<tokio::sync::Mutex<()>>>>,
    tasks: TaskTracker,
    interrupt: CancellationToken,
}

/// Which sink of which container.
type Key = (ContainerId, SinkId);

/// A sink at work.
#[derive(Debug, Clone)]
struct Running {
    name: String,
    target: Target,
    journal: Arc<Journal>,
    meter: Arc<Meter>,
    /// Another target takes its place, or nothing does.
    replaced: CancellationToken,
    ended: CancellationToken,
}

impl Sinks {
    /// Sinks whose tasks run on `runtime` until `interrupt`, and what is kept of them below
    /// `directory`.
    pub fn open(
        directory: PathBuf,
        host: Host,
        journals: Arc<Journals>,
        runtime: Handle,
        interrupt: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        durable::create_dir(&directory, 0o700)?;
        durable::sweep(&directory)?;
        Ok(Arc::new(Self {
            runtime,
            directory,
            host,
            journals,
            running: Mutex::default(),
            unkept: Mutex::default(),
            files: Mutex::default(),
            tasks: TaskTracker::new(),
            interrupt,
        }))
    }

    /// Whether `container`, which is about to start, may have `targets`. One that has had them
    /// may: this could be a `docker logs` of it.
    pub fn check(&self, container: &ContainerId, targets: &Targets) -> Result<(), Taken> {
        let Some(file) = &targets.file else { return Ok(()) };
        let running = self.running();
        let other = running.iter().find(|((other, _), running)| {
            let same = matches!(&running.target, Target::File(own) if own.path == file.path);
            other != container && same && running.journal.is_live()
        });
        match other {
            Some((_, other)) if !self.record_path(container).exists() => Err(Taken {
                path: self.host.log_directory.join(&file.path),
                by: other.name.trim_start_matches('/').to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Begins to deliver the log of `container`, one of whose streams has begun, or goes on.
    /// Blocks while that is noted on disk.
    pub fn begin(self: &Arc<Self>, container: &ContainerId, name: &str, targets: &Targets) {
        if targets.each().next().is_none() {
            return;
        }
        let record = Record {
            container: container.to_string(),
            name: name.to_owned(),
            targets: targets.clone(),
        };
        self.keep(container, record);
        targets.each().for_each(|(id, target)| self.launch(container, name, id, target));
    }

    /// Takes up all sinks that an earlier process left. To be called when the streams are taken
    /// up: what is neither live nor behind ends at once.
    pub fn take_up(self: &Arc<Self>) -> io::Result<usize> {
        let mut count = 0;
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "record") {
                continue;
            }
            let read = std::fs::read(&path).map_err(|error| error.to_string()).and_then(|bytes| {
                record::decode::<Record>(RECORD_KIND, RECORD_VERSION, &bytes)
                    .map_err(|error| error.to_string())
            });
            let known = read.and_then(|record| {
                let id =
                    ContainerId::parse(&record.container).map_err(|error| error.to_string())?;
                Ok((id, record))
            });
            match known {
                Ok((container, Record { name, targets, .. })) => {
                    let each = targets.each();
                    each.for_each(|(id, target)| self.launch(&container, &name, id, target));
                    count += 1;
                }
                Err(error) => tracing::error!(error, path = %path.display(), "record of sinks"),
            }
        }
        Ok(count)
    }

    /// The sinks at work, in the order of their containers.
    pub fn status(&self) -> Vec<SinkStatus> {
        let meter = |(key, own): (&Key, &Running)| (key.clone(), Arc::clone(&own.meter));
        let mut meters: Vec<_> = self.running().iter().map(meter).collect();
        meters.sort_by(|(one, _), (two, _)| one.cmp(two));
        meters.iter().map(|(_, meter)| meter.status()).collect()
    }

    /// Waits until every task has noticed the interrupt.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn cursor_path(&self, container: &ContainerId, id: SinkId) -> PathBuf {
        self.directory.join(format!("{container}.{id}.cursor"))
    }

    /// Starts the task, unless it runs with this target already.
    fn launch(self: &Arc<Self>, container: &ContainerId, name: &str, id: SinkId, target: Target) {
        let key = (container.clone(), id);
        let mut running = self.running();
        let before = running.get(&key).cloned();
        let goes_on = |own: &Running| own.target == target && !own.replaced.is_cancelled();
        if before.as_ref().is_some_and(goes_on) {
            return;
        }
        let journal = self.journals.get(container);
        let meter = Arc::new(Meter::new(
            Arc::clone(&journal),
            container.clone(),
            name.trim_start_matches('/').to_owned(),
            &target,
            self.shown(&target),
        ));
        let own = Running {
            name: name.to_owned(),
            target,
            journal,
            meter,
            replaced: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        running.insert(key.clone(), own.clone());
        drop(running);
        let sinks = Arc::clone(self);
        self.tasks.spawn_on(
            async move {
                if let Some(before) = before {
                    before.replaced.cancel();
                    before.ended.cancelled().await;
                }
                tokio::select! {
                    () = sinks.keep_delivering(&key, &own) => {}
                    () = sinks.interrupt.cancelled() => {}
                }
                own.ended.cancel();
            },
            &self.runtime,
        );
    }

    /// `target` as people write it.
    fn shown(&self, target: &Target) -> String {
        match target {
            Target::File(file) if self.host.no_files.is_some() => {
                format!("LOG_DIR/{}", file.path.display())
            }
            Target::File(file) => self.host.log_directory.join(&file.path).display().to_string(),
            Target::Syslog(target) => syslog::shown(&target.addresses),
            Target::Fluentd(target) => fluentd::shown(&target.address),
        }
    }

    /// Delivers until the log ends, once nobody else writes to the same file.
    async fn keep_delivering(self: &Arc<Self>, key: &Key, own: &Running) {
        let Target::File(target) = &own.target else { return self.keep_on(key, own).await };
        if let Some(why) = &self.host.no_files {
            own.meter.judge(Some(why.clone()));
            return own.replaced.cancelled().await;
        }
        let file = self.file(&target.path);
        // Who has nothing more to deliver lets go of it in a moment.
        let alone = match tokio::time::timeout(RETRY, file.lock()).await {
            Ok(alone) => alone,
            Err(_elapsed) => {
                own.meter.judge(Some("another container's log goes to the same file".to_owned()));
                tokio::select! {
                    alone = file.lock() => alone,
                    () = own.replaced.cancelled() => return,
                }
            }
        };
        own.meter.judge(None);
        self.keep_on(key, own).await;
        drop(alone);
    }

    /// Delivers until the log ends, again and again if that fails.
    async fn keep_on(self: &Arc<Self>, key: &Key, own: &Running) {
        loop {
            let failed = match self.delivery(key, own).await {
                Ok(delivery) => {
                    let over = |changes: &watch::Receiver<()>| self.is_over(key, own, changes);
                    let delivering = Box::pin(delivery.run(over));
                    match delivering.await {
                        Ok(()) | Err(DeliveryError::Replaced) => return,
                        Err(error) => plugin_sdk::chain::chain(&error),
                    }
                }
                Err(error) => error.to_string(),
            };
            own.meter.judge(Some(failed));
            tokio::select! {
                () = own.replaced.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn delivery(self: &Arc<Self>, key: &Key, own: &Running) -> io::Result<Delivery> {
        let (container, id) = key;
        let path = self.cursor_path(container, *id);
        let (host, own, container) = (self.host.clone(), own.clone(), container.to_string());
        let opened = tokio::task::spawn_blocking(move || {
            let mut ledger = Ledger::open(&path)?;
            own.journal.list()?;
            let reader = Reader::open(&own.journal, &ledger.state.position);
            if reader.position().newest != ledger.state.position.newest {
                // It begins anew, and the place of before must not come to mean another one.
                ledger.state.position = reader.position();
                ledger.keep()?;
            }
            own.meter.show(&ledger.state);
            let suspect = ledger.state.sent;
            let ledger = Arc::new(Mutex::new(ledger));
            let Host { root, log_directory, no_files: _ } = host;
            let outlet = match own.target {
                Target::File(target) => {
                    let file = FileOutlet::new(root, log_directory, target, Arc::clone(&ledger));
                    Outlet::File(Box::new(file))
                }
                Target::Syslog(target) => {
                    let syslog = SyslogOutlet::new(root, target, Arc::clone(&ledger));
                    Outlet::Syslog(Box::new(syslog))
                }
                Target::Fluentd(target) => {
                    let own = Arc::clone(&ledger);
                    Outlet::Fluentd(FluentdOutlet::new(root, &container, *target, own).into())
                }
            };
            Ok(Delivery {
                journal: own.journal,
                reader: Some(reader),
                outlet: Some(outlet),
                marks: VecDeque::new(),
                dropped: Dropped::default(),
                suspect,
                ledger,
                meter: own.meter,
                replaced: own.replaced,
                backoff: Backoff::default(),
            })
        });
        opened.await?
    }

    /// Whether the log has really ended: a stream that begins is seen here, or sees that the task
    /// is not there any more and starts another.
    fn is_over(&self, key: &Key, own: &Running, changes: &watch::Receiver<()>) -> bool {
        let mut running = self.running();
        if own.journal.is_live() || changes.has_changed().unwrap_or(false) {
            return false;
        }
        take_off(&mut running, key, own);
        true
    }

    /// The lock on a file of the host.
    fn file(&self, path: &PathBuf) -> Arc<tokio::sync::Mutex<()>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(path).and_then(Weak::upgrade) {
            return file;
        }
        files.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(tokio::sync::Mutex::new(()));
        files.insert(path.clone(), Arc::downgrade(&file));
        file
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes `own` off the list, unless another has taken its place there.
fn take_off(running: &mut HashMap<Key, Running>, key: &Key, own: &Running) {
    if running.get(key).is_some_and(|now| Arc::ptr_eq(&now.meter, &own.meter)) {
        running.remove(key);
    }
}
