//! The call of `docker pgvol` that changes a volume's options.

use std::sync::Arc;

use plugin_sdk::router::{Refusal, Router};
use plugin_sdk::wire::null_as_default;
use serde::{Deserialize, Serialize};

use super::with;
use crate::app::App;
use crate::name::VolumeName;
use crate::pool::PoolName;
use crate::volume::options::RawOptions;
use crate::volume::spec::Role;

/// `/Pgvol.Set`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Set {
    /// The volume.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// New values.
    #[serde(default, deserialize_with = "null_as_default")]
    pub set: RawOptions,
    /// Options that are to have none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub unset: Vec<String>,
}

/// `/Pgvol.Move`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Move {
    /// The volume.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// What of it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub role: String,
    /// Where to.
    #[serde(default, deserialize_with = "null_as_default")]
    pub pool: String,
}

/// `/Pgvol.ReleaseReserve`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReleaseReserve {
    /// The volume.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
}

/// What was done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    /// The volume.
    pub name: String,
}

/// `router` with this call of `app`.
pub(super) fn routes(router: Router, app: &Arc<App>) -> Router {
    router
        .call("/Pgvol.Set", with(app, set))
        .call("/Pgvol.ReleaseReserve", with(app, release_reserve))
        .call("/Pgvol.Move", with(app, move_role))
}

async fn release_reserve(app: Arc<App>, request: ReleaseReserve) -> Result<Done, Refusal> {
    let name: VolumeName = request.name.parse()?;
    app.service().await?.release_reserve(name.clone()).await?;
    Ok(Done { name: name.to_string() })
}

async fn move_role(app: Arc<App>, request: Move) -> Result<Done, Refusal> {
    let name: VolumeName = request.name.parse()?;
    if request.role != Role::Wal.to_string() {
        return Err(Refusal::new(format!("role `{}`: only `wal` can be moved", request.role)));
    }
    app.service().await?.move_wal(name.clone(), PoolName::new(request.pool)).await?;
    Ok(Done { name: name.to_string() })
}

async fn set(app: Arc<App>, request: Set) -> Result<Done, Refusal> {
    let name: VolumeName = request.name.parse()?;
    app.service().await?.change(name.clone(), request.set, request.unset).await?;
    Ok(Done { name: name.to_string() })
}
