//! A copy that is made while the server takes a backup of itself, for what cannot be had otherwise: pages
//! that it does not write whole into its WAL at other times, and WAL that it would recycle before a long
//! copy is done.
//!
//! Recovery begins where the backup did and has to pass its end: the label says so, and is kept in the
//! record. It is written into whatever a server may be started on, a clone or a restored volume; not
//! into the snapshot, whose files are those that the server had. The map of tablespaces is kept
//! beside it and written nowhere: the links of a copy are right already, and the server would replace
//! them by those of the container that it ran in.
//!
//! Servers up to 14 know exclusive backups too, whose label and map lie in the live cluster while they go
//! on. A copy needs neither: it is recovered from its control file's checkpoint, as the server itself would be
//! after a crash without them. The same files in a cluster that nobody has served yet are those of the backup
//! that it was copied from, by which alone it can be recovered. Nothing in the files tells them apart; whether a
//! server was in production does, and is kept in the record.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::capture::{Job, Live, Place};
use super::checks::{self, Known};
use super::copying::Pass;
use super::facts::Check;
use super::{Level, Taken, sanitise};
use crate::pool::Pace;
use crate::postgres::backup::{self, Backup, Label};
use crate::postgres::cluster::{self, Found};
use crate::sys::beneath::Dir;
use crate::sys::file::{self, Space};
use crate::sys::{Doing, step};
use crate::volume::error::VolumeError;

/// Where a server looks for the label.
const LABEL: &str = "backup_label";

/// Where it looks for the tablespaces to link to, if there is a label.
const MAP: &str = "tablespace_map";

/// Longest of them that is read.
const LONGEST_LABEL: u64 = 64 << 10;

/// How often the room for WAL is looked at.
const LOOK: Duration = Duration::from_millis(500);

impl Job<'_> {
    /// A copy under a backup; or why there is none.
    pub(super) fn under_backup(
        &self,
        live: &Live,
        begun: Instant,
    ) -> Result<Result<Taken, String>, VolumeError> {
        let go_on = || self.pace.go_on();
        let (found, server, version) = match live.one_server() {
            Ok(one) => one,
            Err(why) => return Ok(Err(why)),
        };
        let session = backup::begin(&server.process, &found.dir, version, &go_on);
        let mut session = match session {
            Ok(session) => session,
            Err(error) => {
                // Not the server's no.
                Self::timed(go_on(), "begin a backup")?;
                return Ok(Err(format!("the server begins no backup: {error}")));
            }
        };
        step("snapshot.backup-begun")?;
        let watch = live.wal.as_ref().map(|wal| self.watch(wal)).transpose()?;
        self.prepare()?;
        let held = self.capture(live, self.pace, Some(session.start), Pass::Only)?;
        let backup = match session.stop(&go_on) {
            Ok(backup) => backup,
            Err(error) => {
                Self::timed(go_on(), "end a backup")?;
                return Ok(Err(format!("the server does not end the backup: {error}")));
            }
        };
        self.complete(held)?;
        let kept = match &session.unkept {
            None => "kept for it".to_owned(),
            Some(why) => format!("not kept for it: {why}"),
        };
        // It has kept the WAL until here.
        drop((session, watch));
        let known = Known { backup: Some(&backup), in_production: live.in_production.clone() };
        let checked = Self::judged(checks::verify_with(self.of, self.copy, &known, self.pace));
        let mut taken = Self::taken(Level::Backup, 0, begun, checked)?;
        let found = format!("from {} to {}, the WAL {kept}", start(&backup)?, backup.stop);
        taken.checks.push(Check::passed("backup", found));
        taken.backup = Some(backup);
        Ok(Ok(taken))
    }

    fn watch(&self, wal: &Place) -> Result<Watch, VolumeError> {
        let directory = self.live[wal.share].open()?.open_dir(&wal.path);
        let watch = directory.and_then(|directory| {
            Watch::begin(move || file::space(&directory.path()), self.pace, LOOK)
        });
        Ok(watch.doing(|| "measure the room for WAL".to_owned())?)
    }
}

/// Ends the copy where the WAL that the server keeps for it takes the room that the server needs.
struct Watch {
    over: Option<Sender<()>>,
    watching: Option<JoinHandle<()>>,
}

impl Watch {
    /// Looks at what `space` says, so often; `pace` is that of the copy.
    fn begin(
        mut space: impl FnMut() -> io::Result<Space> + Send + 'static,
        pace: &Pace,
        often: Duration,
    ) -> io::Result<Self> {
        let before = space()?;
        // A tenth is left to the server, or half of what there was where that was less already.
        let least = (before.total / 10).min(before.free / 2);
        let (pace, (over, told)) = (pace.clone(), mpsc::channel());
        let watch = move || {
            while told.recv_timeout(often) == Err(RecvTimeoutError::Timeout) {
                // What cannot be measured any more may be full.
                if space().map_or(0, |now| now.free) < least {
                    return pace.progress().crowd();
                }
            }
        };
        let watching = thread::Builder::new().name("watch".to_owned()).spawn(watch)?;
        Ok(Self { over: Some(over), watching: Some(watching) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.over.take());
        drop(self.watching.take().map(JoinHandle::join));
    }
}

fn start(backup: &Backup) -> Result<String, VolumeError> {
    let label =
        backup::parse_label(&backup.label).doing(|| "read the backup's label".to_owned())?;
    Ok(label.start.to_string())
}

/// By what a server that is started on the cluster recovers, where that is of a base backup on which none has
/// been started yet: then it begins before the control file's checkpoint. Of the clusters `in_production` a
/// label may be of their own backups.
pub(super) fn label_in(found: &Found, in_production: &BTreeSet<PathBuf>) -> Option<Label> {
    let text = read(&found.dir, LABEL)?;
    let is_own = in_production.contains(&found.path) && backup::is_exclusive_label(&text);
    backup::parse_any_label(&text).ok().filter(|_| !is_own)
}

/// Whether the server of the cluster, one of those `in_production`, was taking an exclusive backup.
pub(super) fn is_backed_up(found: &Found, in_production: &BTreeSet<PathBuf>) -> bool {
    let is_exclusive = || read(&found.dir, LABEL).is_some_and(|it| backup::is_exclusive_label(&it));
    in_production.contains(&found.path) && is_exclusive()
}

fn read(cluster: &Dir, name: &str) -> Option<String> {
    let mut text = String::new();
    let file = cluster.open_file(Path::new(name)).ok()?;
    file.take(LONGEST_LABEL).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Takes away what an exclusive backup has left in a copy of a server's cluster; durable with its directory.
pub(super) fn forget_own(cluster: &Found) -> io::Result<()> {
    sanitise::remove(&cluster.dir, LABEL)?;
    sanitise::remove(&cluster.dir, MAP).map(drop)
}

/// Takes away the map of tablespaces that all have links already: the server would replace those of a clone by
/// what they were in the container that the backup was taken in. Durable with the cluster's directory.
pub(super) fn forget_map(cluster: &Found) -> io::Result<()> {
    let Some(map) = read(&cluster.dir, MAP) else { return Ok(()) };
    let mut names = map.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name);
    let link = |name: &str| Path::new(cluster::TABLESPACES).join(name);
    if names.all(|name| cluster.dir.read_link(&link(name)).is_ok()) {
        sanitise::remove(&cluster.dir, MAP)?;
    }
    Ok(())
}

/// Has the server that is started on the cluster recover from the backup; durable with its directory.
pub(super) fn put_label(cluster: &Found, backup: &Backup) -> io::Result<()> {
    sanitise::remove(&cluster.dir, LABEL)?;
    let owner = cluster.dir.metadata(Path::new("."))?;
    let mut file = cluster.dir.make_file(Path::new(LABEL), 0o600)?;
    file.write_all(backup.label.as_bytes())?;
    fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_copy_ends_where_the_server_needs_the_room() {
        let free = |free: u64| Space { total: 100, free };
        for (before, later, goes_on) in
            [(50, 10, true), (50, 9, false), (6, 3, true), (6, 2, false)]
        {
            let pace = Pace::shown(Arc::default(), None);
            let mut looks = 0;
            let space = move || {
                looks += 1;
                Ok(free(if looks == 1 { before } else { later }))
            };
            let watch = Watch::begin(space, &pace, Duration::from_millis(1)).unwrap();
            let deadline = Instant::now() + Duration::from_secs(if goes_on { 0 } else { 30 });
            while pace.go_on().is_ok() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(5));
            drop(watch);
            let said = pace.go_on().map_err(|error| error.to_string());
            assert_eq!(said.is_ok(), goes_on, "{before} {later}: {said:?}");
        }
    }

    #[test]
    fn a_label_is_the_server_s_and_leads_nowhere() {
        let (temporary, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::chown(temporary.path(), Some(999), Some(998)).unwrap();
        let precious = outside.path().join("precious");
        plugin_sdk::durable::write(&precious, b"precious").unwrap();
        std::os::unix::fs::symlink(&precious, temporary.path().join(LABEL)).unwrap();
        let cluster = Found { path: PathBuf::new(), dir: Dir::open(temporary.path()).unwrap() };
        for label in ["one", "another"] {
            let backup = Backup {
                stop: "0/1".to_owned(),
                label: label.to_owned(),
                tablespace_map: String::new(),
            };
            put_label(&cluster, &backup).unwrap();
            let path = temporary.path().join(LABEL);
            assert_eq!(fs::read_to_string(&path).unwrap(), label);
            let found = fs::symlink_metadata(&path).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (999, 998, 0o600));
        }
        assert_eq!(fs::read(precious).unwrap(), b"precious");
    }
}
