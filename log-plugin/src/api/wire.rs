//! Docker's JSON, field by field. Every field may be missing or `null`: that is how Go writes an
//! empty map or list, and a repeated request has no body at all.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use plugin_sdk::router::Refusal;
use plugin_sdk::wire::null_as_default;
use serde::{Deserialize, Serialize};

use crate::container::Container;
use crate::history::Query;

/// A request whose content does not matter.
#[derive(Debug, Deserialize)]
pub(super) struct Empty {}

/// The answer to Capabilities.
#[derive(Debug, Serialize)]
pub(super) struct Capabilities {
    #[serde(rename = "Cap")]
    cap: Cap,
    #[serde(rename = "Err")]
    err: &'static str,
}

#[derive(Debug, Serialize)]
struct Cap {
    #[serde(rename = "ReadLogs")]
    read_logs: bool,
}

impl Capabilities {
    /// `docker logs` asks us, and dockerd keeps no copy of its own.
    pub(super) const READ_LOGS: Self = Self { cap: Cap { read_logs: true }, err: "" };
}

/// The answer to StartLogging and StopLogging.
#[derive(Debug, Serialize)]
pub(super) struct Unit {
    #[serde(rename = "Err")]
    err: &'static str,
}

impl Unit {
    pub(super) const OK: Self = Self { err: "" };
}

/// dockerd has begun to write a container's output into a FIFO.
#[derive(Debug, Deserialize)]
pub(super) struct StartLogging {
    /// The FIFO, as a path inside the plugin.
    #[serde(rename = "File", default, deserialize_with = "null_as_default")]
    pub(super) file: PathBuf,
    #[serde(rename = "Info", default, deserialize_with = "null_as_default")]
    pub(super) info: Info,
}

/// dockerd has written the last of it.
#[derive(Debug, Deserialize)]
pub(super) struct StopLogging {
    /// As in StartLogging.
    #[serde(rename = "File", default, deserialize_with = "null_as_default")]
    pub(super) file: PathBuf,
}

/// Somebody wants to see a container's log.
#[derive(Debug, Deserialize)]
pub(super) struct ReadLogs {
    #[serde(rename = "Info", default, deserialize_with = "null_as_default")]
    pub(super) info: Info,
    /// Called `ReadConfig` in Docker's documents only.
    #[serde(rename = "Config", default, deserialize_with = "null_as_default")]
    pub(super) config: ReadConfig,
}

/// The container; of what dockerd sends, the part that is needed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    /// All log options, dockerd's own among them.
    #[serde(rename = "Config", deserialize_with = "null_as_default")]
    pub(super) config: BTreeMap<String, String>,
    /// The full id.
    #[serde(rename = "ContainerID", deserialize_with = "null_as_default")]
    pub(super) container_id: String,
    /// The name, with a slash in front.
    #[serde(rename = "ContainerName", deserialize_with = "null_as_default")]
    pub(super) container_name: String,
    #[serde(rename = "ContainerEntrypoint", deserialize_with = "null_as_default")]
    entrypoint: String,
    #[serde(rename = "ContainerArgs", deserialize_with = "null_as_default")]
    arguments: Vec<String>,
    #[serde(rename = "ContainerImageID", deserialize_with = "null_as_default")]
    image_id: String,
    #[serde(rename = "ContainerImageName", deserialize_with = "null_as_default")]
    image_name: String,
    #[serde(rename = "ContainerCreated", deserialize_with = "null_as_default")]
    created: String,
    /// The image's environment and the user's, secrets included.
    #[serde(rename = "ContainerEnv", deserialize_with = "null_as_default")]
    environment: Vec<String>,
    #[serde(rename = "ContainerLabels", deserialize_with = "null_as_default")]
    labels: BTreeMap<String, String>,
    #[serde(rename = "DaemonName", deserialize_with = "null_as_default")]
    daemon_name: String,
}

impl Info {
    /// The container that it describes.
    pub(super) fn container(self) -> Container {
        Container {
            id: self.container_id,
            name: self.container_name,
            entrypoint: self.entrypoint,
            arguments: self.arguments,
            image_id: self.image_id,
            image_name: self.image_name,
            created: self.created,
            environment: self.environment,
            labels: self.labels,
            options: self.config,
            daemon_name: self.daemon_name,
        }
    }
}

/// What of the log.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct ReadConfig {
    /// RFC 3339; the year 1 for none.
    #[serde(rename = "Since", deserialize_with = "null_as_default")]
    since: String,
    /// Likewise.
    #[serde(rename = "Until", deserialize_with = "null_as_default")]
    until: String,
    /// How many of the last messages; negative for all.
    #[serde(rename = "Tail")]
    tail: i64,
    /// Whether to go on with what comes. dockerd says no for a container that does not run.
    #[serde(rename = "Follow", deserialize_with = "null_as_default")]
    follow: bool,
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self { since: String::new(), until: String::new(), tail: -1, follow: false }
    }
}

impl ReadConfig {
    pub(super) fn query(&self) -> Result<Query, Refusal> {
        Ok(Query {
            since: instant("Since", &self.since)?,
            until: instant("Until", &self.until)?,
            tail: u64::try_from(self.tail).ok(),
            follow: self.follow,
        })
    }
}

/// Go's zero time and anything else before 1970 is none.
fn instant(field: &str, text: &str) -> Result<Option<i64>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let time: Timestamp = text
        .parse()
        .map_err(|error| Refusal::new(format!("{field} `{text}` is no time: {error}")))?;
    let nanoseconds = time.as_nanosecond();
    Ok((nanoseconds > 0).then(|| i64::try_from(nanoseconds).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_logs(body: &str) -> ReadLogs {
        plugin_sdk::wire::parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn docker_s_zero_times_are_none() {
        let request = read_logs(
            r#"{"Info":{"Config":null,"ContainerID":"c","ContainerName":"/n","ContainerArgs":null},
            "Config":{"Since":"0001-01-01T00:00:00Z","Until":"0001-01-01T00:00:00Z","Tail":-1,
            "Follow":true}}"#,
        );
        assert_eq!(request.info.container_id, "c");
        let expected = Query { follow: true, ..Query::default() };
        assert_eq!(request.config.query().unwrap(), expected);
    }

    #[test]
    fn times_are_nanoseconds_and_tail_counts() {
        let request = read_logs(
            r#"{"Info":{},"Config":{"Since":"1970-01-01T00:00:01.000000002Z",
            "Until":"1970-01-01T02:00:03+02:00","Tail":0}}"#,
        );
        let query = request.config.query().unwrap();
        assert_eq!(query.since, Some(1_000_000_002));
        assert_eq!((query.until, query.tail), (Some(3_000_000_000), Some(0)));
        assert!(read_logs(r#"{"Config":{"Since":"soon"}}"#).config.query().is_err());
    }

    #[test]
    fn an_empty_body_asks_for_nothing() {
        assert_eq!(read_logs("").config.query().unwrap(), Query::default());
        let request: StartLogging = plugin_sdk::wire::parse(b"").unwrap();
        assert_eq!(request.file, PathBuf::new());
    }
}
