//! The calls by which `docker pgvol` tries or prepares a snapshot: it makes a clone, starts a server on it,
//! and tells what came of that.

use std::sync::Arc;

use plugin_sdk::router::{Refusal, Router};
use plugin_sdk::wire::null_as_default;
use serde::{Deserialize, Serialize};

use super::change::Done;
use super::snapshots::Of;
use super::with;
use crate::app::App;
use crate::name::VolumeName;
use crate::snapshot::{Check, Outcome, Placed};

/// `/Pgvol.Clusters`: where the clusters of a volume are.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Clusters {
    /// Each of them.
    #[serde(default)]
    pub clusters: Vec<Cluster>,
}

/// Where a cluster is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Below the volume's root.
    pub path: String,
    /// The major version, or `unknown`.
    pub version: String,
    /// The owner.
    pub uid: u32,
    /// Likewise.
    pub gid: u32,
}

/// `/Pgvol.Tried`: what a server on a clone has shown.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tried {
    /// The snapshot.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// Its clone.
    #[serde(default, deserialize_with = "null_as_default")]
    pub clone: String,
    /// What came of it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub checks: Vec<Found>,
}

/// `/Pgvol.Prepare`: to what a server on a clone has made of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Prepare {
    /// The snapshot.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// Its clone.
    #[serde(default, deserialize_with = "null_as_default")]
    pub clone: String,
}

/// A check that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `start`, `amcheck` or `log`.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What was found.
    #[serde(default, deserialize_with = "null_as_default")]
    pub found: String,
}

/// `router` with these calls of `app`.
pub(super) fn routes(router: Router, app: &Arc<App>) -> Router {
    router
        .call("/Pgvol.Clusters", with(app, clusters))
        .call("/Pgvol.Tried", with(app, tried))
        .call("/Pgvol.Prepare", with(app, prepare))
}

async fn clusters(app: Arc<App>, request: Of) -> Result<Clusters, Refusal> {
    let name: VolumeName = request.name.parse()?;
    let placed = app.service().await?.placed_clusters(name).await?;
    Ok(Clusters { clusters: placed.into_iter().map(Cluster::from).collect() })
}

async fn tried(app: Arc<App>, request: Tried) -> Result<Done, Refusal> {
    let (name, clone): (VolumeName, VolumeName) = (request.name.parse()?, request.clone.parse()?);
    let checks = request.checks.into_iter().map(|Found { name, outcome, found }| {
        let passed = Check::passed(&name, found);
        Check { outcome, ..passed }
    });
    app.service().await?.note_trial(name.clone(), clone, checks.collect()).await?;
    Ok(Done { name: name.to_string() })
}

async fn prepare(app: Arc<App>, request: Prepare) -> Result<Done, Refusal> {
    let (name, clone): (VolumeName, VolumeName) = (request.name.parse()?, request.clone.parse()?);
    let prepared = app.service().await?.prepare(name, clone).await?;
    Ok(Done { name: prepared.to_string() })
}

impl From<Placed> for Cluster {
    fn from(placed: Placed) -> Self {
        let Placed { path, version, uid, gid } = placed;
        Self { path: path.display().to_string(), version: version.to_owned(), uid, gid }
    }
}
