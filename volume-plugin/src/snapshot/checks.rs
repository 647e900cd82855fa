//! What is looked at in a copy before anybody hears of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::SnapshotError;
use super::capture::{clusters, read_control, shown, wal_place};
use super::facts::{Check, ClusterFacts};
use crate::postgres::backup::Backup;
use crate::postgres::cluster;
use crate::postgres::control::Control;
use crate::postgres::wal::{self, WalError};
use crate::sys::Doing;
use crate::sys::beneath::Dir;
use crate::volume::catalog::Record;
use crate::volume::error::VolumeError;
use crate::volume::share::{self, Share};
use crate::volume::spec::Role;

/// Longest `PG_VERSION` that is read.
const LONGEST_VERSION: usize = 16;

/// A copy that passed.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) clusters: Vec<ClusterFacts>,
    pub(super) checks: Vec<Check>,
}

/// Why a copy did not pass.
#[derive(Debug)]
pub(super) enum CheckError {
    /// The server was quicker; another copy may pass.
    Wal(WalError),
    /// No copy of this volume would.
    Failed { check: &'static str, reason: String },
    /// It could not be looked at.
    Volume(Box<VolumeError>),
}

impl<E: Into<VolumeError>> From<E> for CheckError {
    fn from(error: E) -> Self {
        match error.into() {
            VolumeError::Snapshot(SnapshotError::Check { check, reason }) => {
                Self::Failed { check, reason }
            }
            error => Self::Volume(Box::new(error)),
        }
    }
}

impl CheckError {
    /// For the user, after so many tries.
    pub(super) fn told(self, tries: u32) -> VolumeError {
        match self {
            Self::Wal(source) => SnapshotError::Wal { tries, source }.into(),
            Self::Failed { check, reason } => SnapshotError::Check { check, reason }.into(),
            Self::Volume(error) => *error,
        }
    }
}

/// Looks at the copy in `shares`, a snapshot's with what its own record says.
pub(super) fn verify(of: &Record, shares: &[Share]) -> Result<Verified, CheckError> {
    verify_with(of, shares, of.taken.as_ref().and_then(|taken| taken.backup.as_ref()))
}

/// As [`verify`], of a copy that was made under this backup: recovery begins where that did.
pub(super) fn verify_with(
    of: &Record,
    shares: &[Share],
    backup: Option<&Backup>,
) -> Result<Verified, CheckError> {
    let mut verified = Verified { clusters: Vec::new(), checks: Vec::new() };
    for found in clusters(of, &shares[0])? {
        let (_, control) = read_control(&found.dir)?;
        let mut note = |name: &str, found: String| {
            verified.checks.push(Check::passed(name, found));
        };
        note("control", format!("version {}, {}", control.version, control.state));
        version(&found.dir, &control)?;
        let place = wal_place(of, shares, &found, &control)?;
        let wal = shares[place.share].open()?.open_dir(&place.path);
        let wal = wal.map_err(|error| CheckError::Wal(WalError::Io(error)))?;
        let control = match backup {
            None => control,
            Some(backup) => backup.control(&control).map_err(|error| {
                let reason = error.to_string();
                CheckError::Failed { check: "backup", reason }
            })?,
        };
        let walk = wal::walk(&wal, &control).map_err(CheckError::Wal)?;
        note("wal", format!("{} records up to {}", walk.records, walk.end));
        let links = tablespaces(of, shares, &found.dir, &control)?;
        note("tablespaces", format!("{links} links, each with its directory"));
        verified.clusters.push(ClusterFacts {
            directory: found.path.display().to_string(),
            version: control.version.to_owned(),
            system_identifier: control.system_identifier.clone(),
            timeline: control.timeline,
            checkpoint: shown(control.checkpoint),
            redo: shown(control.redo),
            wal_end: shown(walk.end),
        });
    }
    Ok(verified)
}

fn version(cluster: &Dir, control: &Control) -> Result<(), CheckError> {
    let failed = |reason: String| CheckError::Failed { check: "version", reason };
    let read = || {
        let mut text = String::new();
        let file = cluster.open_file(Path::new("PG_VERSION"))?;
        std::io::Read::read_to_string(
            &mut std::io::Read::take(file, LONGEST_VERSION as u64),
            &mut text,
        )?;
        Ok::<_, std::io::Error>(text)
    };
    let text = read().map_err(|error| failed(format!("PG_VERSION: {error}")))?;
    if control.version == "unknown" || text.trim() == control.version {
        return Ok(());
    }
    let (file, control) = (text.trim(), control.version);
    Err(failed(format!("PG_VERSION says {file:?}, the control file {control}")))
}

/// Counts the links to tablespaces, each of which has to have its directory in the copy.
fn tablespaces(
    of: &Record,
    shares: &[Share],
    cluster: &Dir,
    control: &Control,
) -> Result<usize, CheckError> {
    let failed = |reason: String| CheckError::Failed { check: "tablespaces", reason };
    let directory = format!("PG_{}_{}", control.version, control.details.catalog_version);
    let links = links(cluster).map_err(|error| failed(error.to_string()))?;
    let mut homes = homes(of, shares, &directory)?;
    let mut left = Vec::new();
    for (name, target) in &links {
        let last = target.file_name().map(PathBuf::from).unwrap_or_default();
        match homes.iter().position(|home| *home == last) {
            Some(at) => drop(homes.remove(at)),
            None => left.push((name, target)),
        }
    }
    // What is mounted at a place of its own is called as the user likes.
    if let Some((name, target)) = left.get(homes.len()) {
        let (name, target) = (name.display(), target.display());
        return Err(failed(format!(
            "tablespace {name} at {target} is not in the volume (no {directory} for it)"
        )));
    }
    Ok(links.len())
}

/// The links in `pg_tblspc` and where they lead.
pub(super) fn links(cluster: &Dir) -> std::io::Result<Vec<(PathBuf, PathBuf)>> {
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

/// The numbers of the cluster's tablespaces, each with its directory in the copy; none for one whose
/// link was of a container that called the directory otherwise.
pub(super) fn tablespace_homes(
    shares: &[Share],
    cluster: &Dir,
    control: &Control,
) -> Result<Vec<(u32, Option<Dir>)>, VolumeError> {
    let directory = format!("PG_{}_{}", control.version, control.details.catalog_version);
    let mut homes = Vec::new();
    for (name, target) in links(cluster).doing(|| "look at tablespaces".to_owned())? {
        let number = name.to_str().and_then(|name| name.parse().ok());
        let last = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = Path::new("tablespaces").join(&last).join(&directory);
        let mut home = None;
        for share in shares {
            home = home.or(share.open()?.open_dir(&path).ok());
        }
        homes.extend(number.map(|number| (number, home)));
    }
    Ok(homes)
}

/// The names of tablespaces' directories in the volume that hold `directory`.
fn homes(of: &Record, shares: &[Share], directory: &str) -> Result<Vec<PathBuf>, CheckError> {
    let mut homes = Vec::new();
    for (role, home) in of.spec.roles() {
        let Role::Tablespace(name) = &role else { continue };
        let Ok(share) = share::at(shares, &home) else { continue };
        if has(&share.open()?, &Path::new(&role.path()).join(directory)) {
            homes.push(PathBuf::from(name.to_string()));
        }
    }
    // Those that the user made beside.
    let root = shares[0].open()?;
    let Ok(tablespaces) = root.open_dir(Path::new("tablespaces")) else { return Ok(homes) };
    let entries = fs::read_dir(tablespaces.path()).doing(|| "look for tablespaces".to_owned())?;
    for entry in entries.flatten() {
        let name = PathBuf::from(entry.file_name());
        if !homes.contains(&name) && has(&tablespaces, &name.join(directory)) {
            homes.push(name);
        }
    }
    Ok(homes)
}

fn has(dir: &Dir, path: &Path) -> bool {
    dir.metadata(path).is_ok_and(|found| found.is_dir())
}
