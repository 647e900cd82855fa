//! What others find out about a snapshot: the plugin starts no server, for it knows no images. Whoever
//! talks to the engine makes a clone, starts one on that, and tells what came of it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::capture::{clusters, read_control};
use super::facts::{Check, Origin, Original};
use super::verifying::TRIED;
use crate::name::VolumeName;
use crate::sys::Doing;
use crate::volume::catalog::Record;
use crate::volume::error::VolumeError;
use crate::volume::service::Service;

/// Longest text that is kept of a check, in bytes.
const LONGEST: usize = 2048;

/// Where a cluster is in its volume, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Below the volume's root.
    pub path: PathBuf,
    /// The major version, or `unknown`.
    pub version: &'static str,
    /// The owner, whom the server has to run as.
    pub uid: u32,
    /// Likewise.
    pub gid: u32,
}

impl Service {
    /// The clusters in the volume or snapshot `name`.
    pub async fn placed_clusters(
        self: Arc<Self>,
        name: VolumeName,
    ) -> Result<Vec<Placed>, VolumeError> {
        let record = self.ready(&name)?;
        let shares = self.shares(&record).await?;
        self.blocking(move |_| {
            let mut placed = Vec::new();
            for found in clusters(&record, &shares[0])? {
                let (_, control) = read_control(&found.dir)?;
                let owner = found.dir.metadata(Path::new("."));
                let owner = owner.doing(|| "look at a cluster".to_owned())?;
                placed.push(Placed {
                    // Component by component: joining nothing would leave a slash at the end.
                    path: record.data().components().chain(found.path.components()).collect(),
                    version: control.version,
                    uid: owner.uid(),
                    gid: owner.gid(),
                });
            }
            Ok(placed)
        })
        .await
    }

    /// Keeps with the snapshot `name` what a server on its `clone` has shown.
    pub async fn note_trial(
        self: Arc<Self>,
        name: VolumeName,
        clone: VolumeName,
        mut checks: Vec<Check>,
    ) -> Result<(), VolumeError> {
        let snapshot = self.ready(&name)?;
        if !snapshot.is_snapshot() {
            return Err(VolumeError::NoSnapshot(name));
        }
        if clone_of(&snapshot, &self.ready(&clone)?).is_none() {
            return Err(VolumeError::NoClone { clone, of: name });
        }
        checks.retain(|check| TRIED.contains(&&*check.name));
        for check in &mut checks {
            check.found = shortened(&check.found);
        }
        self.keep_checks(&name, snapshot.created, checks).await
    }
}

/// Where `clone` comes from, if that is this very `snapshot`.
pub(super) fn clone_of<'a>(snapshot: &Record, clone: &'a Record) -> Option<&'a Origin> {
    let origin = clone.origin.as_deref()?;
    let is_it = match &origin.original {
        Some(original) => *original == Original::of(snapshot),
        None => origin.from == snapshot.name && origin.at >= snapshot.created,
    };
    is_it.then_some(origin)
}

/// Without what would spoil a line, and not longer than is kept.
fn shortened(text: &str) -> String {
    let mut kept = String::new();
    for letter in text.chars().map(|it| if it.is_control() { ' ' } else { it }) {
        if kept.len() + letter.len_utf8() > LONGEST {
            break;
        }
        kept.push(letter);
    }
    kept
}
