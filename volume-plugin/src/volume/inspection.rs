//! What is seen in a volume's directories: bytes used, and PostgreSQL's control file. Looked at
//! for `docker volume inspect` alone, never waited for long: dockerd asks for a volume several
//! times in each operation on it, and a pool may hang.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::spec::Role;
use super::usage;
use crate::name::{ShareName, VolumeName};
use crate::pool::{Pool, PoolName};
use crate::postgres::cluster;
use crate::postgres::control::{self, Cluster};
use crate::sys::beneath::Dir;
use plugin_sdk::chain::chain;

/// How long a look may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// How long an answer waits for what is being looked at.
    pub(super) patience: Duration,
    /// How long measuring one role may take.
    pub(super) measure: Duration,
}

impl Effort {
    /// For `docker volume inspect`.
    const GLANCE: Self =
        Self { patience: Duration::from_millis(100), measure: Duration::from_secs(2) };
}

/// A measured size is good enough for so many times what measuring it took: one core is never
/// busy with it for more than a twentieth, and a small volume is shown as it is.
const FRESH: u32 = 20;

/// Volumes looked at together; more are answered with what was seen before.
const TOGETHER: usize = 4;

/// What was seen. Absent is what could not be seen in time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Bytes that each role takes.
    pub used: BTreeMap<Role, u64>,
    /// The cluster; none before initdb. Of several the one that was served last.
    pub cluster: Option<Cluster>,
    /// Why a role cannot be looked at.
    pub trouble: Option<String>,
}

/// A role and the pool that it lives in.
#[derive(Debug)]
pub(super) struct RolePlace {
    pub(super) role: Role,
    pub(super) share: ShareName,
    pub(super) pool_name: PoolName,
    /// Below the share's root; empty for the root itself.
    pub(super) path: String,
    pub(super) pool: Arc<dyn Pool>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    inspection: Inspection,
    measured: Option<Measured>,
}

/// When the sizes were measured, and how long that took.
#[derive(Debug, Clone, Copy)]
struct Measured {
    at: Instant,
    took: Duration,
}

impl Measured {
    fn is_fresh(self) -> bool {
        self.at.elapsed() < self.took * FRESH
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inspector {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: HashMap<VolumeName, Seen>,
    looking: Vec<VolumeName>,
}

impl Inspector {
    /// Looks at the roles of `volume`.
    pub(super) async fn inspect(
        self: &Arc<Self>,
        volume: &VolumeName,
        roles: Vec<RolePlace>,
    ) -> Inspection {
        self.inspect_with(volume, roles, Effort::GLANCE).await
    }

    /// As [`Inspector::inspect`], with another effort.
    pub(super) async fn inspect_with(
        self: &Arc<Self>,
        volume: &VolumeName,
        roles: Vec<RolePlace>,
        effort: Effort,
    ) -> Inspection {
        let Some(before) = self.begin(volume) else { return self.last(volume) };
        let inspector = Arc::clone(self);
        let of = volume.clone();
        let look = tokio::task::spawn_blocking(move || {
            let _done = Looking { inspector: &inspector, volume: &of };
            let seen = look(&roles, before, effort.measure);
            inspector.state().seen.insert(of.clone(), seen);
        });
        // Whoever does not wait leaves the result to the next.
        drop(tokio::time::timeout(effort.patience, look).await);
        self.last(volume)
    }

    /// Nothing is known any more.
    pub(super) fn forget(&self, volume: &VolumeName) {
        self.state().seen.remove(volume);
    }

    fn begin(&self, volume: &VolumeName) -> Option<Seen> {
        let mut state = self.state();
        if state.looking.len() >= TOGETHER || state.looking.contains(volume) {
            return None;
        }
        state.looking.push(volume.clone());
        Some(state.seen.get(volume).cloned().unwrap_or_default())
    }

    /// What was seen last.
    pub(super) fn last(&self, volume: &VolumeName) -> Inspection {
        self.state().seen.get(volume).map(|seen| seen.inspection.clone()).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a look, also one that panics.
struct Looking<'a> {
    inspector: &'a Inspector,
    volume: &'a VolumeName,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.inspector.state().looking.retain(|volume| volume != self.volume);
    }
}

fn look(roles: &[RolePlace], before: Seen, measure: Duration) -> Seen {
    let (mut cluster, mut trouble) = (None, None);
    let fresh = before.measured.is_some_and(Measured::is_fresh);
    let begun = Instant::now();
    let mut used = if fresh { before.inspection.used } else { BTreeMap::new() };
    for RolePlace { role, share, pool_name, path, pool } in roles {
        let share = match pool.locate(share) {
            Ok(share) => share,
            Err(error) => {
                trouble.get_or_insert_with(|| format!("pool {pool_name}: {}", chain(&error)));
                continue;
            }
        };
        // A directory that a container removed has nothing to show.
        let below = if path.is_empty() { "." } else { path };
        let directory = Dir::open(&share).and_then(|share| share.open_dir(Path::new(below)));
        let Ok(directory) = directory else { continue };
        if *role == Role::Data {
            cluster = if path.is_empty() { last_served(&share) } else { control::read(&directory) };
        }
        if !fresh && let Ok(Some(bytes)) = usage::used(&directory, Instant::now() + measure) {
            *used.entry(role.clone()).or_default() += bytes;
        }
    }
    let anew = || Measured { at: Instant::now(), took: begun.elapsed() };
    let measured = if fresh { before.measured } else { Some(anew()) };
    Seen { inspection: Inspection { used, cluster, trouble }, measured }
}

/// The cluster at or below `root` that was served last.
fn last_served(root: &Path) -> Option<Cluster> {
    let found = cluster::find(root, cluster::OF_IMAGES).ok()?.found;
    control::read(&cluster::last_served(&found)?.dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_kept_for_as_long_as_measuring_it_was_dear() {
        let ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let fresh = |took| Measured { at: ago, took }.is_fresh();
        assert!(!fresh(Duration::from_millis(40)));
        assert!(fresh(Duration::from_millis(100)));
    }
}
