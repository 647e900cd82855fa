//! Where in a volume the links of its clusters lead. They are paths of the container that made them, which
//! nobody can be asked about: of the end of each as much is taken as there is in the volume.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::capture::Place;
use crate::postgres::cluster::{self, Found};
use crate::postgres::control::Control;
use crate::postgres::wal;
use crate::sys::Doing;
use crate::sys::beneath::Dir;
use crate::volume::catalog::Record;
use crate::volume::error::VolumeError;
use crate::volume::share::Share;
use crate::volume::spec::{Layout, Role, TABLESPACES};

/// Names at the end of a path that are tried.
const MOST_NAMES: usize = 16;

/// A tablespace of a cluster.
#[derive(Debug)]
pub(super) struct Tablespace {
    /// How its link is called: by its number.
    pub(super) name: PathBuf,
    /// Where that leads in a container.
    pub(super) target: PathBuf,
    /// None for one that is not in the volume, or was mounted under another name.
    pub(super) home: Option<Home>,
}

/// A tablespace's directory in the volume.
#[derive(Debug)]
pub(super) struct Home {
    /// Below the root of its share, and of a volume that is mounted as a whole.
    pub(super) path: PathBuf,
    /// What the cluster has there.
    pub(super) dir: Dir,
}

/// What a cluster of this version has in the directory of a tablespace.
pub(super) fn version_directory(control: &Control) -> String {
    format!("PG_{}_{}", control.version, control.details.catalog_version)
}

/// The ends of the path, the longest first.
fn ends(target: &Path) -> Vec<PathBuf> {
    let name = |part| if let Component::Normal(name) = part { Some(name) } else { None };
    let last: Vec<_> = target.components().rev().map_while(name).take(MOST_NAMES).collect();
    (1..=last.len()).rev().map(|count| last[..count].iter().rev().collect()).collect()
}

/// Where a cluster's WAL is: in its own directory, or in that of the role.
pub(super) fn wal_place(
    of: &Record,
    shares: &[Share],
    found: &Found,
    control: &Control,
) -> Result<Place, VolumeError> {
    let size = control.details.wal_segment_size;
    let has_wal = |dir: &Dir| wal::list(dir, size, 0).is_ok_and(|(found, _)| !found.is_empty());
    let own = Path::new(cluster::WAL);
    if found.dir.open_dir(own).is_ok_and(|dir| has_wal(&dir)) {
        return Ok(Place { share: 0, path: of.data().join(&found.path).join(own) });
    }
    let ends = found.dir.read_link(own).map(|target| ends(&target)).unwrap_or_default();
    let below = |top: &Dir| {
        ends.iter().find(|end| top.open_dir(end).is_ok_and(|dir| has_wal(&dir))).cloned()
    };
    let home = of.spec.home(&Role::Wal);
    let share = shares.iter().position(|share| share.home == home).unwrap_or(0);
    if of.spec.layout == Layout::Pgdata {
        // A link is of who made the cluster, and its WAL is nobody else's to move.
        return Ok(match below(&shares[0].open()?) {
            Some(path) => Place { share: 0, path },
            None => Place { share, path: found.path.join(own) },
        });
    }
    let role = PathBuf::from(Role::Wal.path());
    let end = shares[share].open()?.open_dir(&role).ok().and_then(|role| below(&role));
    Ok(Place { share, path: end.map_or_else(|| role.clone(), |end| role.join(end)) })
}

/// The tablespaces of a cluster of the volume with these shares, no two of which have the same directory.
pub(super) fn tablespaces(
    shares: &[Share],
    cluster: &Dir,
    control: &Control,
) -> Result<Vec<Tablespace>, VolumeError> {
    let roots = shares.iter().map(Share::open).collect::<Result<Vec<_>, _>>()?;
    let version = version_directory(control);
    let mut taken = BTreeSet::new();
    let mut found = Vec::new();
    for (name, target) in links(cluster).doing(|| "look at tablespaces".to_owned())? {
        let mut home = None;
        'ends: for end in ends(&target) {
            // Of a role that was mounted at a place of its own only what is below that is in the target.
            for path in [Path::new(TABLESPACES).join(&end), end] {
                for (share, root) in roots.iter().enumerate() {
                    let Ok(dir) = root.open_dir(&path.join(&version)) else { continue };
                    if taken.insert((share, path.clone())) {
                        home = Some(Home { path, dir });
                        break 'ends;
                    }
                }
            }
        }
        found.push(Tablespace { name, target, home });
    }
    Ok(found)
}

/// The links in `pg_tblspc` and where they lead.
pub(super) fn links(cluster: &Dir) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let directory = cluster.open_dir(Path::new(cluster::TABLESPACES))?;
    let mut links = Vec::new();
    for entry in fs::read_dir(directory.path())? {
        let entry = entry?;
        // A tablespace of the development kind is a directory.
        if entry.file_type()?.is_symlink() {
            let name = PathBuf::from(entry.file_name());
            let target = directory.read_link(&name)?;
            links.push((name, target));
        }
    }
    links.sort();
    Ok(links)
}

#[cfg(test)]
#[path = "inside_tests.rs"]
mod tests;
