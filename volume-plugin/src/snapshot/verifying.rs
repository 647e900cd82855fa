//! Looking at a snapshot again, later or more closely than when it was taken. What passed is kept with
//! it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::SnapshotError;
use super::capture::{clusters, read_control, wal_place};
use super::checks::{self, Verified};
use super::facts::{Check, Taken};
use super::pages::{self, Measure, Place, databases};
use crate::name::VolumeName;
use crate::postgres::cluster::Found;
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
        let of = record.clone();
        // Without its turn: that is its volume's, for which containers may wait.
        let checks = self.blocking(move |_| look(&of, &shares, depth)).await?;
        let _turn = self.turn(&name).await;
        let mut record = self.ready(&name)?;
        if let Some(taken) = &mut record.taken {
            merge(taken, &checks);
            self.blocking(move |service| Ok(service.catalog.put(record)?)).await?;
        }
        Ok(checks)
    }
}

/// Puts what passed now in the place of what passed before.
fn merge(taken: &mut Taken, checks: &[Check]) {
    taken.checks.retain(|old| checks.iter().all(|new| new.name != old.name));
    taken.checks.extend(checks.iter().cloned());
}

fn look(record: &Record, shares: &[Share], depth: Depth) -> Result<Vec<Check>, VolumeError> {
    let Verified { mut checks, .. } =
        checks::verify(record, shares).map_err(|error| error.told(1))?;
    if depth == Depth::Pages {
        for found in clusters(record, &shares[0])? {
            checks.push(look_at_pages(record, shares, &found)?);
        }
    }
    let now = Timestamp::now();
    for check in &mut checks {
        check.at = Some(now);
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
        return Err(SnapshotError::Check { check: "pages", reason }.into());
    }
    let sums = if control.data_checksums { "checksums and " } else { "" };
    let found = format!(
        "{} pages, {sums}none from behind the end of the WAL; {} torn, which recovery writes anew",
        report.pages, report.healed
    );
    Ok(Check { name: "pages".to_owned(), found, at: None })
}

/// Where the WAL ends, and the blocks that recovery writes as a whole.
fn wal_of(
    record: &Record,
    shares: &[Share],
    found: &Found,
    control: &Control,
) -> Result<(Lsn, HashSet<Block>), VolumeError> {
    let place = wal_place(record, shares, found, control)?;
    let directory = shares[place.share].open()?.open_dir(&place.path);
    let directory = directory.doing(|| format!("open {}", place.path.display()))?;
    let mut images = HashSet::new();
    let walked = wal::walk_with(&directory, control, &mut |record, magic| {
        images.extend(wal::whole_blocks(record, magic));
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
    for (number, home) in checks::tablespace_homes(shares, &found.dir, control)? {
        let Some(home) = home else { continue };
        let shown = PathBuf::from(format!("pg_tblspc/{number}"));
        places.extend(databases(&home, &shown, number).doing(doing)?);
    }
    Ok(places)
}
