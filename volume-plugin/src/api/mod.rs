//! Docker's VolumeDriver calls, and in `admin` those of our own client: parse -> act -> render.
//!
//! Get and List never wait for a pool. Get is special in one more way: dockerd takes any error
//! for "no such volume" and forgets what it knew of it. So where the truth is not known, since
//! the state cannot be used or a retried request came without its body, a Get is not answered:
//! the connection is closed, which dockerd takes for what it is.

pub mod admin;
pub mod answers;
pub mod change;
pub mod pools;
pub mod snapshots;
pub mod trash;
pub mod trials;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use plugin_sdk::router::{Refusal, Router, Undo};

use crate::app::App;
use crate::name::{MountId, VolumeName};
use crate::volume::service::Service;
use plugin_sdk::chain::chain;
use wire::{
    CapabilitiesResponse, CreateRequest, GetResponse, ListResponse, MountRequest, NameRequest,
    Nothing, PathResponse,
};

/// How long a Get waits for the state to become usable. dockerd calls again after 1, 2, 4 and 8 s.
const HOLD: Duration = Duration::from_secs(2);

/// How often a held Get looks for the state.
const LOOK: Duration = Duration::from_millis(250);

/// The calls of `app`.
pub fn router(app: &Arc<App>) -> Router {
    let create = with(app, create);
    let remove = with(app, remove);
    let mount = with(app, mount);
    let unmount = with(app, unmount);
    let path = with(app, path);
    let get = with(app, get);
    let list = with(app, list);
    let router = Router::new(&["VolumeDriver"])
        .call("/VolumeDriver.Create", create)
        .call("/VolumeDriver.Remove", remove)
        .call_with_undo("/VolumeDriver.Mount", mount)
        .call("/VolumeDriver.Unmount", unmount)
        .call("/VolumeDriver.Path", path)
        .call("/VolumeDriver.Get", get)
        .call("/VolumeDriver.List", list)
        .call("/VolumeDriver.Capabilities", |_: Nothing| async {
            Ok(CapabilitiesResponse::local())
        });
    let router = trials::routes(snapshots::routes(admin::routes(router, app), app), app);
    pools::routes(change::routes(trash::routes(router, app), app), app)
}

/// Gives `call` the app beside each request.
fn with<Req, Fut>(
    app: &Arc<App>,
    call: impl Fn(Arc<App>, Req) -> Fut + Send + Sync + 'static,
) -> impl Fn(Req) -> Fut + Send + Sync + 'static {
    let app = Arc::clone(app);
    move |request| call(Arc::clone(&app), request)
}

async fn create(app: Arc<App>, request: CreateRequest) -> Result<(), Refusal> {
    let name: VolumeName = request.name.parse()?;
    Ok(app.service().await?.create(name, request.options).await?)
}

async fn remove(app: Arc<App>, request: NameRequest) -> Result<(), Refusal> {
    let name: VolumeName = request.name.parse()?;
    Ok(app.service().await?.remove(name).await?)
}

async fn mount(app: Arc<App>, request: MountRequest) -> Result<(PathResponse, Undo), Refusal> {
    let name: VolumeName = request.name.parse()?;
    let id: MountId = request.id.parse()?;
    let service = app.service().await?;
    let view = Arc::clone(&service).mount(name.clone(), id.clone()).await?;
    Ok((PathResponse::new(Some(view)), Box::pin(undo_mount(service, name, id))))
}

/// dockerd sends no Unmount after a Mount that it did not wait for.
async fn undo_mount(service: Arc<Service>, name: VolumeName, id: MountId) {
    if let Err(error) = service.unmount(name.clone(), id).await {
        tracing::error!(volume = %name, error = chain(&error), "a mount that nobody waited for is left");
    }
}

async fn unmount(app: Arc<App>, request: MountRequest) -> Result<(), Refusal> {
    // dockerd would keep the id and use it again: a name that cannot be ours is not mounted.
    let (Ok(name), Ok(id)) = (request.name.parse(), request.id.parse()) else {
        return if request.name.is_empty() {
            Err(Refusal::new("the request names no volume"))
        } else {
            Ok(())
        };
    };
    Ok(app.service().await?.unmount(name, id).await?)
}

async fn path(app: Arc<App>, request: NameRequest) -> Result<PathResponse, Refusal> {
    let name: VolumeName = request.name.parse()?;
    Ok(PathResponse::new(app.service().await?.path(&name)?))
}

async fn get(app: Arc<App>, request: NameRequest) -> Result<GetResponse, Refusal> {
    if request.name.is_empty() {
        return Err(Refusal::hang_up("a Get came without a name"));
    }
    let name: VolumeName = request.name.parse()?;
    let service = hold_until_open(&app).await?;
    match service.get(&name).await {
        None => Err(Refusal::new(format!("no such volume: {name}"))),
        Some((entry, status)) => {
            let mountpoint = service.path(&name).ok().flatten();
            Ok(GetResponse::new(name, mountpoint, &entry, status))
        }
    }
}

async fn list(app: Arc<App>, _: Nothing) -> Result<ListResponse, Refusal> {
    Ok(ListResponse::new(app.service().await?.list()))
}

async fn hold_until_open(app: &Arc<App>) -> Result<Arc<Service>, Refusal> {
    let deadline = tokio::time::Instant::now() + HOLD;
    loop {
        match app.service().await {
            Ok(service) => return Ok(service),
            Err(error) if tokio::time::Instant::now() > deadline => {
                return Err(Refusal::hang_up(chain(&error)));
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Reads `body` as every call does.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_all(body: &[u8]) {
    use plugin_sdk::wire::parse;
    drop((parse::<CreateRequest>(body), parse::<NameRequest>(body), parse::<MountRequest>(body)));
    drop((parse::<Nothing>(body), parse::<change::Set>(body), parse::<change::Move>(body)));
    drop((parse::<trash::Undelete>(body), parse::<trash::Purge>(body)));
    drop((parse::<snapshots::Make>(body), parse::<snapshots::Of>(body)));
    drop(parse::<snapshots::Wait>(body));
    drop((parse::<snapshots::Restore>(body), parse::<trials::Tried>(body)));
    drop(parse::<trials::Prepare>(body));
    drop((parse::<snapshots::Protect>(body), parse::<snapshots::Verify>(body)));
}

#[cfg(test)]
mod tests;
