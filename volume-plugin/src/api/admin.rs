//! The calls of `docker pgvol`: what Docker has no call for. Only root of the host reaches the socket.

use std::path::Path;
use std::sync::Arc;

use plugin_sdk::chain::chain;
use plugin_sdk::router::{Refusal, Router};
use plugin_sdk::wire::null_as_default;
use serde::{Deserialize, Serialize};

use super::answers::{Degraded, DiskUsage, List, Pool, Share, Status, Volume};
use super::wire::Nothing;
use super::with;
use crate::app::{App, FORMATS};
use crate::name::VolumeName;
use crate::volume::catalog::Entry;
use crate::volume::overview::{Glance, PoolGlance, on_host};
use crate::volume::space::Closely;
use crate::volume::status;

/// Of which volume.
#[derive(Debug, Deserialize)]
struct Of {
    #[serde(default, deserialize_with = "null_as_default")]
    name: String,
}

/// `/Pgvol.DiskUsage`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Also what deleting would give back.
    #[serde(default)]
    pub exact: bool,
}

/// `/Pgvol.Inspect`: the Status of `docker volume inspect`, with the name.
#[derive(Debug, Serialize)]
struct Inspect {
    name: VolumeName,
    /// RFC 3339; none where the record cannot be read.
    created: Option<String>,
    #[serde(flatten)]
    status: status::Status,
}

/// `router` with the admin calls of `app`.
pub(super) fn routes(router: Router, app: &Arc<App>) -> Router {
    router
        .call("/Pgvol.List", with(app, list))
        .call("/Pgvol.Inspect", with(app, inspect))
        .call("/Pgvol.DiskUsage", with(app, disk_usage))
        .call("/Pgvol.Status", with(app, status))
}

async fn list(app: Arc<App>, _: Nothing) -> Result<List, Refusal> {
    let volumes = app.service().await?.glance();
    Ok(List { volumes: volumes.into_iter().map(Volume::from).collect() })
}

async fn inspect(app: Arc<App>, request: Of) -> Result<Inspect, Refusal> {
    let name: VolumeName = request.name.parse()?;
    match app.service().await?.get(&name).await {
        None => Err(Refusal::new(format!("no such volume: {name}"))),
        Some((entry, status)) => {
            let created = match entry {
                Entry::Volume(record) => Some(format!("{:.0}", record.created)),
                Entry::Unreadable(_) => None,
            };
            Ok(Inspect { name, created, status })
        }
    }
}

/// Looks at every file, so it takes as long as that takes.
async fn disk_usage(app: Arc<App>, request: Usage) -> Result<DiskUsage, Refusal> {
    let service = app.service().await?;
    let closely = if request.exact { Closely::Extents } else { Closely::Files };
    let shares = service.role_space(closely).await.into_iter().map(|space| Share {
        volume: space.volume.to_string(),
        role: space.role.to_string(),
        pool: space.pool.to_string(),
        used: space.used,
        limit: space.limit,
        freed: space.freed,
    });
    let shares = shares.collect();
    let pools = service.glance_at_pools().await?.into_iter().map(Pool::from).collect();
    Ok(DiskUsage { shares, pools })
}

/// Answered also while the state cannot be used: this is where one looks for the reason.
async fn status(app: Arc<App>, _: Nothing) -> Result<Status, Refusal> {
    let (settings, settings_error) = app.settings();
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        formats: FORMATS.map(|(kind, version)| (kind.to_owned(), version)).into(),
        state_directory: shown(app.state_directory()),
        settings: settings.iter().map(|(&name, value)| (name.to_owned(), value.clone())).collect(),
        settings_error: settings_error.map(str::to_owned),
        ..Status::default()
    };
    let service = match app.service().await {
        Ok(service) => service,
        Err(error) => {
            status.error = Some(chain(&error));
            return Ok(status);
        }
    };
    status.pools = service.glance_at_pools().await?.into_iter().map(Pool::from).collect();
    for glance in service.glance() {
        *status.volumes.entry(glance.state.to_owned()).or_default() += 1;
        if let Some(reason) = glance.reason {
            status.degraded.push(Degraded { name: glance.name.to_string(), reason });
        }
    }
    Ok(status)
}

/// The host's path, else the plugin's own.
fn shown(path: &Path) -> String {
    on_host(path).unwrap_or_else(|| path.to_owned()).display().to_string()
}

impl From<Glance> for Volume {
    fn from(glance: Glance) -> Self {
        let Glance { name, state, reason, recorded, mounts } = glance;
        let (name, state) = (name.to_string(), state.to_owned());
        let volume = Self { name, state, reason, mounts, ..Self::default() };
        match recorded {
            None => volume,
            Some(recorded) => Self {
                created: Some(format!("{:.0}", recorded.created)),
                layout: Some(recorded.layout),
                labels: recorded.labels,
                ..volume
            },
        }
    }
}

impl From<PoolGlance> for Pool {
    fn from(glance: PoolGlance) -> Self {
        let PoolGlance { name, description, trouble, alarm } = glance;
        let state = match (&description, &trouble) {
            (_, Some(_)) => "failed",
            (Some(_), None) => "open",
            (None, None) => "closed",
        };
        let pool = Self {
            name: name.to_string(),
            state: state.to_owned(),
            reason: trouble,
            alarm,
            ..Self::default()
        };
        match description {
            None => pool,
            Some(description) => Self {
                kind: Some(description.kind.to_owned()),
                path: Some(shown(&description.path)),
                device: description.device.map(|device| device.display().to_string()),
                size: Some(description.space.total),
                used: Some(description.space.total.saturating_sub(description.space.free)),
                free: Some(description.space.free),
                growable: Some(description.growable),
                ..pool
            },
        }
    }
}
