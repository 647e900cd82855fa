//! The wiring: from paths and settings to a service, opened as soon as its state can be.
//!
//! dockerd disables a plugin that ends in its first second, so nothing that may be wrong with
//! the state ends the process: it is logged, told to each call, and tried again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugin_sdk::settings::InForce;
use plugin_sdk::state::{Fleeting, outlives_the_process};
use plugin_sdk::{durable, failpoint, record};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::pool::{
    Bounds, DirPool, ImagePlan, ImagePool, Opener, PoolError, PoolName, PoolRegistry,
};
use crate::settings::Settings;
use crate::sys::{Doing, SysError, file, mount, mountinfo};
use crate::volume::catalog::{self, Catalog};
use crate::volume::error::VolumeError;
use crate::volume::listing::ListedSnapshots;
use crate::volume::mounts::{self, Mounts, this_boot};
use crate::volume::service::{Parts, Service};
use crate::volume::spec::Layout;
use crate::volume::trash::TrashTime;
use crate::volume::view;
use plugin_sdk::chain::chain;

/// What the state directory holds, in the formats that this program writes and the newest it reads.
pub const FORMATS: [record::Format; 2] =
    [(catalog::KIND, catalog::VERSION), (mounts::KIND, mounts::VERSION)];

/// How long after a failure the state is tried again without being asked.
const RETRY: Duration = Duration::from_secs(5);

/// Where things are in the plugin's mount namespace.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The plugin's directory on the host.
    pub state: PathBuf,
    /// Mount points of the pools, seen by this plugin alone.
    pub pools: PathBuf,
    /// The views, propagated to the host.
    pub views: PathBuf,
    /// The socket that dockerd connects to.
    pub socket: PathBuf,
}

impl Default for Paths {
    /// As config.json has them.
    fn default() -> Self {
        Self {
            state: "/host/state/pgvol".into(),
            pools: "/pools".into(),
            views: "/mnt/volumes".into(),
            socket: "/run/docker/plugins/pgvol.sock".into(),
        }
    }
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It would not outlive the process.
    #[error(transparent)]
    Fleeting(#[from] Fleeting),
    /// A disk of the host is mounted over the directory, which this plugin would write below.
    #[error(
        "on the host something is mounted at {}, which the plugin cannot see: \
         set state.source to a directory on that disk", .0.display()
    )]
    Shadowed(PathBuf),
    /// Another process has it.
    #[error("another pgvol is using {}", .0.display())]
    Locked(PathBuf),
    /// The catalog or a mount cannot be dealt with.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

/// The plugin: its service, once there is one.
#[derive(Debug)]
pub struct App {
    paths: Paths,
    pool_bounds: Bounds,
    settings: InForce,
    trash_time: TrashTime,
    listed: ListedSnapshots,
    default_layout: Layout,
    bad_settings: Option<String>,
    state: OnceCell<Open>,
}

#[derive(Debug)]
struct Open {
    service: Arc<Service>,
    /// Keeps a second plugin away from the state.
    _lock: File,
}

impl App {
    /// The plugin on these paths.
    pub fn new(paths: Paths, settings: &Settings) -> Arc<Self> {
        let bad_settings = settings.bad.as_ref().map(ToString::to_string);
        let Settings {
            default_layout, listed, pool_size: size, pool_max: limit, trash_time, ..
        } = *settings;
        let in_force = settings.in_force.clone();
        Arc::new(Self {
            paths,
            pool_bounds: Bounds { size, limit },
            trash_time,
            default_layout,
            listed,
            settings: in_force,
            bad_settings,
            state: OnceCell::new(),
        })
    }

    /// The plugin's directory on the host, in this mount namespace.
    pub fn state_directory(&self) -> &Path {
        &self.paths.state
    }

    /// The settings that this process goes by, and what is wrong with those that it was given.
    pub fn settings(&self) -> (&InForce, Option<&str>) {
        (&self.settings, self.bad_settings.as_deref())
    }

    /// The service, opened now if it is not.
    pub async fn service(self: &Arc<Self>) -> Result<Arc<Service>, StateError> {
        let open = || async {
            let app = Arc::clone(self);
            match tokio::task::spawn_blocking(move || app.open()).await {
                Ok(opened) => opened,
                Err(panic) => Err(VolumeError::Internal(panic.to_string()).into()),
            }
        };
        Ok(Arc::clone(&self.state.get_or_try_init(open).await?.service))
    }

    /// Opens the state, trying until it is there, puts it in order, then keeps trash, pools and
    /// schedules.
    pub async fn start(self: Arc<Self>, shutdown: CancellationToken) {
        if let Some(reason) = &self.bad_settings {
            tracing::error!(reason, "settings are wrong; nothing new is created");
        }
        let recover = async {
            loop {
                match self.service().await {
                    Ok(service) => {
                        let noted = service.noted_ids();
                        Arc::clone(&service).recover().await;
                        let keep_pools = Arc::clone(&service).keep_pools();
                        let schedules = Arc::clone(&service).keep_schedules();
                        let idle_ids = Arc::clone(&service).drop_idle_ids_later(noted);
                        tokio::join!(service.keep_trash(), keep_pools, schedules, idle_ids);
                        return;
                    }
                    Err(error) => {
                        tracing::error!(error = chain(&error), "the state cannot be used");
                    }
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = recover => {}
        }
    }

    fn open(&self) -> Result<Open, StateError> {
        let Paths { state, pools, views, .. } = &self.paths;
        if let Some(source) = state.parent() {
            outlives_the_process(source).doing(|| "read what is mounted".to_owned())??;
        }
        durable::create_dir(state, 0o700).doing(|| format!("make {}", state.display()))?;
        refuse_shadowed(state)?;
        let lock = state.join("lock");
        let lock = file::lock(&lock).doing(|| format!("lock {}", lock.display()))?;
        let lock = lock.ok_or_else(|| StateError::Locked(state.clone()))?;
        failpoint::arm(state.join("failpoint"));
        for (directory, mode) in [(pools, 0o700), (views, 0o755)] {
            durable::create_dir(directory, mode)
                .doing(|| format!("make {}", directory.display()))?;
        }
        let mounts = mountinfo::own().doing(|| "read what is mounted".to_owned())?;
        if mountinfo::at(&mounts, pools).is_none() {
            mount::private_tmpfs(pools)
                .doing(|| format!("mount a tmpfs on {}", pools.display()))?;
        }
        let staging = pools.join(".staging");
        durable::create_dir(&staging, 0o700).doing(|| format!("make {}", staging.display()))?;
        let service = Service::new(Parts {
            catalog: Catalog::load(state.join("catalog"))?,
            mounts: Mounts::load(state.join("mounts"), this_boot()?)?,
            pools: self.pools(),
            views: (views.clone(), staging),
            unsettled: view::UNSETTLED,
            bad_settings: self.bad_settings.clone(),
            trash_time: self.trash_time,
            listed: self.listed,
            default_layout: self.default_layout,
        })?;
        Ok(Open { service, _lock: lock })
    }

    fn pools(&self) -> PoolRegistry {
        let image = ImagePlan {
            image: self.paths.state.join("pools/default.img"),
            mount_point: self.paths.pools.join("default"),
            bounds: self.pool_bounds,
        };
        let wal = self.paths.state.join("wal");
        let bad_settings = self.bad_settings.clone();
        let open_image: Opener = Arc::new(move || match &bad_settings {
            Some(reason) if !image.image.exists() => Err(PoolError::NotMade(reason.clone())),
            _ => Ok(Arc::new(ImagePool::open(&image)?)),
        });
        let open_wal: Opener = Arc::new(move || Ok(Arc::new(DirPool::open(wal.clone())?)));
        PoolRegistry::default()
            .with(PoolName::new(PoolName::DEFAULT), open_image)
            .with(PoolName::new(PoolName::WAL), open_wal)
    }
}

/// The state directory is a bind mount without what the host has mounted below its source. A
/// disk of the host at or below the plugin's own directory would be bypassed in silence.
fn refuse_shadowed(state: &Path) -> Result<(), StateError> {
    let own = mountinfo::own().doing(|| "read what is mounted".to_owned())?;
    let host = mountinfo::of("1").unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot see whether the host has a disk over the state directory");
        Vec::new()
    });
    match shadow(&own, &host, state) {
        Some(point) => Err(StateError::Shadowed(point)),
        None => Ok(()),
    }
}

/// The mount of `host` that hides part of `state`, a directory by the mounts of `own`.
fn shadow(own: &[mountinfo::Mount], host: &[mountinfo::Mount], state: &Path) -> Option<PathBuf> {
    let place = mountinfo::place(own, state)?;
    let paths: Vec<_> = mountinfo::points_of(host, &place).collect();
    let hides = |mount: &&mountinfo::Mount| {
        // Showing the very same directory hides nothing.
        let same = mount.device == place.device && place.path.starts_with(&mount.root);
        !same && paths.iter().any(|path| mount.point.starts_with(path))
    };
    host.iter().find(hides).map(|mount| mount.point.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mountinfo::Mount;

    /// On the root mount, which is number 1.
    fn mounted(device: &str, root: &str, point: &str) -> Mount {
        Mount {
            id: u32::from(point != "/") + 1,
            parent: 1,
            device: device.into(),
            root: root.into(),
            point: point.into(),
            shared: None,
            master: None,
        }
    }

    #[test]
    fn a_disk_of_the_host_over_the_state_is_noticed() {
        let own = [mounted("0:9", "/", "/"), mounted("8:1", "/var/lib", "/host/state")];
        let state = Path::new("/host/state/pgvol");
        let mut host = vec![mounted("8:1", "/", "/"), mounted("8:2", "/", "/var/lib/docker")];
        assert_eq!(shadow(&own, &host, state), None);
        host.push(mounted("8:3", "/", "/var/lib/pgvol"));
        assert_eq!(shadow(&own, &host, state), Some("/var/lib/pgvol".into()));
        host[2].point = "/var/lib/pgvol/pools".into();
        assert_eq!(shadow(&own, &host, state), Some("/var/lib/pgvol/pools".into()));
        host[2].point = "/var/lib/pgvolume".into();
        assert_eq!(shadow(&own, &host, state), None);
    }

    #[test]
    fn a_source_on_a_disk_of_its_own_is_fine() {
        let own = [mounted("0:9", "/", "/"), mounted("8:3", "/", "/host/state")];
        let host = [mounted("8:1", "/", "/"), mounted("8:3", "/", "/srv/disk")];
        assert_eq!(shadow(&own, &host, Path::new("/host/state/pgvol")), None);
    }

    #[test]
    fn the_same_directory_mounted_again_hides_nothing() {
        let own = [mounted("8:1", "/", "/"), mounted("8:1", "/srv/x", "/state")];
        assert_eq!(shadow(&own, &own, Path::new("/state")), None);
    }
}
