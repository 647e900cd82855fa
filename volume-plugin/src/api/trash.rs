//! The calls of `docker pgvol` on what was removed.

use std::sync::Arc;

use plugin_sdk::router::{Refusal, Router};
use plugin_sdk::wire::null_as_default;
use serde::{Deserialize, Serialize};

use super::wire::Nothing;
use super::with;
use crate::app::App;
use crate::volume::listing::Shown;
use crate::volume::purge::Which;
use crate::volume::trash::Target;

/// `/Pgvol.Undelete`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Undelete {
    /// A volume's name, or an id of the trash.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// What it is called from now on; none for what it was.
    #[serde(rename = "as", default)]
    pub new_name: Option<String>,
}

/// What was done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Undeleted {
    /// What it is called now.
    pub name: String,
}

/// `/Pgvol.Purge`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Purge {
    /// Volumes' names and ids of the trash.
    #[serde(default, deserialize_with = "null_as_default")]
    pub names: Vec<String>,
    /// Everything instead.
    #[serde(default)]
    pub all: bool,
}

/// What is being deleted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Purged {
    /// Ids of the trash.
    pub ids: Vec<String>,
}

/// `/Pgvol.Trash`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trash {
    /// The last removed at the end.
    pub volumes: Vec<Removed>,
}

/// A volume in the trash.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Removed {
    /// Names it alone.
    pub id: String,
    /// What it was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `kept`, `deleting` or `degraded`.
    pub state: String,
    /// Why it is degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was removed; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<String>,
    /// When it goes by itself; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Bytes that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
}

/// `router` with these calls of `app`.
pub(super) fn routes(router: Router, app: &Arc<App>) -> Router {
    router
        .call("/Pgvol.Trash", with(app, trash))
        .call("/Pgvol.Undelete", with(app, undelete))
        .call("/Pgvol.Purge", with(app, purge))
}

async fn trash(app: Arc<App>, _: Nothing) -> Result<Trash, Refusal> {
    let shown = app.service().await?.show_trash().await?;
    Ok(Trash { volumes: shown.into_iter().map(Removed::from).collect() })
}

async fn undelete(app: Arc<App>, request: Undelete) -> Result<Undeleted, Refusal> {
    let target: Target = request.name.parse()?;
    let new_name = request.new_name.map(|name| name.parse()).transpose()?;
    let name = app.service().await?.undelete(target, new_name).await?;
    Ok(Undeleted { name: name.to_string() })
}

async fn purge(app: Arc<App>, request: Purge) -> Result<Purged, Refusal> {
    let targets = request.names.iter().map(|name| name.parse());
    let targets = targets.collect::<Result<Vec<Target>, _>>()?;
    let which = match (request.all, targets.is_empty()) {
        (true, true) => Which::All,
        (false, false) => Which::These(targets),
        _ => return Err(Refusal::new("a purge names volumes of the trash, or says `all`")),
    };
    Ok(Purged { ids: app.service().await?.purge(which).await? })
}

impl From<Shown> for Removed {
    fn from(shown: Shown) -> Self {
        let Shown { id, name, time, used, reason } = shown;
        let state = match (&reason, time) {
            (Some(_), _) => "degraded",
            (None, Some(_)) => "kept",
            (None, None) => "deleting",
        };
        Self {
            id,
            name: name.map(|name| name.to_string()),
            state: state.to_owned(),
            reason,
            removed: time.map(|(removed, _)| format!("{removed:.0}")),
            until: time.map(|(_, until)| format!("{until:.0}")),
            used,
        }
    }
}
