//! What is seen in a volume's directories: bytes used, and PostgreSQL's control file. Looked at
//! for `docker volume inspect` alone, never waited for long: dockerd asks for a volume several
//! times in each operation on it, and a pool may hang.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::spec::Role;
use super::usage;
use crate::name::VolumeName;
use crate::postgres::control::{self, Cluster};
use crate::sys::beneath::Dir;

/// How long an answer waits for what is being looked at.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long measuring one role may take.
const MEASURE: Duration = Duration::from_secs(2);

/// How long a measured size is good enough.
const FRESH: Duration = Duration::from_secs(10);

/// Volumes looked at together; more are answered with what was seen before.
const TOGETHER: usize = 4;

/// What was seen. Absent is what could not be seen in time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Bytes that each role takes.
    pub used: BTreeMap<Role, u64>,
    /// The cluster in `data`; none before initdb.
    pub cluster: Option<Cluster>,
}

/// The directories of a volume's roles.
pub(super) type RoleDirectories = Vec<(Role, PathBuf, String)>;

#[derive(Debug, Clone, Default)]
struct Seen {
    inspection: Inspection,
    measured: Option<Instant>,
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
    /// Looks at `volume`, whose roles are directories below shares.
    pub(super) async fn inspect(
        self: &Arc<Self>,
        volume: &VolumeName,
        roles: RoleDirectories,
    ) -> Inspection {
        let Some(before) = self.begin(volume) else { return self.last(volume) };
        let inspector = Arc::clone(self);
        let of = volume.clone();
        let look = tokio::task::spawn_blocking(move || {
            let _done = Looking { inspector: &inspector, volume: &of };
            let seen = look(&roles, before);
            inspector.state().seen.insert(of.clone(), seen);
        });
        // Whoever does not wait leaves the result to the next.
        drop(tokio::time::timeout(PATIENCE, look).await);
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

    fn last(&self, volume: &VolumeName) -> Inspection {
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

fn look(roles: &RoleDirectories, before: Seen) -> Seen {
    let open = |share: &Path, path: &str| Dir::open(share)?.open_dir(Path::new(path));
    let data = roles.iter().find(|(role, ..)| *role == Role::Data);
    let cluster = data.and_then(|(_, share, path)| control::read(&open(share, path).ok()?));
    if before.measured.is_some_and(|at| at.elapsed() < FRESH) {
        return Seen { inspection: Inspection { cluster, ..before.inspection }, ..before };
    }
    let mut used = BTreeMap::new();
    for (role, share, path) in roles {
        let measured =
            open(share, path).and_then(|dir| usage::used(&dir, Instant::now() + MEASURE));
        if let Ok(Some(bytes)) = measured {
            used.insert(role.clone(), bytes);
        }
    }
    Seen { inspection: Inspection { used, cluster }, measured: Some(Instant::now()) }
}
