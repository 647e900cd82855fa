//! The service on plain directories as pools, in a mount namespace of each test's own. Pools
//! fail on request; a killed process is a service that is dropped half-way and made anew.

use std::fs;
use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use plugin_sdk::durable;
use serde_json::Value;

use super::*;
use crate::pool::DirPool;
use crate::sys::{mount, namespace};

/// A pool whose next calls fail.
#[derive(Debug)]
struct Faulty {
    inner: DirPool,
    creates: AtomicU32,
    deletes: AtomicU32,
    /// How long a look into the pool takes, in milliseconds.
    slow: AtomicU32,
    /// Shared by all pools of a world.
    fuse: Arc<Fuse>,
}

/// Kills whoever passes it for the n-th time: a panic, after which nothing is undone.
#[derive(Debug, Default)]
struct Fuse(AtomicU32);

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
        taken.map_or(Ok(()), |_| Err(PoolError::NotMade("the disk is full".to_owned())))
    }
}

impl Pool for Faulty {
    fn create(&self, volume: &VolumeName, directories: &[Directory]) -> Result<(), PoolError> {
        if let Err(error) = Self::fails(&self.creates) {
            // As a killed or failing create does, this one leaves part of a share.
            self.inner.create(volume, &directories[..1])?;
            return Err(error);
        }
        self.fuse.pass();
        self.inner.create(volume, directories)?;
        self.fuse.pass();
        Ok(())
    }

    fn locate(&self, volume: &VolumeName) -> Result<PathBuf, PoolError> {
        std::thread::sleep(Duration::from_millis(self.slow.load(Ordering::SeqCst).into()));
        self.inner.locate(volume)
    }

    fn delete(&self, volume: &VolumeName) -> Result<(), PoolError> {
        Self::fails(&self.deletes)?;
        self.fuse.pass();
        self.inner.delete(volume)?;
        self.fuse.pass();
        Ok(())
    }
}

struct World {
    service: Arc<Service>,
    default: Arc<Faulty>,
    wal: Arc<Faulty>,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap(), None)
    }

    fn at(dir: tempfile::TempDir, bad_settings: Option<&str>) -> Self {
        let fuse = Arc::new(Fuse::default());
        let pool = |name: &str| {
            let inner = DirPool::open(dir.path().join(name)).unwrap();
            let [creates, deletes, slow] = [const { AtomicU32::new(0) }; 3];
            Arc::new(Faulty { inner, creates, deletes, slow, fuse: Arc::clone(&fuse) })
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
            bad_settings: bad_settings.map(str::to_owned),
        });
        Self { service: service.unwrap(), default, wal, dir }
    }

    /// The process is killed, and starts again on what is on disk.
    fn restarted(self) -> Self {
        Self::at(self.dir, None)
    }

    async fn create(&self, volume: &str, options: &[(&str, &str)]) -> Result<(), VolumeError> {
        let raw = options.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        self.service.clone().create(name(volume), raw).await
    }

    async fn mount(&self, volume: &str, id: &str) -> Result<PathBuf, VolumeError> {
        self.service.clone().mount(name(volume), id.parse().unwrap()).await
    }

    async fn unmount(&self, volume: &str, id: &str) -> Result<(), VolumeError> {
        self.service.clone().unmount(name(volume), id.parse().unwrap()).await
    }

    async fn remove(&self, volume: &str) -> Result<(), VolumeError> {
        self.service.clone().remove(name(volume)).await
    }

    async fn status(&self, volume: &str) -> Option<Value> {
        let (_, status) = self.service.get(&name(volume)).await?;
        Some(serde_json::to_value(status).unwrap())
    }

    /// No trace of any volume, neither on disk nor mounted.
    fn assert_empty(&self) {
        for directory in ["catalog", "mounts", "default", "wal", "views"] {
            let directory = self.dir.path().join(directory);
            let left: Vec<_> = fs::read_dir(&directory).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

/// Runs `test` on a thread in a mount namespace of its own; threads of its runtime are born there.
fn apart<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        namespace::isolate();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    thread.join().unwrap();
}

#[test]
fn create_is_idempotent_and_tells_conflicts() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[("uid", "70")]).await.unwrap();
        world.create("v", &[("uid", "70"), ("mode", "700")]).await.unwrap();
        let error = world.create("v", &[]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "volume v exists with other options: `uid` is `70`, not `999`"
        );
        let volumes = world.service.list();
        assert_eq!(volumes, [(name("v"), None)]);
    });
}

#[test]
fn a_create_that_fails_leaves_nothing() {
    apart(|| async {
        let world = World::new();
        for pool in [&world.default, &world.wal] {
            pool.creates.store(1, Ordering::SeqCst);
            let error = world.create("v", &[]).await.unwrap_err();
            assert!(matches!(error, VolumeError::Pool { .. }), "{error}");
            world.assert_empty();
        }
        assert!(world.create("v", &[("colour", "red")]).await.is_err());
        world.assert_empty();
        world.create("v", &[]).await.unwrap();
    });
}

#[test]
fn a_create_that_cannot_be_undone_is_undone_later() {
    apart(|| async {
        let world = World::new();
        world.wal.creates.store(1, Ordering::SeqCst);
        world.wal.deletes.store(1, Ordering::SeqCst);
        assert!(world.create("v", &[]).await.is_err());
        assert_eq!(world.status("v").await, None);
        assert_eq!(world.service.list(), []);
        assert!(matches!(world.mount("v", "a").await, Err(VolumeError::Incomplete(_))));
        // By the next create of the name, with whatever options, or by the next start.
        world.create("v", &[("cow", "on")]).await.unwrap();
        world.remove("v").await.unwrap();
        world.wal.creates.store(1, Ordering::SeqCst);
        world.wal.deletes.store(1, Ordering::SeqCst);
        assert!(world.create("v", &[]).await.is_err());
        let world = world.restarted();
        world.service.clone().recover().await;
        world.assert_empty();
    });
}

/// Steps in the pools of one create, or of one remove: before and after each of two shares.
const STEPS: u32 = 4;

#[test]
fn a_create_killed_at_any_step_leaves_nothing() {
    apart(|| async {
        for step in 1..=STEPS {
            let world = World::new();
            world.wal.fuse.0.store(step, Ordering::SeqCst);
            let error = world.create("v", &[]).await.unwrap_err();
            assert!(matches!(error, VolumeError::Internal(_)), "step {step}: {error}");
            let world = world.restarted();
            assert_eq!(world.service.list(), [], "step {step}");
            world.service.clone().recover().await;
            world.assert_empty();
            world.create("v", &[]).await.unwrap();
        }
    });
}

#[test]
fn a_remove_killed_at_any_step_is_finished() {
    apart(|| async {
        for step in 1..=STEPS {
            let world = World::new();
            world.create("v", &[]).await.unwrap();
            world.mount("v", "one").await.unwrap();
            world.wal.fuse.0.store(step, Ordering::SeqCst);
            assert!(world.remove("v").await.is_err(), "step {step}");
            let world = world.restarted();
            assert_eq!(world.status("v").await.unwrap()["state"], "removing", "step {step}");
            world.service.clone().recover().await;
            world.assert_empty();
        }
    });
}

#[test]
fn a_view_that_a_killed_mount_left_goes_at_the_next_start() {
    apart(|| async {
        let world = World::new();
        for volume in ["v", "w"] {
            world.create(volume, &[]).await.unwrap();
            world.mount(volume, "one").await.unwrap();
        }
        durable::remove(&world.dir.path().join("mounts/v.record")).unwrap();
        let world = world.restarted();
        world.service.clone().recover().await;
        assert!(!world.dir.path().join("views/v").exists());
        assert!(world.dir.path().join("views/w/data").exists());
    });
}

#[test]
fn a_remove_that_was_interrupted_is_finished() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        world.default.deletes.store(1, Ordering::SeqCst);
        assert!(world.remove("v").await.is_err());
        assert_eq!(world.status("v").await.unwrap()["state"], "removing");
        assert!(world.mount("v", "a").await.is_err());
        let world = world.restarted();
        world.service.clone().recover().await;
        world.assert_empty();
        world.remove("v").await.unwrap();
    });
}

#[test]
fn data_that_no_record_speaks_of_is_kept() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let view = world.mount("v", "a").await.unwrap();
        durable::write(&view.join("wal/file"), b"precious").unwrap();
        world.unmount("v", "a").await.unwrap();
        durable::remove(&world.dir.path().join("catalog/v.record")).unwrap();
        let world = world.restarted();
        let error = world.create("v", &[]).await.unwrap_err();
        assert!(matches!(error, VolumeError::Orphan { .. }), "{error}");
        assert!(world.dir.path().join("wal/v/wal/file").exists());
    });
}

#[test]
fn a_mount_shows_every_role_until_its_last_id_goes() {
    apart(|| async {
        let world = World::new();
        let options = [("tablespaces", "a,b"), ("tablespace.b.pool", "wal")];
        world.create("v", &options).await.unwrap();
        let view = world.mount("v", "one").await.unwrap();
        assert_eq!(view, world.dir.path().join("views/v"));
        for path in ["data", "wal", "tablespaces/a", "tablespaces/b"] {
            durable::write(&view.join(path).join("file"), path.as_bytes()).unwrap();
        }
        for path in
            ["default/v/data", "wal/v/wal", "default/v/tablespaces/a", "wal/v/tablespaces/b"]
        {
            assert!(world.dir.path().join(path).join("file").exists(), "{path}");
        }
        // docker cp repeats the id of the running container.
        world.mount("v", "one").await.unwrap();
        world.mount("v", "two").await.unwrap();
        assert_eq!(world.status("v").await.unwrap()["mounts"]["one"], 2);
        for id in ["one", "two", "never", "one"] {
            assert!(view.join("data").exists(), "before {id}");
            world.unmount("v", id).await.unwrap();
        }
        assert!(!view.exists());
        world.unmount("v", "one").await.unwrap();
        world.unmount("unknown", "one").await.unwrap();
        world.remove("v").await.unwrap();
        world.assert_empty();
    });
}

#[test]
fn a_view_survives_the_plugin_and_is_made_again_when_it_is_gone() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let view = world.mount("v", "one").await.unwrap();
        let world = world.restarted();
        assert_eq!(world.mount("v", "two").await.unwrap(), view);
        world.unmount("v", "one").await.unwrap();
        assert!(view.join("data").exists());
        // As the engine does after a forced disable.
        mount::detach(&view).unwrap();
        let world = world.restarted();
        assert_eq!(world.status("v").await.unwrap()["mounts"], serde_json::json!({}));
        world.mount("v", "three").await.unwrap();
        world.unmount("v", "two").await.unwrap();
        assert!(view.join("wal").exists());
        world.unmount("v", "three").await.unwrap();
        assert!(!view.exists());
    });
}

#[test]
fn a_view_that_shows_something_else_is_replaced() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let view = world.mount("v", "one").await.unwrap();
        mount::detach(&view.join("wal")).unwrap();
        world.mount("v", "two").await.unwrap();
        durable::write(&view.join("wal/file"), b"x").unwrap();
        assert!(world.dir.path().join("wal/v/wal/file").exists());
        mount::private_tmpfs(&view).unwrap();
        world.mount("v", "three").await.unwrap();
        assert!(view.join("wal/file").exists());
    });
}

#[test]
fn what_a_container_did_to_the_root_is_mended_or_told() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let root = world.dir.path().join("default/v");
        fs::remove_dir(root.join("wal")).unwrap();
        let view = world.mount("v", "one").await.unwrap();
        durable::write(&view.join("wal/file"), b"x").unwrap();
        world.unmount("v", "one").await.unwrap();
        fs::remove_dir(root.join("wal")).unwrap();
        let outside = world.dir.path().join("outside");
        durable::create_dir(&outside, 0o700).unwrap();
        symlink(&outside, root.join("wal")).unwrap();
        let error = world.mount("v", "one").await.unwrap_err();
        assert!(error.to_string().contains("wal"), "{error}");
        assert!(!view.exists());
        assert_eq!(world.status("v").await.unwrap()["mounts"], serde_json::json!({}));
    });
}

#[test]
fn an_unreadable_record_is_shown_and_never_touched() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        durable::write(&world.dir.path().join("catalog/v.record"), b"not a record").unwrap();
        let world = world.restarted();
        assert_eq!(world.status("v").await.unwrap()["state"], "degraded");
        assert_eq!(world.service.list().len(), 1);
        let refused = [
            world.create("v", &[]).await,
            world.remove("v").await,
            world.mount("v", "a").await.map(drop),
        ];
        for refused in refused {
            assert!(matches!(refused, Err(VolumeError::Unreadable { .. })), "{refused:?}");
        }
        assert!(world.dir.path().join("default/v/data").exists());
    });
}

#[test]
fn bad_settings_keep_nobody_from_their_volumes() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        let world = World::at(world.dir, Some("POOL_SIZE=lots"));
        let error = world.create("w", &[]).await.unwrap_err();
        assert!(error.to_string().contains("POOL_SIZE=lots"), "{error}");
        world.mount("v", "one").await.unwrap();
        world.unmount("v", "one").await.unwrap();
        world.remove("v").await.unwrap();
        world.assert_empty();
    });
}

#[test]
fn a_share_that_is_gone_is_told() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        fs::remove_dir_all(world.dir.path().join("wal/v")).unwrap();
        let status = world.status("v").await.unwrap();
        assert_eq!(status["state"], "degraded");
        assert!(status["reason"].as_str().unwrap().contains("pool wal"), "{status}");
        assert!(matches!(world.mount("v", "a").await, Err(VolumeError::Pool { .. })));
        assert!(!Path::new(&world.dir.path().join("views/v")).exists());
    });
}

#[test]
fn a_pool_that_hangs_keeps_no_answer_waiting() {
    apart(|| async {
        let world = World::new();
        world.create("v", &[]).await.unwrap();
        assert_eq!(world.status("v").await.unwrap()["roles"]["data"]["used"], 0);
        world.default.slow.store(2000, Ordering::SeqCst);
        let begun = Instant::now();
        for _ in 0..3 {
            // What was seen before is shown meanwhile.
            let status = world.status("v").await.unwrap();
            assert_eq!(
                (&status["state"], &status["roles"]["data"]["used"]),
                (&"ok".into(), &0.into())
            );
        }
        assert_eq!(world.service.list().len(), 1);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        world.default.slow.store(0, Ordering::SeqCst);
    });
}

#[test]
fn operations_on_one_volume_come_one_after_another() {
    apart(|| async {
        let world = Arc::new(World::new());
        let mut tasks = Vec::new();
        for number in 0..12_u32 {
            let world = Arc::clone(&world);
            tasks.push(tokio::spawn(async move {
                let id = number.to_string();
                world.create("v", &[]).await.unwrap();
                // Removed by another meanwhile, or mounted.
                if world.mount("v", &id).await.is_ok() {
                    world.unmount("v", &id).await.unwrap();
                }
                world.remove("v").await.unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        world.assert_empty();
    });
}
