//! What is seen of a volume before it is copied: its clusters, and who serves them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::capture::{Place, millis, read_control};
use super::checks::{CLUSTERS, CheckError, Verified};
use super::{Checkpoint, Level, SnapshotError, inside};
use crate::postgres::checkpoint;
use crate::postgres::cluster::{self, Found, Search};
use crate::postgres::control::{self, Control};
use crate::postgres::server::{self, Server};
use crate::postgres::wal::WalError;
use crate::sys::Doing;
use crate::sys::file::FileId;
use crate::volume::catalog::Record;
use crate::volume::error::VolumeError;
use crate::volume::share::Share;

/// What there is of clusters in the data of the root's share, which is `root`.
pub(super) fn search(of: &Record, root: &Share) -> Result<Search, VolumeError> {
    let doing = || format!("look for clusters in {}", root.name);
    let (root, data) = (root.open()?, of.data());
    let deepest = cluster::DEEPEST - data.components().count();
    let data = if data.as_os_str().is_empty() { Ok(root) } else { root.open_dir(&data) };
    match data {
        // A container may have removed it.
        Err(_) => Ok(Search::default()),
        Ok(data) => Ok(cluster::find(&data.path(), deepest).doing(doing)?),
    }
}

/// What was seen of the volume before.
pub(super) struct Live {
    pub(super) clusters: Vec<Found>,
    pub(super) controls: Vec<Control>,
    /// Of the clusters.
    pub(super) servers: Vec<Server>,
    /// The clusters whose servers answer as primaries, by their directories.
    pub(super) in_production: BTreeSet<PathBuf>,
    /// Where the WAL of the one cluster is; none where there is not one cluster.
    pub(super) wal: Option<Place>,
}

impl Live {
    /// Has the servers make checkpoints, if they can be asked, so that there is less to recover.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        if self.servers.is_empty() {
            return None;
        }
        let begun = Instant::now();
        for found in &self.clusters {
            let id = found.dir.metadata(Path::new(".")).map(|metadata| FileId::of(&metadata));
            let here: Vec<_> = self
                .servers
                .iter()
                .filter(|it| id.as_ref().is_ok_and(|id| it.data == *id))
                .collect();
            let Some(first) = server::first(&here) else { continue };
            if let Err(error) = checkpoint::make(&first.process, &found.dir) {
                return Some(Checkpoint::NotMade(error.to_string()));
            }
        }
        Some(Checkpoint::TookMs(millis(begun.elapsed())))
    }

    /// The control files as they are by now.
    pub(super) fn controls_now(&self) -> Result<Vec<Control>, SnapshotError> {
        self.clusters.iter().map(|found| Ok(read_control(&found.dir)?.1)).collect()
    }

    /// The copy that was looked at, if all clusters are in it.
    pub(super) fn all_in(&self, copy: Verified) -> Result<Verified, CheckError> {
        for (found, control) in self.clusters.iter().zip(&self.controls) {
            let is_it = |(path, copied): &(PathBuf, Control)| {
                *path == found.path && copied.system_identifier == control.system_identifier
            };
            if !copy.controls.iter().any(is_it) {
                let directory = found.path.display();
                let reason = format!("the cluster in `{directory}` is not in the copy");
                return Err(CheckError::Failed { check: CLUSTERS, reason });
            }
        }
        Ok(copy)
    }

    /// What its servers did from when their control files were as `before` until they were as `after`, so that
    /// what was copied meanwhile may not be whole; `copied` are those that a file system captured at once.
    pub(super) fn moved_on(
        &self,
        before: &[Control],
        after: &[Control],
        copied: &[(PathBuf, Control)],
    ) -> Option<WalError> {
        for (found, (before, after)) in self.clusters.iter().zip(before.iter().zip(after)) {
            // Pages may be of a timeline that recovery by the copy's control file does not reach.
            let (was, is) = (before.last_timeline(), after.last_timeline());
            if was != is {
                return Some(WalError::Timeline { was, is });
            }
            // A file system brings one file after the other to its disk before it captures all, so what was
            // written before a checkpoint can be missing beside a control file from after it. Only a server that
            // waits for no disk (`fsync=off`) gets there, but none tells.
            let copied = copied.iter().find(|(path, _)| *path == found.path);
            if copied.is_some_and(|(_, copied)| copied.checkpoint != before.checkpoint) {
                return Some(WalError::Checkpointed(after.checkpoint));
            }
        }
        None
    }

    /// The one cluster with the first process of its server and its version; or why there is no backup.
    pub(super) fn one_server(&self) -> Result<(&Found, &Server, &'static str), String> {
        let ([found], [control]) = (&self.clusters[..], &self.controls[..]) else {
            return Err(format!("it holds {} clusters", self.clusters.len()));
        };
        let servers: Vec<_> = self.servers.iter().collect();
        let first = server::first(&servers).ok_or("no server runs on it")?;
        if control.wal_level == "minimal" {
            return Err("a server runs with wal_level=minimal".to_owned());
        }
        if control.state != "in production" {
            return Err(format!("the server is {}", control.state));
        }
        if control.version == "unknown" {
            return Err("the server's version is not known".to_owned());
        }
        Ok((found, first, control.version))
    }

    /// Whether a cluster has other tablespaces by now than its copy among these.
    pub(super) fn has_other_tablespaces(&self, copies: &[Found]) -> bool {
        let links = |found: &Found| inside::links(&found.dir).ok();
        self.clusters.iter().any(|live| {
            let copy = copies.iter().find(|copy| copy.path == live.path);
            copy.is_some_and(|copy| links(copy) != links(live))
        })
    }

    /// The level at which nobody serves the volume, or who does.
    pub(super) fn rest(&self, user: Option<u32>) -> Result<Level, String> {
        if let Some(pid) = self.servers.first().map(|server| server.process.pid()) {
            return Err(format!("a server runs on it, process {pid}"));
        }
        if self.controls.iter().all(Control::is_shut_down) {
            return match user {
                Some(pid) if self.controls.is_empty() => {
                    Err(format!("process {pid} has it mounted, and there is no cluster in it"))
                }
                _ => Ok(Level::Offline),
            };
        }
        match user {
            None => Ok(Level::OfflineUnclean),
            Some(pid) => Err(format!(
                "the last server did not end cleanly, and process {pid} has it mounted"
            )),
        }
    }

    /// Whether this, below the data's directory, is the control file that was copied first.
    pub(super) fn is_control(&self, path: &Path) -> bool {
        let of = |found: &Found| found.path.join(control::PATH) == path;
        // Only the control file of a single cluster was copied first.
        self.clusters.len() == 1 && self.clusters.iter().any(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::control::Lsn;
    use crate::postgres::wal::sample::Sample;
    use crate::sys::beneath::Dir;

    /// One that has a cluster with this control file, and what a copy of that has.
    fn one(control: &Control, directory: &tempfile::TempDir) -> (Live, Verified) {
        let dir = Dir::open(directory.path()).unwrap();
        let live = Live {
            clusters: vec![Found { path: "18/main".into(), dir }],
            controls: vec![control.clone()],
            servers: Vec::new(),
            in_production: BTreeSet::new(),
            wal: None,
        };
        let controls = vec![("18/main".into(), control.clone())];
        (live, Verified { controls, ..Verified::default() })
    }

    #[test]
    fn what_a_server_did_meanwhile_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let before = Sample::control(Lsn(16), Lsn(32));
        let later = Control { redo: Lsn(48), checkpoint: Lsn(64), ..before.clone() };
        let (live, _) = one(&before, &directory);
        let copy = |control: &Control| vec![(PathBuf::from("18/main"), control.clone())];
        let moved_on = |after: &Control, copied: Vec<(PathBuf, Control)>| {
            let error =
                live.moved_on(std::slice::from_ref(&before), std::slice::from_ref(after), &copied);
            error.map(|error| error.to_string())
        };
        assert_eq!(moved_on(&before, copy(&before)), None);
        // A checkpoint after the copy, and one that files were copied one by one beside.
        assert_eq!((moved_on(&later, copy(&before)), moved_on(&later, vec![])), (None, None));
        let said = moved_on(&later, copy(&later)).unwrap();
        assert_eq!(said, "the server ended a checkpoint at 0/40");
        let mut promoted = before.clone();
        promoted.details.min_recovery_timeline = 2;
        for copied in [vec![], copy(&before)] {
            let said = moved_on(&promoted, copied).unwrap();
            assert_eq!(said, "the server went from timeline 1 to 2");
        }
    }

    #[test]
    fn a_copy_has_all_clusters() {
        let directory = tempfile::tempdir().unwrap();
        let (live, copy) = one(&Sample::control(Lsn(16), Lsn(32)), &directory);
        let mut other = Verified { controls: copy.controls.clone(), ..Verified::default() };
        other.controls[0].1.system_identifier = "1".to_owned();
        live.all_in(copy).unwrap();
        for copy in [Verified::default(), other] {
            let error = live.all_in(copy).unwrap_err().told(1);
            assert!(plugin_sdk::chain::chain(&error).contains("`18/main` is not in the copy"));
        }
    }
}
