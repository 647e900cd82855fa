//! Takes a copy of a volume's shares in the order that makes it recoverable, again where the server was
//! quicker, and tells how consistent it is.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plugin_sdk::chain::chain;
use tokio::sync::OwnedMutexGuard;

use super::checks::{self, CheckError, Known, Verified};
use super::facts::{Check, Outcome};
pub(super) use super::live::Live;
use super::{Consistency, Level, SnapshotError, Stall, Taken, barrier, inside, live};
use crate::pool::{Capture, Captured, Pace};
use crate::postgres::cluster::Found;
use crate::postgres::control::{self, Control, Lsn};
use crate::postgres::pid_file;
use crate::postgres::server::{self, Server};
use crate::sys::beneath::Dir;
use crate::sys::file::FileId;
use crate::sys::{Doing, SysError};
use crate::volume::catalog::Record;
use crate::volume::elsewhere::User;
use crate::volume::error::VolumeError;
use crate::volume::share::{self, Share};

/// A copy to be taken; both have the same shares in the same order, the root's first.
pub(super) struct Job<'a> {
    /// Of what is copied.
    pub(super) of: &'a Record,
    pub(super) live: &'a [Share],
    pub(super) copy: &'a [Share],
    pub(super) kind: Captured,
    pub(super) pace: &'a Pace,
    /// Who has the volume mounted.
    pub(super) users: &'a dyn Fn() -> Result<Vec<User>, VolumeError>,
    /// Keeps others from mounting it, where nobody does yet.
    pub(super) turn: &'a dyn Fn() -> Option<OwnedMutexGuard<()>>,
    /// Whether somebody has mounted it since.
    pub(super) is_disturbed: &'a dyn Fn() -> bool,
    /// How long the last try took for all but WAL.
    pub(super) capture_took: Cell<Duration>,
    /// What the last one took how long for.
    pub(super) parts: Cell<Stall>,
}

/// A directory of a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) share: usize,
    pub(super) path: PathBuf,
}

impl Job<'_> {
    /// Takes the copy. After an error part of it may be there.
    pub(super) fn run(&self, wanted: Consistency) -> Result<Taken, VolumeError> {
        let mut live = self.look()?;
        let refused = |why: String| SnapshotError::Level { wanted, why };
        if matches!(wanted, Consistency::Auto | Consistency::Offline) {
            let user = (self.users)()?.first().map(|user| user.pid);
            let why = match live.rest(user) {
                Ok(level) => {
                    let begun = Instant::now();
                    let taken = self.once(&live).and_then(|()| self.checked(&live));
                    // What no control file tells of.
                    let disturbed = live.controls.is_empty() && (self.is_disturbed)();
                    if !disturbed && self.is_still_at_rest(&live)? {
                        return Self::taken(level, 0, begun, taken);
                    }
                    self.discard()?;
                    let who =
                        if disturbed { "somebody mounted it" } else { "a server was started" };
                    format!("{who} meanwhile")
                }
                Err(why) => why,
            };
            if wanted == Consistency::Offline {
                return Err(refused(why).into());
            }
        }
        let why = self.no_hot_copy(&live, wanted)?;
        if let (Some(why), false) =
            (&why, matches!(wanted, Consistency::Auto | Consistency::Barrier | Consistency::Backup))
        {
            return Err(refused(why.clone()).into());
        }
        // A backup begins with one.
        let checkpoint = if wanted == Consistency::Backup { None } else { live.checkpoint() };
        if checkpoint.is_some() {
            live = self.look()?;
        }
        let taken = self.in_use(&live, wanted, why)?;
        Ok(Taken { checkpoint, ..taken })
    }

    /// How the volume itself is, which nobody serves; or who does. Whatever is wrong with it is no error:
    /// that may be why it is looked at.
    pub(super) fn as_it_is(&self) -> Result<Taken, String> {
        let begun = Instant::now();
        let wrong = |error: &VolumeError| {
            let found = format!("does not pass: {}", chain(error));
            let check = Check { outcome: Outcome::Failed, ..Check::passed("state", found) };
            Verified { checks: vec![check], ..Verified::default() }
        };
        let (level, verified) = match self.look() {
            Err(error) => (Level::OfflineUnclean, wrong(&error)),
            Ok(live) => {
                let level = live.rest(None)?;
                let verified = checks::verify(self.of, self.live);
                (level, verified.unwrap_or_else(|error| wrong(&error.told(1))))
            }
        };
        Self::taken(level, 0, begun, Ok(Ok(verified))).map_err(|error| chain(&error))
    }

    /// Copies a volume that is in use; `why` there is no other way than to stop everybody.
    fn in_use(
        &self,
        live: &Live,
        wanted: Consistency,
        why: Option<String>,
    ) -> Result<Taken, VolumeError> {
        let begun = Instant::now();
        let refused = |why: String| SnapshotError::Level { wanted, why }.into();
        if wanted == Consistency::Barrier {
            return self.at_barrier(live, begun)?.map_err(refused);
        }
        if wanted == Consistency::Backup {
            return self.under_backup(live, begun)?.map_err(refused);
        }
        let why = match why {
            Some(why) => why,
            None => match self.hot(live, wanted, begun) {
                Err(VolumeError::Snapshot(SnapshotError::Wal { tries, source }))
                    if wanted == Consistency::Auto && self.pace.go_on().is_ok() =>
                {
                    self.discard()?;
                    format!("the WAL was gone, tried {tries} times: {source}")
                }
                // It might have been torn, and nothing else.
                Err(VolumeError::Snapshot(SnapshotError::Level { why, .. }))
                    if wanted == Consistency::Auto =>
                {
                    self.discard()?;
                    why
                }
                other => return other,
            },
        };
        let took = self.capture_took.get();
        let stopping = if took > barrier::LIMIT {
            format!("copying took {} s, too long to stop all that have it", took.as_secs())
        } else {
            tracing::info!(volume = %self.of.name, why, "all that have it mounted are stopped");
            match self.at_barrier(live, begun)? {
                Ok(taken) => return Ok(taken),
                Err(why) => why,
            }
        };
        tracing::info!(volume = %self.of.name, why, stopping, "a backup is begun");
        // What the barrier has left.
        self.discard()?;
        let taken = self.under_backup(live, begun)?;
        taken.map_err(|backup| refused(format!("{why}, and {stopping}, and {backup}")))
    }

    fn look(&self) -> Result<Live, VolumeError> {
        let clusters = clusters(self.of, &self.live[0])?;
        let mut controls = Vec::new();
        let mut ids = Vec::new();
        for found in &clusters {
            let (_, control) = read_control(&found.dir)?;
            controls.push(control);
            let metadata = found.dir.metadata(Path::new("."));
            ids.push(FileId::of(&metadata.doing(|| "look at a cluster".to_owned())?));
        }
        let wal = match (&clusters[..], &controls[..]) {
            ([found], [control]) => Some(inside::wal_place(self.of, self.live, found, control)?),
            _ => None,
        };
        let servers = servers(&ids)?;
        let is_served = |id: &FileId| servers.iter().any(|server| server.data == *id);
        let in_production = clusters.iter().zip(&ids).filter(|(found, id)| {
            is_served(id) && pid_file::read(&found.dir).is_ok_and(|file| file.is_ready)
        });
        let in_production = in_production.map(|(found, _)| found.path.clone()).collect();
        Ok(Live { clusters, controls, servers, in_production, wal })
    }

    /// Whether nobody has served the volume since it was looked at.
    fn is_still_at_rest(&self, before: &Live) -> Result<bool, VolumeError> {
        let now = self.look()?;
        let same = now.controls == before.controls && now.clusters.len() == before.clusters.len();
        Ok(same && now.servers.is_empty())
    }

    /// The copy looked at; what it lacks is no error yet.
    pub(super) fn checked(&self, live: &Live) -> Result<Result<Verified, CheckError>, VolumeError> {
        let known = Known { backup: None, in_production: live.in_production.clone() };
        let verified = checks::verify_with(self.of, self.copy, &known, self.pace);
        Self::judged(verified.and_then(|verified| live.all_in(verified)))
    }

    pub(super) fn judged(
        verified: Result<Verified, CheckError>,
    ) -> Result<Result<Verified, CheckError>, VolumeError> {
        match verified {
            Ok(verified) => Ok(Ok(verified)),
            Err(CheckError::Volume(error)) => Err(*error),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(super) fn taken(
        consistency: Level,
        retries: u32,
        begun: Instant,
        checked: Result<Result<Verified, CheckError>, VolumeError>,
    ) -> Result<Taken, VolumeError> {
        let Verified { clusters, checks, .. } =
            checked?.map_err(|error| error.told(retries + 1))?;
        let took_ms = millis(begun.elapsed());
        Ok(Taken {
            consistency,
            took_ms,
            retries,
            clusters,
            checks,
            stall_ms: None,
            stall: None,
            checkpoint: None,
            backup: None,
            protected: false,
            scheduled: false,
            prepared: None,
        })
    }

    /// Deletes what a try has left.
    pub(super) fn discard(&self) -> Result<(), VolumeError> {
        self.pace.progress().begin_anew();
        self.copy.iter().rev().try_for_each(Share::delete)
    }

    /// Whether the root's share, captured at once, has all that these have.
    pub(super) fn is_whole(&self, shares: &[Share]) -> Result<bool, VolumeError> {
        if shares[0].capture() == Capture::FileByFile {
            return Ok(false);
        }
        for (path, home) in self.of.elsewhere() {
            let share = share::at(shares, &home)?;
            let Ok(dir) = share.open()?.open_dir(Path::new(&path)) else { continue };
            if fs::read_dir(dir.path()).is_ok_and(|mut entries| entries.next().is_some()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The clusters in the data of the root's share.
pub(super) fn clusters(of: &Record, root: &Share) -> Result<Vec<Found>, VolumeError> {
    Ok(live::search(of, root)?.found)
}

pub(super) fn read_control(cluster: &Dir) -> Result<(Vec<u8>, Control), SnapshotError> {
    control::read_whole(cluster)
        .map_err(|error| SnapshotError::Check { check: "control", reason: error.to_string() })
}

/// The processes of servers that work in one of these directories.
fn servers(clusters: &[FileId]) -> Result<Vec<Server>, SysError> {
    if clusters.is_empty() {
        return Ok(Vec::new());
    }
    let all = server::all().doing(|| "look for servers".to_owned())?;
    Ok(all.into_iter().filter(|server| clusters.contains(&server.data)).collect())
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// As Status shows it.
pub(super) fn shown(at: Lsn) -> String {
    at.to_string()
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
