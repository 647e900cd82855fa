//! The catalog: one checksummed record a volume, in memory and on disk.
//!
//! A record is written before anything of the volume is made (`creating`) and again when all is
//! there (`ready`). It is renamed when the volume goes to the trash or comes back (`trash` has
//! the names), renamed again before anything is deleted, and goes last. So whatever a killed
//! process left behind has a record that says what to do about it. Whether a volume exists is
//! answered out of memory: dockerd takes an error for "no such volume" and forgets its labels.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use plugin_sdk::{durable, record};

use super::trash::{self, Stage, Trashed};
use crate::name::{ShareName, SnapshotName, VolumeName};
use crate::sys::{Doing, SysError, step};

pub use super::record::{Phase, Record};

pub(crate) const KIND: &str = "pgvol-volume";

/// 2: the name of the share, which need not be the volume's. 3: the layout `pgdata`, moves and sizes.
/// 4: snapshots and clones. 5: snapshots of the level `barrier`, restores, roles with a size of their own.
/// 6: snapshots of the level `backup`, checks that were not passed, prepared snapshots.
pub(crate) const VERSION: u32 = 6;

/// Ending of the names of volumes' records; anything else in the directory is the trash's, or none.
const ENDING: &str = ".record";

/// Ending of the names of snapshots' records, in front of which is the share: a snapshot belongs to its
/// volume's share, and goes where that goes.
const SNAPSHOT: &str = ".snapshot";

/// What the catalog has under a name.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly every entry is the large one")]
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
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    volumes: BTreeMap<VolumeName, Entry>,
    /// Those of every volume that has a record, in the trash too.
    snapshots: BTreeMap<ShareName, Entry>,
    trash: BTreeMap<ShareName, Trashed>,
}

impl Tables {
    /// A share that a volume has is no longer in the trash: a process was killed between the two
    /// steps that take it out under another name.
    fn forget_restored(&mut self, directory: &Path) -> Result<(), SysError> {
        for entry in self.volumes.values().chain(self.snapshots.values()) {
            let Entry::Volume(record) = entry else { continue };
            if let Some(over) = self.trash.remove(&record.share) {
                let path = directory.join(trash::file_name(&record.share, over.stage));
                durable::remove(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

impl Catalog {
    /// Reads the catalog in `directory`, which is made if missing.
    pub fn load(directory: PathBuf) -> Result<Self, SysError> {
        let doing = || format!("read the catalog in {}", directory.display());
        durable::create_dir(&directory, 0o700).doing(doing)?;
        durable::sweep(&directory).doing(doing)?;
        let mut tables = Tables::default();
        for found in fs::read_dir(&directory).doing(doing)? {
            let found = found.doing(doing)?;
            let file = found.file_name();
            let Some(file) = file.to_str() else { continue };
            if let Some(name) = file.strip_suffix(ENDING).and_then(parse_volume) {
                let entry = read(&found.path(), |record| record.name == name);
                let entry = entry.map_or_else(Entry::Unreadable, Entry::Volume);
                tables.volumes.insert(name, entry);
            } else if let Some(share) = file.strip_suffix(SNAPSHOT).and_then(parse_snapshot) {
                let entry = read(&found.path(), |record| record.share == share);
                let entry = entry.map_or_else(Entry::Unreadable, Entry::Volume);
                tables.snapshots.insert(share, entry);
            } else if let Some((share, stage)) = trash::parse_file_name(file) {
                let record = read(&found.path(), |record| record.share == share);
                tables.trash.insert(share, Trashed { stage, record });
            }
        }
        tables.forget_restored(&directory)?;
        Ok(Self { directory, tables: Mutex::new(tables) })
    }

    /// What there is under `name`, be it a volume's or a snapshot's.
    pub fn get(&self, name: &VolumeName) -> Option<Entry> {
        let tables = self.tables();
        let Some(snapshot) = name.snapshot() else { return tables.volumes.get(name).cloned() };
        let of = tables.share_of(&name.volume())?;
        let (_, entry) = tables.snapshots_of(&of).find(|(found, _)| *found == snapshot)?;
        Some(named(entry.clone(), name))
    }

    /// All volumes and snapshots, by name; those of volumes in the trash are not among them.
    pub fn all(&self) -> Vec<(VolumeName, Entry)> {
        let tables = self.tables();
        let mut all = Vec::new();
        for (name, entry) in &tables.volumes {
            all.push((name.clone(), entry.clone()));
            let of = share_of(name, entry);
            all.extend(tables.snapshots_of(&of).map(|(snapshot, entry)| {
                let name = name.at(&snapshot);
                (name.clone(), named(entry.clone(), &name))
            }));
        }
        all
    }

    /// The records of those volumes and snapshots that are whole and `meant`, by name.
    pub fn records(&self, meant: impl Fn(&Record) -> bool) -> Vec<Record> {
        let is_meant = |entry: &Entry| match entry {
            Entry::Volume(record) => record.phase == Phase::Ready && meant(record),
            Entry::Unreadable(_) => false,
        };
        let tables = self.tables();
        let mut found = Vec::new();
        for (name, entry) in &tables.volumes {
            let of = share_of(name, entry);
            let snapshots =
                tables.snapshots_of(&of).map(|(snapshot, entry)| (name.at(&snapshot), entry));
            let all = std::iter::once((name.clone(), entry)).chain(snapshots);
            for (name, entry) in all.filter(|(_, entry)| is_meant(entry)) {
                if let Entry::Volume(record) = entry {
                    found.push(Record { name, ..record.clone() });
                }
            }
        }
        found
    }

    /// The snapshots of the volume with this share, wherever it is, as they are called.
    pub fn snapshots(&self, of: &ShareName) -> Vec<(SnapshotName, Entry)> {
        let tables = self.tables();
        tables.snapshots_of(of).map(|(name, entry)| (name, entry.clone())).collect()
    }

    /// Whether there is a record of the snapshot with this share.
    pub fn has_snapshot(&self, share: &ShareName) -> bool {
        self.tables().snapshots.contains_key(share)
    }

    /// The volume that has this share now.
    pub fn volume_with(&self, share: &ShareName) -> Option<VolumeName> {
        let tables = self.tables();
        let has = |(name, entry): &(&VolumeName, &Entry)| share_of(name, entry) == *share;
        tables.volumes.iter().find(has).map(|(name, _)| name.clone())
    }

    /// All of the trash, by share.
    pub fn trash(&self) -> Vec<(ShareName, Trashed)> {
        let tables = self.tables();
        tables.trash.iter().map(|(share, trashed)| (share.clone(), trashed.clone())).collect()
    }

    /// What a new volume `name` may call its share: no record has the same. The caller has the
    /// name's turn, so that nobody else is given it meanwhile.
    pub fn free_share(&self, name: &VolumeName) -> ShareName {
        let tables = self.tables();
        let taken = |share: &ShareName| {
            let of = |entry: &Entry| matches!(entry, Entry::Volume(has) if has.has_share(share));
            let trashed = |it: &Trashed| it.record.as_ref().is_ok_and(|has| has.has_share(share));
            let snapshot_of =
                |found: &ShareName| found.snapshot().is_some_and(|(of, _)| of == *share);
            tables.trash.keys().any(|found| found == share || snapshot_of(found))
                || tables.snapshots.keys().any(|found| found == share || snapshot_of(found))
                || tables.volumes.values().chain(tables.snapshots.values()).any(of)
                || tables.trash.values().any(trashed)
        };
        let snapshot = name.snapshot().and_then(|snapshot| {
            Some(tables.share_of(&name.volume())?.snapshot_candidates(&snapshot))
        });
        let free = match snapshot {
            Some(mut candidates) => candidates.find(|share| !taken(share)),
            None => ShareName::candidates(name).find(|share| !taken(share)),
        };
        free.unwrap_or_else(|| name.clone().into())
    }

    /// Writes `record` durably, then takes it as the truth.
    pub fn put(&self, record: Record) -> Result<(), CatalogError> {
        write(&self.path(&record), &record)?;
        self.tables().insert(record);
        Ok(())
    }

    /// Moves the volume of `record` into the trash, durably. Needs no space.
    pub fn discard(&self, record: Record, stage: Stage) -> Result<(), CatalogError> {
        let to = self.directory.join(trash::file_name(&record.share, stage));
        rename(&self.path(&record), &to)?;
        let mut tables = self.tables();
        tables.remove(&record);
        tables.trash.insert(record.share.clone(), Trashed { stage, record: Ok(record) });
        Ok(())
    }

    /// Moves the volume of `record` out of the trash, durably; under the name `name`, which is
    /// free. Needs no space where it is the old one.
    pub fn restore(
        &self,
        mut record: Record,
        stage: Stage,
        name: VolumeName,
    ) -> Result<(), CatalogError> {
        let from = self.directory.join(trash::file_name(&record.share, stage));
        if record.name == name {
            rename(&from, &self.path(&record))?;
        } else {
            // From here on what is in the trash is over, also for a process that comes after.
            record.name = name;
            write(&self.path(&record), &record)?;
            drop(step("undelete.renamed"));
            if let Err(error) = durable::remove(&from) {
                tracing::warn!(record = %from.display(), %error, "a record that is over is left");
            }
        }
        let mut tables = self.tables();
        tables.trash.remove(&record.share);
        tables.insert(record);
        Ok(())
    }

    /// Notes durably that what is in the trash is being deleted. Needs no space.
    pub fn begin_purge(&self, record: Record, stage: Stage) -> Result<(), CatalogError> {
        let path = |stage| self.directory.join(trash::file_name(&record.share, stage));
        rename(&path(stage), &path(Stage::Purging))?;
        let share = record.share.clone();
        let purging = Trashed { stage: Stage::Purging, record: Ok(record) };
        self.tables().trash.insert(share, purging);
        Ok(())
    }

    /// Forgets what was in the trash, durably, now that it is deleted.
    pub fn end_purge(&self, share: &ShareName) -> Result<(), CatalogError> {
        let path = self.directory.join(trash::file_name(share, Stage::Purging));
        durable::remove(&path).doing(|| format!("remove {}", path.display()))?;
        self.tables().trash.remove(share);
        Ok(())
    }

    /// Whether there is a snapshot that a schedule took.
    pub fn has_scheduled(&self) -> bool {
        let scheduled = |entry: &Entry| matches!(entry, Entry::Volume(one) if one.is_scheduled());
        self.tables().snapshots.values().any(scheduled)
    }

    /// Removes `record` durably, then forgets it.
    pub fn forget(&self, record: &Record) -> Result<(), CatalogError> {
        let path = self.path(record);
        durable::remove(&path).doing(|| format!("remove {}", path.display()))?;
        self.tables().remove(record);
        Ok(())
    }

    fn path(&self, record: &Record) -> PathBuf {
        self.directory.join(if record.is_snapshot() {
            format!("{}{SNAPSHOT}", record.share)
        } else {
            format!("{}{ENDING}", record.name)
        })
    }

    /// Held only for an access to memory, which leaves no half-done change to a panic.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn share_of(&self, volume: &VolumeName) -> Option<ShareName> {
        self.volumes.get(volume).map(|entry| share_of(volume, entry))
    }

    fn snapshots_of<'a>(
        &'a self,
        of: &'a ShareName,
    ) -> impl Iterator<Item = (SnapshotName, &'a Entry)> + 'a {
        // Every share that begins so is this one's or its snapshots', or a longer name's.
        let begins = |share: &&ShareName| share.as_str().starts_with(of.as_str());
        self.snapshots.range(of..).take_while(move |(share, _)| begins(share)).filter_map(
            |(share, entry)| {
                let (volume, name) = share.snapshot()?;
                (volume == *of).then_some((name, entry))
            },
        )
    }

    fn insert(&mut self, record: Record) {
        if record.is_snapshot() {
            self.snapshots.insert(record.share.clone(), Entry::Volume(record));
        } else {
            self.volumes.insert(record.name.clone(), Entry::Volume(record));
        }
    }

    fn remove(&mut self, record: &Record) {
        if record.is_snapshot() {
            self.snapshots.remove(&record.share);
        } else {
            self.volumes.remove(&record.name);
        }
    }
}

/// The share of a volume; of one whose record cannot be read the one that it most likely has.
fn share_of(name: &VolumeName, entry: &Entry) -> ShareName {
    match entry {
        Entry::Volume(record) => record.share.clone(),
        Entry::Unreadable(_) => name.clone().into(),
    }
}

/// A snapshot under the name that its volume has now.
fn named(entry: Entry, name: &VolumeName) -> Entry {
    match entry {
        Entry::Volume(record) => Entry::Volume(Record { name: name.clone(), ..record }),
        unreadable @ Entry::Unreadable(_) => unreadable,
    }
}

fn parse_volume(file: &str) -> Option<VolumeName> {
    file.parse().ok().filter(|name: &VolumeName| name.snapshot().is_none())
}

fn parse_snapshot(file: &str) -> Option<ShareName> {
    file.parse().ok().filter(|share: &ShareName| share.snapshot().is_some())
}

fn write(path: &Path, record: &Record) -> Result<(), CatalogError> {
    let bytes = record::encode(KIND, VERSION, record)?;
    Ok(durable::write(path, &bytes).doing(|| format!("write {}", path.display()))?)
}

fn rename(from: &Path, to: &Path) -> Result<(), SysError> {
    durable::rename(from, to).doing(|| format!("rename {}", from.display()))
}

/// The record at `path`, if it `belongs` there, or why it cannot be used.
fn read(path: &Path, belongs: impl FnOnce(&Record) -> bool) -> Result<Record, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string());
    let decode =
        |bytes: Vec<u8>| record::decode(KIND, VERSION, &bytes).map_err(|error| error.to_string());
    let checked = bytes.and_then(decode).and_then(|record: Record| {
        let Record { name, share, .. } = &record;
        let elsewhere = format!("the record is that of volume {name}, share {share}");
        if belongs(&record) { Ok(record) } else { Err(elsewhere) }
    });
    checked.map_err(|reason| {
        tracing::error!(record = %path.display(), reason, "a record cannot be read");
        format!("{}: {reason}", path.display())
    })
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
