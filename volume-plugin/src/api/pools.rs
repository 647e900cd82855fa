//! The call of `docker pgvol` that makes a pool smaller.

use std::sync::Arc;

use plugin_sdk::router::{Refusal, Router};
use plugin_sdk::wire::null_as_default;
use serde::{Deserialize, Serialize};

use super::with;
use crate::app::App;
use crate::pool::PoolName;

/// `/Pgvol.GiveBack`: answered when all is done.
#[derive(Debug, Serialize, Deserialize)]
pub struct GiveBack {
    /// The pool.
    #[serde(default, deserialize_with = "null_as_default")]
    pub pool: String,
}

/// What was done.
#[derive(Debug, Serialize, Deserialize)]
pub struct GivenBack {
    /// The pool.
    pub pool: String,
    /// Bytes that the host has now.
    pub given: u64,
}

/// `router` with this call of `app`.
pub(super) fn routes(router: Router, app: &Arc<App>) -> Router {
    router.call("/Pgvol.GiveBack", with(app, give_back))
}

async fn give_back(app: Arc<App>, request: GiveBack) -> Result<GivenBack, Refusal> {
    let GiveBack { pool } = request;
    let given = app.service().await?.give_back(PoolName::new(pool.clone())).await?;
    Ok(GivenBack { pool, given })
}
