//! What is watched, by volume and by control file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::watched::Watched;
use crate::name::VolumeName;
use crate::sys::file::FileId;

/// See the module. Its lock is held for accesses to memory alone: the thread that answers takes
/// it too.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    volumes: BTreeMap<VolumeName, Entry>,
    controls: HashMap<FileId, Arc<Watched>>,
}

/// A volume that is guarded.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// Its root.
    pub(super) root: PathBuf,
    /// Directories of the root that hold no clusters.
    pub(super) except: Vec<String>,
    /// What is watched of it.
    pub(super) directories: Vec<Arc<Watched>>,
    /// Why not all of it is.
    pub(super) trouble: Option<String>,
    /// Held by the one that looks what is in it.
    pub(super) looks: Arc<Mutex<()>>,
}

impl Table {
    /// Makes sure that there is an entry for `volume`.
    pub(super) fn enter(&self, volume: &VolumeName, root: PathBuf, except: Vec<String>) {
        let mut inner = self.inner();
        let entry = inner.volumes.entry(volume.clone()).or_default();
        (entry.root, entry.except) = (root, except);
    }

    /// Drops the entry of `volume` and gives it.
    pub(super) fn leave(&self, volume: &VolumeName) -> Option<Entry> {
        let mut inner = self.inner();
        let entry = inner.volumes.remove(volume)?;
        inner.controls.retain(|_, watched| watched.volume != *volume);
        Some(entry)
    }

    pub(super) fn entry(&self, volume: &VolumeName) -> Option<Entry> {
        self.inner().volumes.get(volume).cloned()
    }

    pub(super) fn volumes(&self) -> Vec<VolumeName> {
        self.inner().volumes.keys().cloned().collect()
    }

    /// Volumes of which not all is watched.
    pub(super) fn troubled(&self) -> HashSet<VolumeName> {
        let inner = self.inner();
        let troubled = inner.volumes.iter().filter(|(_, entry)| entry.trouble.is_some());
        troubled.map(|(volume, _)| volume.clone()).collect()
    }

    /// Adds a directory of a volume that has an entry, unless it is there already; gives the one
    /// that is there then.
    pub(super) fn add(&self, watched: Watched) -> Option<(Arc<Watched>, Added)> {
        let mut inner = self.inner();
        let entry = inner.volumes.get_mut(&watched.volume)?;
        if let Some(there) = entry.directories.iter().find(|there| there.id == watched.id) {
            return Some((Arc::clone(there), Added::Before));
        }
        let watched = Arc::new(watched);
        entry.directories.push(Arc::clone(&watched));
        Some((watched, Added::Now))
    }

    /// Keeps of `volume` only the directories in `keep`, and gives the others.
    pub(super) fn keep(&self, volume: &VolumeName, keep: &HashSet<FileId>) -> Vec<Arc<Watched>> {
        let mut inner = self.inner();
        let Some(entry) = inner.volumes.get_mut(volume) else { return Vec::new() };
        let (kept, gone) =
            entry.directories.drain(..).partition(|watched| keep.contains(&watched.id));
        entry.directories = kept;
        inner
            .controls
            .retain(|_, of| !gone.iter().any(|gone: &Arc<Watched>| Arc::ptr_eq(gone, of)));
        gone
    }

    pub(super) fn set_trouble(&self, volume: &VolumeName, trouble: Option<String>) {
        if let Some(entry) = self.inner().volumes.get_mut(volume) {
            entry.trouble = trouble;
        }
    }

    /// The control file of `watched` is `control`, and none that it had before.
    pub(super) fn index(&self, watched: &Arc<Watched>, control: FileId) {
        let mut inner = self.inner();
        inner.controls.retain(|_, of| !Arc::ptr_eq(of, watched));
        inner.controls.insert(control, Arc::clone(watched));
    }

    pub(super) fn by_control(&self, file: FileId) -> Option<Arc<Watched>> {
        self.inner().controls.get(&file).cloned()
    }

    /// All directories on the file system `device`.
    pub(super) fn on(&self, device: u64) -> Vec<Arc<Watched>> {
        let inner = self.inner();
        let all = inner.volumes.values().flat_map(|entry| &entry.directories);
        all.filter(|watched| watched.id.device == device).cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a directory was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It was not.
    Now,
    /// It was.
    Before,
}
