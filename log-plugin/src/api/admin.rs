//! The calls of `docker pglog`: what Docker has no call for. Only root of the host reaches the socket.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use plugin_sdk::router::{Refusal, Router};
use plugin_sdk::wire::null_as_default;
use serde::Deserialize;

use super::answers::{
    Container, Dropped, Inspect, Limits, List, Removed, Segment, Sink, Status, Stream,
};
use super::wire::Empty;
use super::{Api, Logs};
use crate::app::FORMATS;
use crate::ingest::StreamRecord;
use crate::journal::{About, Inventory, Lost, RemovalError, Stored};
use crate::names::ContainerId;
use crate::options::LogSpec;
use crate::sink::SinkStatus;

/// Of which container.
#[derive(Debug, Deserialize)]
struct Of {
    #[serde(default, deserialize_with = "null_as_default")]
    container: String,
}

/// Which log goes.
#[derive(Debug, Deserialize)]
struct Remove {
    #[serde(default, deserialize_with = "null_as_default")]
    container: String,
    /// Even if a sink has not delivered all of it.
    #[serde(default, deserialize_with = "null_as_default")]
    undelivered: bool,
}

/// `router` with the admin calls of `api`.
pub(super) fn routes(router: Router, api: &Api) -> Router {
    let [lists, inspects, removes, states] = [(); 4].map(|()| api.clone());
    router
        .call("/Pglog.List", move |_: Empty| list(lists.clone()))
        .call("/Pglog.Inspect", move |of: Of| inspect(inspects.clone(), of))
        .call("/Pglog.Remove", move |of: Remove| remove(removes.clone(), of))
        .call("/Pglog.Status", move |_: Empty| status(states.clone()))
}

async fn list(api: Api) -> Result<List, Refusal> {
    let logs = api.logs()?;
    let found = tokio::task::spawn_blocking(move || {
        let streams = logs.streams.records();
        let containers = containers(&logs, &streams)?;
        let glance = |id: ContainerId| Looked::at(&logs, &streams, id).container();
        Ok::<_, Refusal>(containers.into_iter().map(glance).collect())
    });
    Ok(List { containers: found.await?? })
}

async fn inspect(api: Api, of: Of) -> Result<Inspect, Refusal> {
    let id = ContainerId::parse(&of.container)?;
    let logs = api.logs()?;
    let found = tokio::task::spawn_blocking(move || {
        let streams = logs.streams.records();
        if containers(&logs, &streams)?.contains(&id) {
            let mut sinks = logs.sinks.status();
            sinks.retain(|sink| sink.container == id.as_str());
            Ok(Looked::at(&logs, &streams, id).whole(sinks))
        } else {
            Err(Refusal::new(format!("no log of a container {id}")))
        }
    });
    found.await?
}

/// Refused while anything may still be added to the log or, unless that is given up, has to be delivered out
/// of it.
async fn remove(api: Api, of: Remove) -> Result<Removed, Refusal> {
    let id = ContainerId::parse(&of.container)?;
    let logs = api.logs()?;
    if of.undelivered && !logs.journals.get(&id).is_open() {
        logs.sinks.give_up(&id).await;
    }
    let removed = tokio::task::spawn_blocking(move || {
        if !logs.journals.stored()?.contains(&id) {
            return Err(Refusal::new(format!("no log of a container {id} is stored")));
        }
        let journal = logs.journals.get(&id);
        if journal.is_open() {
            return Err(RemovalError::Live.into());
        }
        let bytes = logs.sinks.forget_after(&id, || journal.remove_all().map_err(Refusal::from))?;
        tracing::info!(op = "remove", container = %id, bytes, undelivered = of.undelivered);
        Ok(Removed { id: id.to_string(), bytes })
    });
    removed.await?
}

/// Answered also while the state cannot be used: this is where one looks for the reason.
async fn status(api: Api) -> Result<Status, Refusal> {
    let settings = api.settings.iter().map(|(&name, value)| (name.to_owned(), value.clone()));
    let status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        formats: FORMATS.map(|(kind, version)| (kind.to_owned(), version)).into(),
        state_directory: api.state_directory.display().to_string(),
        settings: settings.collect(),
        settings_error: api.settings_error.clone(),
        ..Status::default()
    };
    let logs = match api.logs() {
        Ok(logs) => logs,
        Err(refusal) => return Ok(Status { error: Some(refusal.to_string()), ..status }),
    };
    let counted = tokio::task::spawn_blocking(move || {
        let stored = logs.journals.stored()?;
        let bytes = stored.iter().map(|id| logs.journals.get(id).inventory().bytes()).sum();
        let dropped = logs.journals.lost_in_all()?.into();
        let streams = logs.streams.records();
        Ok::<_, Refusal>(Status {
            streams: streams.len(),
            non_blocking: non_blocking(&streams),
            containers: stored.len(),
            bytes,
            dropped,
            sinks: logs.sinks.status().into_iter().map(Sink::from).collect(),
            ..status
        })
    });
    counted.await?
}

/// The names of those with `mode=non-blocking`, in order.
fn non_blocking(streams: &[Arc<StreamRecord>]) -> Vec<String> {
    let mode = |stream: &&Arc<StreamRecord>| {
        stream.options.get("mode").is_some_and(|mode| mode == "non-blocking")
    };
    let name = |stream: &Arc<StreamRecord>| match stream.name.trim_start_matches('/') {
        "" => stream.container.clone(),
        name => name.to_owned(),
    };
    let names: BTreeSet<_> = streams.iter().filter(mode).map(name).collect();
    names.into_iter().collect()
}

/// Those of which something is stored, and those whose stream has brought nothing yet.
fn containers(
    logs: &Logs,
    streams: &[Arc<StreamRecord>],
) -> Result<BTreeSet<ContainerId>, Refusal> {
    let mut all: BTreeSet<_> = logs.journals.stored()?.into_iter().collect();
    all.extend(streams.iter().filter_map(|stream| ContainerId::parse(&stream.container).ok()));
    Ok(all)
}

/// What was seen of one container.
struct Looked<'a> {
    id: ContainerId,
    streams: Vec<&'a StreamRecord>,
    about: Option<About>,
    inventory: Inventory,
    dropped: Dropped,
}

impl<'a> Looked<'a> {
    fn at(logs: &Logs, streams: &'a [Arc<StreamRecord>], id: ContainerId) -> Self {
        let journal = logs.journals.get(&id);
        let mut streams: Vec<&StreamRecord> =
            streams.iter().map(AsRef::as_ref).filter(|its| its.container == id.as_str()).collect();
        streams.sort_by_key(|stream| stream.started);
        Self {
            streams,
            about: journal.about(),
            inventory: journal.inventory(),
            dropped: journal.lost().into(),
            id,
        }
    }

    fn container(&self) -> Container {
        // The newest stream has the newest name.
        let current = self.streams.last().map(|stream| stream.name.trim_start_matches('/'));
        let name = current.or(self.about.as_ref().map(|about| &*about.name));
        Container {
            id: self.id.to_string(),
            name: name.filter(|name| !name.is_empty()).map(str::to_owned),
            streams: self.streams.len(),
            bytes: self.inventory.bytes(),
            segments: self.inventory.segments.len(),
            first: self.inventory.first.and_then(rfc3339),
            last: self.inventory.last.and_then(rfc3339),
            dropped: self.dropped,
        }
    }

    fn whole(&self, sinks: Vec<SinkStatus>) -> Inspect {
        let current = self.streams.last().map(|stream| &stream.options);
        let options = current.or(self.about.as_ref().map(|about| &about.options));
        let options = options.cloned().unwrap_or_default();
        let LogSpec { max_size, max_file, .. } = LogSpec::parse(&options).unwrap_or_default();
        let stream = |stream: &&StreamRecord| Stream {
            file: stream.file.display().to_string(),
            started: rfc3339(stream.started).unwrap_or_default(),
        };
        let segment =
            |&Stored { sequence, bytes, growing }: &Stored| Segment { sequence, bytes, growing };
        Inspect {
            container: self.container(),
            options,
            limits: Limits { max_size, max_file },
            open: self.streams.iter().map(stream).collect(),
            stored: self.inventory.segments.iter().map(segment).collect(),
            sinks: sinks.into_iter().map(Sink::from).collect(),
        }
    }
}

impl From<Lost> for Dropped {
    fn from(Lost { messages, bytes, removed, garbled }: Lost) -> Self {
        Self { messages, bytes, removed, garbled }
    }
}

impl From<SinkStatus> for Sink {
    fn from(status: SinkStatus) -> Self {
        let SinkStatus { container, name, sink, target, lag_bytes, lines, bytes, .. } = status;
        Self {
            container,
            name: name.trim_start_matches('/').to_owned(),
            sink: sink.name().to_owned(),
            target,
            lag_bytes,
            lines,
            bytes,
            dropped_lines: status.dropped_lines,
            dropped_doubtful: status.dropped_doubtful,
            dropped_uncounted: status.dropped_uncounted,
            error: status.error,
            ignored: status.ignored,
        }
    }
}

/// In whole seconds.
fn rfc3339(nanoseconds: i64) -> Option<String> {
    let time = Timestamp::from_nanosecond(nanoseconds.into()).ok()?;
    Some(format!("{time:.0}"))
}
