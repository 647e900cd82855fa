//! A service for tests: on plain directories as pools, which fail on request, in a mount namespace
//! of each test's own. A killed process is a service that is dropped half-way and made anew.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::catalog::Catalog;
use super::error::VolumeError;
use super::listing::ListedSnapshots;
use super::mounts::Mounts;
use super::purge::{Rounds, Which};
use super::service::{Parts, Service};
use super::spec::Layout;
use crate::name::{ShareName, VolumeName};
use crate::pool::{
    Capture, Captured, Charge, Count, Description, DirPool, Directory, Limit, Pace, Pool,
    PoolError, PoolName, PoolRegistry,
};
use crate::scratch::Scratch;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::namespace::{self, MountNamespace};
use crate::sys::{Doing, SysError};

/// A pool whose next calls fail.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: DirPool,
    root: PathBuf,
    pub(crate) creates: AtomicU32,
    pub(crate) deletes: AtomicU32,
    /// How long a look into the pool takes, in milliseconds.
    pub(crate) slow: AtomicU32,
    /// Shares that fit into the pool before it is told to be short of space; 0: any number.
    pub(crate) roomy: AtomicU32,
    /// Not 0: deleting gives no space back.
    pub(crate) stuck: AtomicU32,
    /// More than 1: somebody is making it larger, for so many looks; 1: it is larger.
    pub(crate) growing: AtomicU32,
    /// How many limits have no room.
    pub(crate) full: AtomicU32,
    /// Not 0: whoever makes a share waits until it is 0, and makes it 2.
    pub(crate) held: AtomicU32,
    /// Not 0: shares are captured at once, as it says.
    pub(crate) at_once: AtomicU32,
    /// What shares may hold, where the pool is `default`; it is forgotten with the process.
    pub(crate) limits: Mutex<BTreeMap<ShareName, Limit>>,
    /// What each of these is charged with.
    pub(crate) charged: AtomicU64,
    /// Shared by all pools of a world.
    pub(crate) fuse: Arc<Fuse>,
}

/// Kills whoever passes it for the n-th time: a panic, after which nothing is undone.
#[derive(Debug, Default)]
pub(crate) struct Fuse(pub(crate) AtomicU32);

impl Fuse {
    fn pass(&self) {
        let left = self.0.load(Ordering::SeqCst);
        self.0.store(left.saturating_sub(1), Ordering::SeqCst);
        assert!(left != 1, "killed");
    }
}

impl Faulty {
    fn fails(left: &AtomicU32) -> Result<(), PoolError> {
        let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let refused: Result<(), SysError> = Err(full()).doing(|| "write".to_owned());
        taken.map_or(Ok(()), |_| Ok(refused?))
    }
}

impl Pool for Faulty {
    fn create(
        &self,
        name: &ShareName,
        directories: &[Directory],
        limit: Option<Limit>,
    ) -> Result<(), PoolError> {
        while self.held.load(Ordering::SeqCst) != 0 {
            // Let go in between it stays let go.
            self.held.compare_exchange(1, 2, Ordering::SeqCst, Ordering::SeqCst).ok();
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Err(error) = Self::fails(&self.creates) {
            // As a killed or failing create does, this one leaves part of a share.
            self.inner.create(name, &directories[..1], None)?;
            return Err(error);
        }
        self.fuse.pass();
        self.inner.create(name, directories, None)?;
        self.fuse.pass();
        if limit.is_some() { self.limit(name, limit) } else { Ok(()) }
    }

    fn capture(&self, name: &ShareName) -> Capture {
        match self.at_once.load(Ordering::SeqCst) {
            0 => self.inner.capture(name),
            _ => Capture::AtOnce,
        }
    }

    fn snapshot(
        &self,
        of: &ShareName,
        new: &ShareName,
        kind: Captured,
        pace: &Pace,
    ) -> Result<(), PoolError> {
        Self::fails(&self.creates)?;
        self.fuse.pass();
        self.inner.snapshot(of, new, kind, pace)?;
        self.fuse.pass();
        Ok(())
    }

    fn locate(&self, name: &ShareName) -> Result<PathBuf, PoolError> {
        std::thread::sleep(Duration::from_millis(self.slow.load(Ordering::SeqCst).into()));
        self.inner.locate(name)
    }

    fn delete(&self, name: &ShareName) -> Result<(), PoolError> {
        Self::fails(&self.deletes)?;
        self.fuse.pass();
        self.inner.delete(name)?;
        self.fuse.pass();
        Ok(())
    }

    fn prepare_limits(&self) -> Result<(), PoolError> {
        if self.root.ends_with("default") {
            return Ok(());
        }
        Err(PoolError::NoLimits("it is a test's"))
    }

    fn limit(&self, name: &ShareName, limit: Option<Limit>) -> Result<(), PoolError> {
        self.fuse.pass();
        Self::fails(&self.full)?;
        let mut limits = self.limits.lock().unwrap();
        match limit {
            Some(limit) => drop(limits.insert(name.clone(), limit)),
            None => drop(limits.remove(name)),
        }
        Ok(())
    }

    fn charge(&self, name: &ShareName) -> Result<Option<Charge>, PoolError> {
        let charged = self.charged.load(Ordering::SeqCst);
        let of = |limit: &Limit| Charge {
            charged,
            limit: Some(limit.to_fill()),
            beside: None,
            captured: false,
            count: Count::Newer,
        };
        Ok(self.limits.lock().unwrap().get(name).map(of))
    }

    fn describe(&self) -> Result<Description, PoolError> {
        let mut description = self.inner.describe()?;
        let roomy = self.roomy.load(Ordering::SeqCst) as usize;
        let shares = fs::read_dir(&self.root).unwrap().count();
        let short = roomy != 0 && shares > roomy;
        description.space.total = 100 << 30;
        // The other one is on the host's file system.
        if self.root.ends_with("default") {
            description.device = Some("/dev/loop0".into());
        }
        description.space.free = if short { 1 << 30 } else { 50 << 30 };
        if self.stuck.load(Ordering::SeqCst) == 0 {
            description.space.free -= (shares as u64) << 20;
        }
        match self.growing.load(Ordering::SeqCst) {
            0 => {}
            1 => description.space.free += 1 << 30,
            looks => {
                description.growable = 1 << 30;
                self.growing.store(looks - 1, Ordering::SeqCst);
            }
        }
        Ok(description)
    }
}

/// A service on two such pools.
pub(crate) struct World {
    pub(crate) service: Arc<Service>,
    pub(crate) default: Arc<Faulty>,
    pub(crate) wal: Arc<Faulty>,
    pub(crate) dir: Scratch,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::at(Scratch::new(), None)
    }

    pub(crate) fn at(dir: Scratch, bad_settings: Option<&str>) -> Self {
        Self::keeping(dir, bad_settings, "24h")
    }

    /// What is removed is kept for `trash_time`.
    pub(crate) fn keeping(dir: Scratch, bad_settings: Option<&str>, trash_time: &str) -> Self {
        let fuse = Arc::new(Fuse::default());
        let pool = |name: &str| {
            let root = dir.path().join(name);
            let inner = DirPool::open(root.clone()).unwrap();
            let [creates, deletes, slow, roomy, stuck, growing, full, held] =
                [const { AtomicU32::new(0) }; 8];
            let fuse = Arc::clone(&fuse);
            let (limits, charged) = (Mutex::default(), AtomicU64::new(0));
            Arc::new(Faulty {
                inner,
                root,
                creates,
                deletes,
                slow,
                roomy,
                stuck,
                growing,
                full,
                held,
                at_once: AtomicU32::default(),
                limits,
                charged,
                fuse,
            })
        };
        let (default, wal) = (pool("default"), pool("wal"));
        let (opens_default, opens_wal) = (Arc::clone(&default), Arc::clone(&wal));
        let pools = PoolRegistry::default()
            .with(PoolName::new("default"), Arc::new(move || Ok(opens_default.clone())))
            .with(PoolName::new("wal"), Arc::new(move || Ok(opens_wal.clone())));
        let service = Service::new(Parts {
            catalog: Catalog::load(dir.path().join("catalog")).unwrap(),
            mounts: Mounts::load(dir.path().join("mounts"), "boot".to_owned()).unwrap(),
            pools,
            views: (dir.path().join("views"), dir.path().join("staging")),
            unsettled: Duration::ZERO,
            bad_settings: bad_settings.map(str::to_owned),
            trash_time: trash_time.parse().unwrap(),
            listed: ListedSnapshots::Asked,
            default_layout: Layout::Split,
        });
        Self { service: service.unwrap(), default, wal, dir }
    }

    /// The process is killed, and starts again on what is on disk.
    pub(crate) fn restarted(self) -> Self {
        Self::at(self.dir, None)
    }

    pub(crate) async fn create(
        &self,
        volume: &str,
        options: &[(&str, &str)],
    ) -> Result<(), VolumeError> {
        let raw = options.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        self.service.clone().create(name(volume), raw).await
    }

    pub(crate) async fn mount(&self, volume: &str, id: &str) -> Result<PathBuf, VolumeError> {
        self.service.clone().mount(name(volume), id.parse().unwrap()).await
    }

    pub(crate) async fn unmount(&self, volume: &str, id: &str) -> Result<(), VolumeError> {
        self.service.clone().unmount(name(volume), id.parse().unwrap()).await
    }

    pub(crate) async fn remove(&self, volume: &str) -> Result<(), VolumeError> {
        self.service.clone().remove(name(volume)).await
    }

    /// Removes it past the trash.
    pub(crate) async fn destroy(&self, volume: &str) -> Result<(), VolumeError> {
        self.remove(volume).await?;
        self.service.clone().purge(Which::All).await?;
        self.purge_round().await;
        Ok(())
    }

    /// What happens to the trash in the background.
    pub(crate) async fn purge_round(&self) {
        self.service.purge_round(&mut Rounds::default()).await;
    }

    pub(crate) async fn status(&self, volume: &str) -> Option<Value> {
        let (_, status) = self.service.get(&name(volume)).await?;
        Some(serde_json::to_value(status).unwrap())
    }

    /// No trace of any volume, neither in the trash, nor on disk nor mounted.
    pub(crate) fn assert_empty(&self) {
        for directory in ["catalog", "mounts", "default", "wal", "views"] {
            let directory = self.dir.path().join(directory);
            let left: Vec<_> = fs::read_dir(&directory).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

/// A process in a mount namespace of its own, made from that of the calling thread.
pub(crate) struct Neighbour(pub(crate) Child);

impl Neighbour {
    pub(crate) fn new(propagation: &str, script: &str) -> Self {
        let marker = tempfile::tempdir().unwrap();
        let ready = marker.path().join("ready");
        let script = format!("{script}\ntouch {}; exec sleep 60", ready.display());
        #[expect(clippy::disallowed_methods, reason = "it runs beside the test")]
        let neighbour = Command::new("unshare")
            .args(["--mount", "--propagation", propagation, "sh", "-euc", &script])
            .spawn()
            .map(Self)
            .unwrap();
        for _ in 0..1000 {
            if ready.exists() {
                return neighbour;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("unshare did not start");
    }

    pub(crate) fn namespace(&self) -> MountNamespace {
        let others = namespace::others().unwrap().namespaces;
        others.into_iter().find(|namespace| namespace.pid == self.0.id()).unwrap()
    }

    pub(crate) fn sees(&self, point: &Path) -> Option<Mount> {
        mountinfo::at(&self.namespace().mounts, point).cloned()
    }

    pub(crate) fn has_file(&self, path: &Path) -> bool {
        self.namespace().enter(|| Ok(path.exists())).unwrap()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

pub(crate) fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

/// Runs `test` on a thread in a mount namespace of its own; threads of its runtime are born there.
pub(crate) fn apart<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        namespace::isolate();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    thread.join().unwrap();
}
