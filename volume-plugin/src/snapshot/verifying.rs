//! Looking at a snapshot again, later or more closely than when it was taken. What comes of it is kept
//! with it, be it good or bad.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use plugin_sdk::chain::chain;

use super::SnapshotError;
use super::capture::{clusters, read_control};
use super::checks::{self, Known, Verified};
use super::facts::{Check, Outcome, Taken};
use super::inside::{self, Tablespace};
use super::pages::{self, Measure, Place, databases};
use crate::name::VolumeName;
use crate::postgres::cluster::{self, Found};
use crate::postgres::control::{Control, Lsn};
use crate::postgres::wal::{self, Block};
use crate::sys::Doing;
use crate::volume::catalog::Record;
use crate::volume::error::VolumeError;
use crate::volume::service::Service;
use crate::volume::share::Share;

/// Numbers of the tablespaces that every cluster has.
const GLOBAL: u32 = 1664;
const DEFAULT: u32 = 1663;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// As when it was taken.
    Checks,
    /// Also at every page.
    Pages,
}

/// What is found by starting a server on a clone, which is not done here.
pub(super) const TRIED: [&str; 3] = ["start", "amcheck", "log"];

const PAGES: &str = "pages";

impl Service {
    /// Looks at the snapshot `name` and gives the checks that it passed; the error names one that it
    /// did not pass.
    pub async fn verify(
        self: Arc<Self>,
        name: VolumeName,
        depth: Depth,
    ) -> Result<Vec<Check>, VolumeError> {
        let record = self.ready(&name)?;
        if !record.is_snapshot() {
            return Err(VolumeError::NoSnapshot(name));
        }
        let shares = self.shares(&record).await?;
        let (of, created) = (record.clone(), record.created);
        // Without its turn: that is its volume's, for which containers may wait.
        let looked = self.blocking(move |_| Ok(look(&of, &shares, depth))).await?;
        let checks = match &looked {
            Ok(checks) => checks.clone(),
            Err(error) => failed(error).into_iter().collect(),
        };
        self.keep_checks(&name, created, checks).await?;
        looked
    }

    /// Keeps with the snapshot `name`, if it is still the one of that time, what came of checks.
    pub(super) async fn keep_checks(
        self: &Arc<Self>,
        name: &VolumeName,
        created: Timestamp,
        mut checks: Vec<Check>,
    ) -> Result<(), VolumeError> {
        let now = Timestamp::now();
        for check in &mut checks {
            check.at = Some(now);
        }
        let _turn = self.turn(name).await;
        let mut record = self.ready(name)?;
        match &mut record.taken {
            Some(taken) if record.created == created => merge(taken, checks),
            _ => return Ok(()),
        }
        self.blocking(move |service| Ok(service.catalog.put(record)?)).await
    }
}

/// Puts what was found now in the place of what was found before.
fn merge(taken: &mut Taken, checks: Vec<Check>) {
    // What failed here is named otherwise than what passes.
    let looked = checks.iter().any(|check| check.name == "control");
    let of_others = |name: &str| name == PAGES || TRIED.contains(&name);
    taken.checks.retain(|old| {
        let over = looked && old.outcome == Outcome::Failed && !of_others(&old.name);
        !over && checks.iter().all(|new| new.name != old.name)
    });
    taken.checks.extend(checks);
}

/// The check that was not passed, where that is what is wrong.
fn failed(error: &VolumeError) -> Option<Check> {
    let VolumeError::Snapshot(error) = error else { return None };
    let (name, found) = match error {
        SnapshotError::Check { check, reason } => (*check, reason.clone()),
        SnapshotError::Wal { source, .. } => ("wal", chain(source)),
        _ => return None,
    };
    Some(Check { outcome: Outcome::Failed, ..Check::passed(name, found) })
}

fn look(record: &Record, shares: &[Share], depth: Depth) -> Result<Vec<Check>, VolumeError> {
    let Verified { clusters: found, mut checks, .. } =
        checks::verify(record, shares).map_err(|error| error.told(1))?;
    // Nothing was looked at then, which is not good.
    if found.is_empty() {
        let reason = "there is no cluster in it".to_owned();
        return Err(SnapshotError::Check { check: checks::CLUSTERS, reason }.into());
    }
    if depth == Depth::Pages {
        for found in clusters(record, &shares[0])? {
            checks.push(look_at_pages(record, shares, &found)?);
        }
    }
    Ok(checks)
}

fn look_at_pages(record: &Record, shares: &[Share], found: &Found) -> Result<Check, VolumeError> {
    let (_, control) = read_control(&found.dir)?;
    let (end, images) = wal_of(record, shares, found, &control)?;
    let measure = Measure { control: &control, end, images: &images };
    let places = places(shares, found, &control)?;
    let report = pages::look(places, &measure).doing(|| "look at pages".to_owned())?;
    if report.faults > 0 {
        let (count, told) = (report.faults, report.told.join("; "));
        let reason = format!("{count} of {} pages, the first: {told}", report.pages);
        return Err(SnapshotError::Check { check: PAGES, reason }.into());
    }
    let sums = if control.data_checksums { "checksums and " } else { "" };
    let found = format!(
        "{} pages, {sums}none from behind the end of the WAL; {} torn, which recovery writes anew",
        report.pages, report.healed
    );
    Ok(Check::passed(PAGES, found))
}

/// Where the WAL ends, and the blocks that recovery writes as a whole.
fn wal_of(
    record: &Record,
    shares: &[Share],
    found: &Found,
    control: &Control,
) -> Result<(Lsn, HashSet<Block>), VolumeError> {
    let place = inside::wal_place(record, shares, found, control)?;
    let directory = shares[place.share].open()?.open_dir(&place.path);
    let directory = directory.doing(|| format!("open {}", place.path.display()))?;
    let control = checks::to_recover(found, control.clone(), &Known::of(record));
    let control = control.map_err(|error| error.told(1))?;
    let mut images = HashSet::new();
    let walked = wal::walk(&directory, &control, &mut |record, magic| {
        images.extend(wal::whole_blocks(record, magic));
        Ok(())
    });
    let walked = walked.map_err(|source| SnapshotError::Wal { tries: 1, source })?;
    Ok((walked.end, images))
}

/// Every directory of relations.
fn places(shares: &[Share], found: &Found, control: &Control) -> Result<Vec<Place>, VolumeError> {
    let doing = || "look for relations".to_owned();
    let global = found.dir.open_dir(Path::new("global")).doing(doing)?;
    let base = found.dir.open_dir(Path::new("base")).doing(doing)?;
    let mut places = databases(&base, Path::new("base"), DEFAULT).doing(doing)?;
    places.push(Place { dir: global, shown: "global".into(), tablespace: GLOBAL, database: 0 });
    for Tablespace { name, home, .. } in inside::tablespaces(shares, &found.dir, control)? {
        let number = name.to_str().and_then(|name| name.parse().ok());
        let (Some(number), Some(home)) = (number, home) else { continue };
        let shown = Path::new(cluster::TABLESPACES).join(&name);
        places.extend(databases(&home.dir, &shown, number).doing(doing)?);
    }
    Ok(places)
}
