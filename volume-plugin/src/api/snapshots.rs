//! The calls of `docker pgvol` on snapshots and clones.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plugin_sdk::router::{Refusal, Router};
use plugin_sdk::wire::null_as_default;
use serde::{Deserialize, Serialize};

use super::change::Done;
use super::with;
use crate::app::App;
use crate::name::VolumeName;
use crate::snapshot::{Check, Depth, Listed, Taken, Waiting, Work};
use crate::volume::error::VolumeError;
use crate::volume::options::RawOptions;
use crate::volume::service::is_copy;

/// `/Pgvol.Make`: what `docker volume create` does with a snapshot or clone, for as long as it takes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Make {
    /// The snapshot or clone.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// As after `-o`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub options: RawOptions,
    /// Whether the answer is not to wait for it.
    #[serde(default)]
    pub background: bool,
}

/// What is made, or being made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    /// The snapshot or clone.
    pub name: String,
    /// By what it can be waited for; none where it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<u64>,
}

/// `/Pgvol.Wait`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Wait {
    /// What is being made.
    #[serde(default)]
    pub work: u64,
    /// The snapshot or clone, which has another number once the plugin was started again.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
}

/// How far it is.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Whether it is made.
    pub is_made: bool,
    /// Bytes that are copied.
    pub done: u64,
    /// Bytes that there are to copy, where that is known.
    pub total: Option<u64>,
}

/// `/Pgvol.Drop`, `/Pgvol.Cancel`, `/Pgvol.Snapshots`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Of {
    /// A snapshot, or a volume.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
}

/// `/Pgvol.Protect`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Protect {
    /// The snapshot.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// Whether it shall be kept whatever happens.
    #[serde(default)]
    pub protected: bool,
}

/// `/Pgvol.Restore`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Restore {
    /// The snapshot, whose volume is meant.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// What the snapshot of the state before is called, without its volume; empty: by the time.
    #[serde(default, deserialize_with = "null_as_default")]
    pub keep: String,
}

/// What was restored.
#[derive(Debug, Serialize, Deserialize)]
pub struct Restored {
    /// The volume.
    pub name: String,
    /// The snapshot of what it was before.
    #[serde(default)]
    pub kept: String,
}

/// `/Pgvol.Verify`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Verify {
    /// The snapshot.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// Also every page.
    #[serde(default)]
    pub pages: bool,
}

/// What a verified snapshot passed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Passed {
    /// The snapshot.
    pub name: String,
    /// The checks.
    #[serde(default)]
    pub checks: Vec<Check>,
}

/// The snapshots of a volume, or of all.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Snapshots {
    /// By name.
    #[serde(default)]
    pub snapshots: Vec<Snapshot>,
}

/// A snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// `VOLUME@SNAPSHOT`.
    pub name: String,
    /// RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// How it was taken; none where that is not known.
    #[serde(default)]
    pub taken: Option<Taken>,
}

/// How long an answer about what is being made waits for its end.
const MOMENT: Duration = Duration::from_millis(500);

/// `router` with these calls of `app`.
pub(super) fn routes(router: Router, app: &Arc<App>) -> Router {
    router
        .call("/Pgvol.Make", with(app, make))
        .call("/Pgvol.Wait", with(app, wait))
        .call("/Pgvol.Cancel", with(app, cancel))
        .call("/Pgvol.Drop", with(app, remove))
        .call("/Pgvol.Protect", with(app, protect))
        .call("/Pgvol.Restore", with(app, restore))
        .call("/Pgvol.Verify", with(app, verify))
        .call("/Pgvol.Snapshots", with(app, snapshots))
}

async fn make(app: Arc<App>, request: Make) -> Result<Made, Refusal> {
    let name: VolumeName = request.name.parse()?;
    let service = app.service().await?;
    // Whoever asks by hand did not know that it is there.
    if service.making(&name).is_some() {
        return Err(VolumeError::BeingMade(name).into());
    }
    if service.get(&name).await.is_some() {
        return Err(Refusal::new(format!("{name} exists")));
    }
    let mut made = Made { name: name.to_string(), work: None };
    if request.background && is_copy(&name, &request.options) {
        let begun = service.copy_for(name, &request.options, Waiting::Nobody).await?;
        made.work = begun.map(|making| making.work.id);
    } else {
        service.create(name, request.options).await?;
    }
    Ok(made)
}

/// Answers when it has ended, or after a moment.
async fn wait(app: Arc<App>, request: Wait) -> Result<Progress, Refusal> {
    let service = app.service().await?;
    let name = request.name.parse::<VolumeName>().ok();
    let is_it = |work: &Arc<Work>| name.as_ref().is_none_or(|name| work.name == *name);
    let numbered = service.copies.numbered(request.work).filter(is_it);
    let work = numbered.or_else(|| service.copies.last_of(name.as_ref()?));
    let Some(work) = work else {
        return match &name {
            Some(name) if service.left_of(name).is_some() => {
                tokio::time::sleep(MOMENT).await;
                Ok(Progress::default())
            }
            Some(name) if service.get(name).await.is_some() => {
                Ok(Progress { is_made: true, ..Progress::default() })
            }
            _ => Err(Refusal::new(
                "the plugin was started again meanwhile; what was being made is not there",
            )),
        };
    };
    let is_made = work.ended(MOMENT).await;
    if let Some(Err(why)) = work.outcome() {
        return Err(Refusal::new(why));
    }
    Ok(Progress { is_made, done: work.progress.done(), total: work.progress.total() })
}

async fn cancel(app: Arc<App>, request: Of) -> Result<Done, Refusal> {
    let name: VolumeName = request.name.parse()?;
    app.service().await?.cancel(&name).await?;
    Ok(Done { name: name.to_string() })
}

async fn remove(app: Arc<App>, request: Of) -> Result<Done, Refusal> {
    let name: VolumeName = request.name.parse()?;
    if name.snapshot().is_none() {
        return Err(Refusal::new(format!(
            "`{name}` is no snapshot: remove it by docker volume rm"
        )));
    }
    let service = app.service().await?;
    if service.get(&name).await.is_none() {
        return Err(Refusal::new(format!("no such snapshot: {name}")));
    }
    service.remove(name.clone()).await?;
    Ok(Done { name: name.to_string() })
}

async fn protect(app: Arc<App>, request: Protect) -> Result<Done, Refusal> {
    let name: VolumeName = request.name.parse()?;
    app.service().await?.protect(name.clone(), request.protected).await?;
    Ok(Done { name: name.to_string() })
}

async fn restore(app: Arc<App>, request: Restore) -> Result<Restored, Refusal> {
    let name: VolumeName = request.name.parse()?;
    let volume = name.volume();
    let service = app.service().await?;
    let keep = match request.keep {
        empty if empty.is_empty() => {
            let at = Timestamp::now().strftime("before-restore-%Y%m%dT%H%M%SZ").to_string();
            let mut keep = volume.at(&at.parse()?);
            // Another within the same second.
            for number in 2.. {
                if service.get(&keep).await.is_none() {
                    break;
                }
                keep = volume.at(&format!("{at}-{number}").parse()?);
            }
            keep
        }
        keep => format!("{volume}@{keep}").parse()?,
    };
    service.restore(name, keep.clone()).await?;
    Ok(Restored { name: volume.to_string(), kept: keep.to_string() })
}

async fn verify(app: Arc<App>, request: Verify) -> Result<Passed, Refusal> {
    let name: VolumeName = request.name.parse()?;
    let depth = if request.pages { Depth::Pages } else { Depth::Checks };
    let checks = app.service().await?.verify(name.clone(), depth).await?;
    Ok(Passed { name: name.to_string(), checks })
}

async fn snapshots(app: Arc<App>, request: Of) -> Result<Snapshots, Refusal> {
    let of = match request.name.as_str() {
        "" => None,
        name => Some(name.parse()?),
    };
    let all = app.service().await?.taken_snapshots(of.as_ref())?;
    let shown = all.into_iter().map(|Listed { name, created, taken }| Snapshot {
        name: name.to_string(),
        created: created.map(|created| format!("{created:.0}")),
        taken,
    });
    Ok(Snapshots { snapshots: shown.collect() })
}
