//! What is seen of a volume before it is copied: its clusters, and who serves them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::capture::{Place, millis};
use super::{Checkpoint, Level, inside};
use crate::postgres::checkpoint;
use crate::postgres::cluster::Found;
use crate::postgres::control::{self, Control};
use crate::postgres::server::{self, Server};
use crate::sys::file::FileId;

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
