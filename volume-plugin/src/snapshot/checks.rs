//! What is looked at in a copy before anybody hears of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plugin_sdk::chain::chain;

use super::backing_up;
use super::capture::{read_control, shown};
use super::facts::{Check, ClusterFacts, Outcome, Taken};
use super::inside::{self, Tablespace};
use super::live::search;
use super::{Consistency, SnapshotError};
use crate::pool::Pace;
use crate::postgres::backup::Backup;
use crate::postgres::cluster::{Found, Search};
use crate::postgres::control::Control;
use crate::postgres::wal::{self, WalError};
use crate::sys::Doing;
use crate::sys::beneath::Dir;
use crate::volume::catalog::Record;
use crate::volume::error::VolumeError;
use crate::volume::share::{self, Share};
use crate::volume::spec::{self, Role};

/// The check of tablespaces, one of which may go while a copy is taken.
pub(super) const TABLESPACES: &str = "tablespaces";

/// The check of whether all clusters are there and were looked for.
pub(super) const CLUSTERS: &str = "clusters";

/// Longest `PG_VERSION` that is read.
const LONGEST_VERSION: usize = 16;

/// A copy that passed.
#[derive(Debug, Default)]
pub(super) struct Verified {
    pub(super) clusters: Vec<ClusterFacts>,
    pub(super) checks: Vec<Check>,
    /// The control files, by the directories of their clusters.
    pub(super) controls: Vec<(PathBuf, Control)>,
    /// Whether pages may have been written half, which the WAL does not write anew.
    pub(super) partial_pages: bool,
}

/// Why a copy did not pass.
#[derive(Debug)]
pub(super) enum CheckError {
    /// The server was quicker; another copy may pass.
    Wal(WalError),
    /// No copy of the volume as it is would.
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

    /// Likewise, where the server was quicker each time: copies of another level may pass.
    pub(super) fn given_up(self, wanted: Consistency, tries: u32) -> VolumeError {
        match self.told(tries) {
            VolumeError::Snapshot(failed @ SnapshotError::Check { .. }) => {
                let why = format!("tried {tries} times: {failed}");
                SnapshotError::Level { wanted, why }.into()
            }
            error => error,
        }
    }
}

/// What is known of a copy besides its files.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// That it was made under: recovery begins where that did.
    pub(super) backup: Option<&'a Backup>,
    /// The clusters whose labels may be of exclusive backups that their own servers took.
    pub(super) in_production: BTreeSet<PathBuf>,
}

impl<'a> Known<'a> {
    /// What the record of a snapshot says.
    pub(super) fn of(record: &'a Record) -> Self {
        let taken = record.taken.as_deref();
        Self {
            backup: taken.and_then(|taken| taken.backup.as_ref()),
            in_production: taken.map(Taken::backed_up).unwrap_or_default(),
        }
    }
}

/// Looks at the copy in `shares`, a snapshot's with what its own record says.
pub(super) fn verify(of: &Record, shares: &[Share]) -> Result<Verified, CheckError> {
    verify_with(of, shares, &Known::of(of), &Pace::shown(Arc::default(), None))
}

/// As [`verify`], with what is known of a copy that has no such record yet.
pub(super) fn verify_with(
    of: &Record,
    shares: &[Share],
    known: &Known<'_>,
    pace: &Pace,
) -> Result<Verified, CheckError> {
    let mut verified = Verified::default();
    let Search { found, cut } = search(of, &shares[0])?;
    for found in found {
        let (_, control) = read_control(&found.dir)?;
        let mut note = |name: &str, found: String| {
            verified.checks.push(Check::passed(name, found));
        };
        verified.controls.push((found.path.clone(), control.clone()));
        note("control", format!("version {}, {}", control.version, control.state));
        version(&found.dir, &control)?;
        let home = inside::wal_place(of, shares, &found, &control)?;
        let wal = shares[home.share].open()?.open_dir(&home.path);
        let wal = wal.map_err(|error| CheckError::Wal(WalError::Io(error)))?;
        let control = to_recover(&found, control, known)?;
        let walk = wal::walk(&wal, &control, &mut |_, _| pace.go_on()).map_err(unwalked)?;
        verified.partial_pages |= walk.partial_pages;
        note("wal", format!("{} records up to {}", walk.records, walk.end));
        let links = tablespaces(of, shares, &found.dir, &control)?;
        note(TABLESPACES, format!("{links} links, each with its directory"));
        verified.clusters.push(ClusterFacts {
            directory: found.path.display().to_string(),
            version: control.version.to_owned(),
            system_identifier: control.system_identifier.clone(),
            timeline: control.timeline,
            checkpoint: shown(control.checkpoint),
            redo: shown(control.redo),
            wal_end: shown(walk.end),
            exclusive_backup: backing_up::is_backed_up(&found, &known.in_production),
        });
    }
    let unsearched = |why| Check { outcome: Outcome::NotPossible, ..Check::passed(CLUSTERS, why) };
    verified.checks.extend(cut.map(unsearched));
    Ok(verified)
}

fn unwalked(error: WalError) -> CheckError {
    match error {
        WalError::Io(error) if error.kind() == ErrorKind::TimedOut => SnapshotError::TimeOut.into(),
        error => CheckError::Wal(error),
    }
}

/// What the cluster is recovered by: its control file, the backup that the copy was made under, or the label that
/// a base backup has brought along.
pub(super) fn to_recover(
    found: &Found,
    control: Control,
    known: &Known<'_>,
) -> Result<Control, CheckError> {
    let Some(backup) = known.backup else {
        let label = backing_up::label_in(found, &known.in_production);
        return Ok(label.map(|label| label.control(&control)).unwrap_or(control));
    };
    backup.control(&control).map_err(|error| {
        let reason = error.to_string();
        CheckError::Failed { check: "backup", reason }
    })
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
    let failed = |reason: String| CheckError::Failed { check: TABLESPACES, reason };
    let directory = inside::version_directory(control);
    let found = inside::tablespaces(shares, cluster, control);
    let found = found.map_err(|error| failed(chain(&error)))?;
    let mut homes = homes(of, shares, &directory)?;
    homes.retain(|home| found.iter().flat_map(|it| &it.home).all(|found| found.path != *home));
    let mut left = found.iter().filter(|it| it.home.is_none());
    // What is mounted at a place of its own is called as the user likes.
    if let Some(Tablespace { name, target, .. }) = left.nth(homes.len()) {
        let (name, target) = (name.display(), target.display());
        return Err(failed(format!(
            "tablespace {name} at {target} is not in the volume (no {directory} for it)"
        )));
    }
    Ok(found.len())
}

/// The directories of tablespaces in the volume that hold `directory`.
fn homes(of: &Record, shares: &[Share], directory: &str) -> Result<Vec<PathBuf>, CheckError> {
    let mut homes = Vec::new();
    for (role, home) in of.spec.roles() {
        let Role::Tablespace(_) = &role else { continue };
        let Ok(share) = share::at(shares, &home) else { continue };
        let path = PathBuf::from(role.path());
        if has(&share.open()?, &path.join(directory)) {
            homes.push(path);
        }
    }
    // Those that the user made beside.
    let root = shares[0].open()?;
    let Ok(tablespaces) = root.open_dir(Path::new(spec::TABLESPACES)) else { return Ok(homes) };
    let entries = fs::read_dir(tablespaces.path()).doing(|| "look for tablespaces".to_owned())?;
    for entry in entries.flatten() {
        let path = Path::new(spec::TABLESPACES).join(entry.file_name());
        if !homes.contains(&path) && has(&root, &path.join(directory)) {
            homes.push(path);
        }
    }
    Ok(homes)
}

fn has(dir: &Dir, path: &Path) -> bool {
    dir.metadata(path).is_ok_and(|found| found.is_dir())
}
