//! What deleting a volume would give back: of the places that its files lie in, those that nothing
//! but itself and its own snapshots has. Looks at every extent of every file of the pool.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::catalog::{Entry, Record};
use super::inspection::RolePlace;
use super::service::Service;
use super::spec::Role;
use crate::name::VolumeName;
use crate::pool::PoolName;
use crate::sys::beneath::Dir;
use crate::sys::extents;

/// Directories inside each other that are looked into; each holds a descriptor open.
const DEEPEST: usize = 32;

/// Beyond the places of any device.
const NOWHERE: u64 = 1 << 62;

/// Bytes by volume and role.
pub(super) type Freed = BTreeMap<(VolumeName, Role), u64>;

/// A part of a device, and the number of who has it.
type Claim = (Range<u64>, usize);

impl Service {
    /// What deleting each volume would give back of each role of it. What cannot be looked at has no
    /// number.
    pub(super) async fn freed(self: &Arc<Self>) -> Freed {
        let mut owners = Vec::new();
        let mut pools: BTreeMap<_, Vec<(usize, RolePlace)>> = BTreeMap::new();
        let volumes = self.catalog.all().into_iter().filter_map(|(_, entry)| match entry {
            Entry::Volume(record) => Some((true, record)),
            Entry::Unreadable(_) => None,
        });
        // What is in the trash has its part in what others share with it.
        let trash = self.catalog.trash().into_iter().filter_map(|(_, trashed)| trashed.record.ok());
        for (shown, record) in volumes.chain(trash.map(|record| (false, record))) {
            for place in self.places(&record).0 {
                let shown = shown.then(|| record.name.clone());
                let owner = Owner { family: family(&record), shown, role: place.role.clone() };
                pools.entry(place.pool_name.clone()).or_default().push((owners.len(), place));
                owners.push(owner);
            }
        }
        let looked = self.blocking(move |_| {
            let mut freed = Freed::new();
            for places in file_systems(pools) {
                let (claims, seen) = claims(&places);
                let alone = alone(claims, &owners);
                for number in seen {
                    let owner = &owners[number];
                    let Some(name) = &owner.shown else { continue };
                    let bytes = if name.as_str() == owner.family {
                        alone.families.get(&(owner.family.clone(), owner.role.clone()))
                    } else {
                        alone.owners.get(&number)
                    };
                    let key = (name.clone(), owner.role.clone());
                    *freed.entry(key).or_default() += bytes.copied().unwrap_or(0);
                }
            }
            Ok(freed)
        });
        looked.await.unwrap_or_default()
    }
}

/// The places by file systems: a share may have one for itself, in which nothing is shared.
fn file_systems(
    pools: BTreeMap<PoolName, Vec<(usize, RolePlace)>>,
) -> impl Iterator<Item = Vec<(usize, RolePlace)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (pool, (number, place)) in
        pools.into_iter().flat_map(|(pool, its)| its.into_iter().map(move |it| (pool.clone(), it)))
    {
        let own = place.pool.aside(&place.share).ok().flatten().map(|aside| aside.share);
        all.entry((pool, own)).or_default().push((number, place));
    }
    all.into_values()
}

/// Who has what: a role of a volume.
struct Owner {
    /// Of a volume, its own name; of a snapshot, that of its volume: they go as one. In the trash a
    /// name may be that of several.
    family: String,
    /// Its name, unless it is in the trash.
    shown: Option<VolumeName>,
    role: Role,
}

fn family(record: &Record) -> String {
    let name = record.name.as_str();
    name.split('@').next().unwrap_or(name).to_owned()
}

/// What the roles at `places` claim, and the numbers of those that could be looked at.
fn claims(places: &[(usize, RolePlace)]) -> (Vec<Claim>, Vec<usize>) {
    let (mut claims, mut seen, mut nowhere) = (Vec::new(), Vec::new(), NOWHERE);
    for (number, place) in places {
        let opened = place
            .pool
            .locate(&place.share)
            .ok()
            .and_then(|share| Dir::open(&share).ok())
            .and_then(|share| share.open_dir(Path::new(below(&place.path))).ok());
        let Some(dir) = opened else { continue };
        let mut walk = Walk {
            claims: &mut claims,
            number: *number,
            files: HashSet::new(),
            nowhere: &mut nowhere,
        };
        if walk.directory(&dir, DEEPEST).is_ok() {
            seen.push(*number);
        }
    }
    (claims, seen)
}

fn below(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

struct Walk<'a> {
    claims: &'a mut Vec<Claim>,
    number: usize,
    /// Files with several names, each of which is there once.
    files: HashSet<(u64, u64)>,
    /// Where the next file lies of which no place is known.
    nowhere: &'a mut u64,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &Dir, deeper: usize) -> io::Result<()> {
        for entry in fs::read_dir(dir.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() && deeper > 0 {
                // Gone meanwhile, or no directory any more.
                let Ok(below) = dir.open_dir(Path::new(&name)) else { continue };
                self.directory(&below, deeper - 1)?;
            } else if metadata.is_file()
                && (metadata.nlink() == 1 || self.files.insert((metadata.dev(), metadata.ino())))
            {
                let Ok(file) = dir.open_file(Path::new(&name)) else { continue };
                let ranges = match extents::of(&file) {
                    // A file system that knows no places shares none.
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                        let begin = *self.nowhere;
                        *self.nowhere += metadata.blocks() * 512;
                        std::iter::once(begin..*self.nowhere).collect()
                    }
                    other => other?,
                };
                let number = self.number;
                self.claims.extend(ranges.into_iter().map(|range| (range, number)));
            }
        }
        Ok(())
    }
}

/// Bytes that nobody else has.
#[derive(Debug, Default)]
struct Alone {
    owners: BTreeMap<usize, u64>,
    /// By family and role.
    families: BTreeMap<(String, Role), u64>,
}

fn alone(claims: Vec<Claim>, owners: &[Owner]) -> Alone {
    // Ends come before beginnings at the same place.
    let mut edges: Vec<(u64, bool, usize)> = Vec::with_capacity(claims.len() * 2);
    for (range, number) in claims {
        edges.push((range.start, true, number));
        edges.push((range.end, false, number));
    }
    edges.sort_unstable();
    let (mut have, mut before) = (BTreeMap::<usize, u32>::new(), 0);
    let mut alone = Alone::default();
    for (at, begins, number) in edges {
        if at > before
            && let Some((&first, _)) = have.first_key_value()
        {
            let family = |number: usize| (owners[number].shown.is_some(), &owners[number].family);
            if have.len() == 1 {
                *alone.owners.entry(first).or_default() += at - before;
            }
            if have.keys().all(|&number| family(number) == family(first)) {
                let key = (owners[first].family.clone(), owners[first].role.clone());
                *alone.families.entry(key).or_default() += at - before;
            }
        }
        before = at;
        if begins {
            *have.entry(number).or_default() += 1;
        } else if let Some(count) = have.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                have.remove(&number);
            }
        }
    }
    alone
}

#[cfg(test)]
#[path = "freed_tests.rs"]
mod tests;
