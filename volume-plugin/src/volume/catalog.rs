//! The catalog: one checksummed record a volume, in memory and on disk.
//!
//! A record is written before anything of the volume is made (`creating`), again when all is
//! there (`ready`), is renamed before anything is deleted (`removing`), and goes last. So whatever a killed
//! process left behind has a record that says what to do about it. Whether a volume exists is
//! answered out of memory: dockerd takes an error for "no such volume" and forgets its labels.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use plugin_sdk::{durable, record};
use serde::{Deserialize, Serialize};

use super::spec::VolumeSpec;
use crate::name::VolumeName;
use crate::sys::{Doing, SysError};

pub(crate) const KIND: &str = "pgvol-volume";
pub(crate) const VERSION: u32 = 1;

/// Ending of the records' file names; anything else in the directory is none.
const ENDING: &str = ".record";

/// Ending once the volume is being deleted. Said by the name, since renaming needs no space: on a
/// full disk a removal must still be possible.
const ENDING_REMOVING: &str = ".removing";

/// How far a volume has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its shares are being made; to be undone if that ends early.
    Creating,
    /// It is whole.
    Ready,
    /// Its shares are being deleted; to be finished.
    Removing,
}

/// What is known of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name; a record under another file name is not believed.
    pub name: VolumeName,
    /// How far it has come.
    pub phase: Phase,
    /// When it was created.
    pub created: Timestamp,
    /// What it consists of.
    pub spec: VolumeSpec,
}

/// What the catalog has under a name.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A volume.
    Volume(Record),
    /// A volume whose record cannot be read, and why: shown, and never touched.
    Unreadable(String),
}

/// A record that could not be made durable.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It has no form on disk.
    #[error(transparent)]
    Encode(#[from] record::RecordError),
    /// The system refused.
    #[error(transparent)]
    System(#[from] SysError),
}

/// See the module.
#[derive(Debug)]
pub struct Catalog {
    directory: PathBuf,
    entries: Mutex<BTreeMap<VolumeName, Entry>>,
}

impl Catalog {
    /// Reads the catalog in `directory`, which is made if missing.
    pub fn load(directory: PathBuf) -> Result<Self, SysError> {
        let doing = || format!("read the catalog in {}", directory.display());
        durable::create_dir(&directory, 0o700).doing(doing)?;
        durable::sweep(&directory).doing(doing)?;
        let mut entries = BTreeMap::new();
        for found in fs::read_dir(&directory).doing(doing)? {
            let found = found.doing(doing)?;
            let file = found.file_name();
            let named =
                |ending| file.to_str().and_then(|file| file.strip_suffix(ending)?.parse().ok());
            let removing = named(ENDING_REMOVING);
            let is_removing = removing.is_some();
            if let Some(name) = removing.or_else(|| named(ENDING)) {
                let mut entry = read(&found.path(), &name);
                if let (Entry::Volume(record), true) = (&mut entry, is_removing) {
                    record.phase = Phase::Removing;
                }
                if let Entry::Unreadable(reason) = &entry {
                    tracing::error!(volume = %name, reason, "a record cannot be read");
                }
                entries.insert(name, entry);
            }
        }
        Ok(Self { directory, entries: Mutex::new(entries) })
    }

    /// What there is under `name`.
    pub fn get(&self, name: &VolumeName) -> Option<Entry> {
        self.entries().get(name).cloned()
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<(VolumeName, Entry)> {
        self.entries().iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }

    /// Writes `record` durably, then takes it as the truth.
    pub fn put(&self, record: Record) -> Result<(), CatalogError> {
        let path = self.path(&record.name);
        let bytes = record::encode(KIND, VERSION, &record)?;
        durable::write(&path, &bytes).doing(|| format!("write {}", path.display()))?;
        self.entries().insert(record.name.clone(), Entry::Volume(record));
        Ok(())
    }

    /// Notes durably that the volume of `record` is being deleted. Needs no space.
    pub fn begin_removal(&self, mut record: Record) -> Result<(), CatalogError> {
        let (from, to) = (self.path(&record.name), self.removing_path(&record.name));
        durable::rename(&from, &to).doing(|| format!("rename {}", from.display()))?;
        record.phase = Phase::Removing;
        self.entries().insert(record.name.clone(), Entry::Volume(record));
        Ok(())
    }

    /// Removes the record of `name` durably, then forgets it.
    pub fn forget(&self, name: &VolumeName) -> Result<(), CatalogError> {
        for path in [self.path(name), self.removing_path(name)] {
            durable::remove(&path).doing(|| format!("remove {}", path.display()))?;
        }
        self.entries().remove(name);
        Ok(())
    }

    fn path(&self, name: &VolumeName) -> PathBuf {
        self.directory.join(format!("{name}{ENDING}"))
    }

    fn removing_path(&self, name: &VolumeName) -> PathBuf {
        self.directory.join(format!("{name}{ENDING_REMOVING}"))
    }

    /// Held only for an access to memory, which leaves no half-done change to a panic.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<VolumeName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path, name: &VolumeName) -> Entry {
    let read = || -> Result<Record, String> {
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        let record: Record =
            record::decode(KIND, VERSION, &bytes).map_err(|error| error.to_string())?;
        if record.name == *name {
            Ok(record)
        } else {
            Err(format!("the record is that of volume {}", record.name))
        }
    };
    match read() {
        Ok(record) => Entry::Volume(record),
        Err(reason) => Entry::Unreadable(format!("{}: {reason}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::PoolName;
    use crate::volume::options;
    use proptest::prelude::*;

    fn record(name: &str, phase: Phase, label: &str) -> Record {
        let raw = [("label.x".to_owned(), label.to_owned())].into();
        let pools = [PoolName::new("default"), PoolName::new("wal")];
        Record {
            name: name.parse().unwrap(),
            phase,
            created: "2026-11-22T12:00:00Z".parse().unwrap(),
            spec: options::parse(&raw, &pools).unwrap(),
        }
    }

    fn whole(catalog: &Catalog, name: &str) -> Record {
        match catalog.get(&name.parse().unwrap()) {
            Some(Entry::Volume(record)) => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_put_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::load(dir.path().join("catalog")).unwrap();
        catalog.put(record("a", Phase::Creating, "1")).unwrap();
        catalog.put(record("a", Phase::Ready, "1")).unwrap();
        catalog.put(record("b", Phase::Ready, "2")).unwrap();
        catalog.begin_removal(record("b", Phase::Ready, "2")).unwrap();
        let between = Catalog::load(dir.path().join("catalog")).unwrap();
        assert_eq!(whole(&between, "b"), record("b", Phase::Removing, "2"));
        catalog.forget(&"b".parse().unwrap()).unwrap();
        let again = Catalog::load(dir.path().join("catalog")).unwrap();
        assert_eq!(whole(&again, "a"), record("a", Phase::Ready, "1"));
        assert_eq!(again.all().len(), 1);
    }

    #[test]
    fn volumes_whose_names_look_like_our_files_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::load(dir.path().to_owned()).unwrap();
        for name in ["a", "a.record", "a.tmp", "a.record.tmp", "a.removing"] {
            catalog.put(record(name, Phase::Ready, name)).unwrap();
        }
        let again = Catalog::load(dir.path().to_owned()).unwrap();
        for name in ["a", "a.record", "a.tmp", "a.record.tmp", "a.removing"] {
            assert_eq!(whole(&again, name).spec.labels["x"], name);
        }
    }

    #[test]
    fn a_write_cut_short_is_swept_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::File::create(dir.path().join("a.record.tmp")).unwrap();
        assert!(Catalog::load(dir.path().to_owned()).unwrap().all().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_or_misplaced_record_is_still_a_volume() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::load(dir.path().to_owned()).unwrap();
        catalog.put(record("a", Phase::Ready, "1")).unwrap();
        let bytes = fs::read(dir.path().join("a.record")).unwrap();
        durable::write(&dir.path().join("b.record"), &bytes).unwrap();
        durable::write(&dir.path().join("a.record"), &bytes[..bytes.len() - 1]).unwrap();
        let again = Catalog::load(dir.path().to_owned()).unwrap();
        for (name, reason) in [("a", "damaged"), ("b", "volume a")] {
            match again.get(&name.parse().unwrap()) {
                Some(Entry::Unreadable(why)) => assert!(why.contains(reason), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_write_that_fails_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::load(dir.path().to_owned()).unwrap();
        catalog.put(record("a", Phase::Ready, "1")).unwrap();
        durable::create_dir(&dir.path().join("a.record.tmp"), 0o700).unwrap();
        assert!(catalog.put(record("a", Phase::Removing, "1")).is_err());
        assert_eq!(whole(&catalog, "a").phase, Phase::Ready);
    }

    proptest! {
        #[test]
        fn every_record_is_read_as_it_was_written(
            name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", label in "\\PC{0,60}", seconds in 0_i64..4_000_000_000,
        ) {
            let mut written = record(&name, Phase::Ready, &label);
            written.created = Timestamp::from_second(seconds).unwrap();
            let bytes = record::encode(KIND, VERSION, &written).unwrap();
            prop_assert_eq!(record::decode::<Record>(KIND, VERSION, &bytes).unwrap(), written);
        }
    }
}
