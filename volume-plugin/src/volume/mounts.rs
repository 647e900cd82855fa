//! Who has a volume mounted: Docker's mount ids, counted, since one id is mounted several times
//! (`docker cp` on a running container repeats that container's).
//!
//! The counts say when a view may go and are shown to the user. They are not proof of use: an
//! engine that was killed never unmounts, so nothing is refused because of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use plugin_sdk::{durable, record};
use serde::{Deserialize, Serialize};

use super::catalog::CatalogError;
use crate::name::{MountId, VolumeName};
use crate::sys::{Doing, SysError};

pub(crate) const KIND: &str = "pgvol-mounts";
pub(crate) const VERSION: u32 = 1;
const ENDING: &str = ".record";

/// Ids of one volume and how often each is mounted.
pub type MountIds = BTreeMap<MountId, u32>;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Mounts end with the boot that they were made in.
    boot: String,
    ids: MountIds,
}

/// The ids of every volume, in memory and on disk.
#[derive(Debug)]
pub struct Mounts {
    directory: PathBuf,
    boot: String,
    volumes: Mutex<BTreeMap<VolumeName, MountIds>>,
}

impl Mounts {
    /// Reads what is in `directory`, made if missing. What an earlier boot left, or what cannot
    /// be read, is dropped.
    pub fn load(directory: PathBuf, boot: String) -> Result<Self, SysError> {
        let doing = || format!("read the mounts in {}", directory.display());
        durable::create_dir(&directory, 0o700).doing(doing)?;
        durable::sweep(&directory).doing(doing)?;
        let mut volumes = BTreeMap::new();
        for found in fs::read_dir(&directory).doing(doing)? {
            let found = found.doing(doing)?;
            let name = found.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(ENDING)?.parse().ok())
            else {
                continue;
            };
            let bytes = fs::read(found.path()).doing(doing)?;
            match record::decode::<Record>(KIND, VERSION, &bytes) {
                Ok(record) if record.boot == boot => {
                    volumes.insert(name, record.ids);
                }
                Ok(_) => durable::remove(&found.path()).doing(doing)?,
                Err(error) => {
                    tracing::warn!(volume = %name, %error, "mount ids cannot be read");
                    durable::remove(&found.path()).doing(doing)?;
                }
            }
        }
        Ok(Self { directory, boot, volumes: Mutex::new(volumes) })
    }

    /// The ids of `volume`.
    pub fn of(&self, volume: &VolumeName) -> MountIds {
        self.volumes().get(volume).cloned().unwrap_or_default()
    }

    /// Volumes that have ids.
    pub fn mounted(&self) -> Vec<VolumeName> {
        self.volumes().keys().cloned().collect()
    }

    /// Counts one more mount of `id`.
    pub fn add(&self, volume: &VolumeName, id: &MountId) -> Result<(), CatalogError> {
        let mut ids = self.of(volume);
        *ids.entry(id.clone()).or_default() += 1;
        self.put(volume, ids)
    }

    /// Counts one mount of `id` less and tells whether any mount is left. An id that is not
    /// there is no error.
    pub fn take(&self, volume: &VolumeName, id: &MountId) -> Result<Left, CatalogError> {
        let mut ids = self.of(volume);
        match ids.get_mut(id) {
            None => {}
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => drop(ids.remove(id)),
        }
        let left = if ids.is_empty() { Left::None } else { Left::Some };
        self.put(volume, ids)?;
        Ok(left)
    }

    /// Drops all ids of `volume`.
    pub fn clear(&self, volume: &VolumeName) -> Result<(), CatalogError> {
        self.put(volume, MountIds::new())
    }

    fn put(&self, volume: &VolumeName, ids: MountIds) -> Result<(), CatalogError> {
        if self.of(volume) == ids {
            return Ok(());
        }
        let path = self.directory.join(format!("{volume}{ENDING}"));
        if ids.is_empty() {
            durable::remove(&path).doing(|| format!("remove {}", path.display()))?;
            self.volumes().remove(volume);
        } else {
            let bytes = record::encode(
                KIND,
                VERSION,
                &Record { boot: self.boot.clone(), ids: ids.clone() },
            )?;
            match durable::write(&path, &bytes) {
                // Whoever makes room on a full disk has to mount the volume. Without a record,
                // the next start takes the view away, and containers keep theirs.
                Err(error) if is_full(&error) => {
                    tracing::warn!(volume = %volume, %error, "mount ids are not on disk");
                }
                other => other.doing(|| format!("write {}", path.display()))?,
            }
            self.volumes().insert(volume.clone(), ids);
        }
        Ok(())
    }

    fn volumes(&self) -> MutexGuard<'_, BTreeMap<VolumeName, MountIds>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Reads the record of a volume's ids, whatever `bytes` are.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read(bytes: &[u8]) {
    drop(record::decode::<Record>(KIND, VERSION, bytes));
}

/// Whether a volume is still mounted by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// By somebody.
    Some,
    /// By nobody.
    None,
}

/// What tells this boot from every other.
pub fn this_boot() -> Result<String, SysError> {
    match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        other => other.map(|id| id.trim().to_owned()).doing(|| "read the boot id".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(dir: &tempfile::TempDir, boot: &str) -> Mounts {
        Mounts::load(dir.path().join("mounts"), boot.to_owned()).unwrap()
    }

    fn name(text: &str) -> VolumeName {
        text.parse().unwrap()
    }

    fn id(text: &str) -> MountId {
        text.parse().unwrap()
    }

    #[test]
    fn an_id_counts_as_often_as_it_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = mounts(&dir, "1");
        let volume = name("v");
        for which in ["a", "a", "b"] {
            mounts.add(&volume, &id(which)).unwrap();
        }
        assert_eq!(mounts.take(&volume, &id("a")).unwrap(), Left::Some);
        assert_eq!(mounts.take(&volume, &id("b")).unwrap(), Left::Some);
        assert_eq!(mounts.take(&volume, &id("a")).unwrap(), Left::None);
        assert!(mounts.mounted().is_empty());
    }

    #[test]
    fn taking_what_is_not_there_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = mounts(&dir, "1");
        assert_eq!(mounts.take(&name("v"), &id("a")).unwrap(), Left::None);
        mounts.add(&name("v"), &id("a")).unwrap();
        assert_eq!(mounts.take(&name("v"), &id("x")).unwrap(), Left::Some);
        assert_eq!(mounts.of(&name("v")), MountIds::from([(id("a"), 1)]));
    }

    #[test]
    fn ids_survive_a_crash_and_end_with_the_boot() {
        let dir = tempfile::tempdir().unwrap();
        mounts(&dir, "1").add(&name("v"), &id("a")).unwrap();
        assert_eq!(mounts(&dir, "1").mounted(), [name("v")]);
        assert!(mounts(&dir, "2").mounted().is_empty());
        assert!(mounts(&dir, "1").mounted().is_empty());
    }

    #[test]
    fn a_damaged_record_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        mounts(&dir, "1").add(&name("v"), &id("a")).unwrap();
        durable::write(&dir.path().join("mounts/v.record"), b"pgvol-mounts 1").unwrap();
        assert!(mounts(&dir, "1").mounted().is_empty());
    }
}
