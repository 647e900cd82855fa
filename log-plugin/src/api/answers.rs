//! What the admin calls answer: written by the plugin, read by `docker pglog`, which may be older or newer.
//! So a field that is missing has its default, and one that is not known is passed over. Times are RFC 3339.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `/Pglog.List`: every container that something is stored of or that is being logged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct List {
    /// By id.
    pub containers: Vec<Container>,
}

/// A container's log at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// The full id.
    pub id: String,
    /// The name that it had at its last stream.
    pub name: Option<String>,
    /// How many streams dockerd has open.
    pub streams: usize,
    /// Bytes stored.
    pub bytes: u64,
    /// In so many segments.
    pub segments: usize,
    /// The time of the first message.
    pub first: Option<String>,
    /// When something was last stored.
    pub last: Option<String>,
    /// What was lost, ever.
    pub dropped: Dropped,
}

/// Messages that a full disk has cost, and what was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dropped {
    /// How many it did not take.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many more were stored, and went before their time to make room.
    pub removed: u64,
    /// Bytes of streams that were no part of a message.
    pub garbled: u64,
}

/// `/Pglog.Inspect`: all that is known of a container's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inspect {
    /// As in the list.
    #[serde(flatten)]
    pub container: Container,
    /// The log options that it was given.
    pub options: BTreeMap<String, String>,
    /// What they come to.
    pub limits: Limits,
    /// The streams that are open.
    pub open: Vec<Stream>,
    /// In the order of the log.
    pub stored: Vec<Segment>,
    /// Where the log goes beside.
    pub sinks: Vec<Sink>,
}

/// `/Pglog.Remove`: a log that is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Removed {
    /// The container's full id.
    pub id: String,
    /// Bytes that were stored.
    pub bytes: u64,
}

/// How much is kept of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of `max-size`.
    pub max_size: u64,
    /// How many times that.
    pub max_file: u32,
}

/// A stream that dockerd has open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stream {
    /// The FIFO, as a path in the plugin.
    pub file: String,
    /// When it began.
    pub started: String,
}

/// A segment of a journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Segment {
    /// Its place in the log.
    pub sequence: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Whether a stream may still write to it.
    pub growing: bool,
}

/// `/Pglog.Status`: the plugin itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The plugin's version.
    pub version: String,
    /// Kinds of records on disk, each with the format that is written and the newest that is read.
    pub formats: BTreeMap<String, u32>,
    /// The state directory, as a path in the plugin.
    pub state_directory: String,
    /// Why the state cannot be used; then nothing else is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The settings in force.
    pub settings: BTreeMap<String, String>,
    /// What is wrong with those that were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings_error: Option<String>,
    /// Streams that dockerd has open.
    pub streams: usize,
    /// Containers, by name, of which dockerd itself drops lines when it has too many:
    /// `mode=non-blocking`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub non_blocking: Vec<String>,
    /// Containers that something is stored of.
    pub containers: usize,
    /// Bytes stored.
    pub bytes: u64,
    /// What was lost of all of them.
    pub dropped: Dropped,
    /// Every sink that works for a container.
    pub sinks: Vec<Sink>,
}

/// A sink of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sink {
    /// The container's full id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// Which sink.
    pub sink: String,
    /// Where it delivers.
    pub target: String,
    /// Bytes of the journal that are not delivered yet.
    pub lag_bytes: u64,
    /// Lines delivered.
    pub lines: u64,
    /// Bytes of them in the journal.
    pub bytes: u64,
    /// Lines that retention removed before they were delivered.
    pub dropped_lines: u64,
    /// So many more may have been: they were on their way when the plugin was killed.
    pub dropped_doubtful: u64,
    /// Whether there were more of them, not counted.
    pub dropped_uncounted: bool,
    /// Why nothing is delivered right now.
    pub error: Option<String>,
    /// Options that were given and mean nothing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What scripts read: a name or a type that changes here breaks them.
    fn keeps<T: Serialize + serde::de::DeserializeOwned + Default + PartialEq + std::fmt::Debug>(
        answer: &T,
        shown: &Value,
    ) {
        assert_eq!(serde_json::to_value(answer).unwrap(), *shown);
        assert_eq!(serde_json::from_value::<T>(shown.clone()).unwrap(), *answer);
        // Of an older plugin, and of a newer one.
        assert_eq!(serde_json::from_value::<T>(json!({})).unwrap(), T::default());
        assert_eq!(serde_json::from_value::<T>(json!({"new": 1})).unwrap(), T::default());
    }

    #[test]
    fn answers_have_the_names_that_scripts_know() {
        let container = Container { id: "ab".into(), streams: 1, bytes: 7, ..Container::default() };
        let dropped = json!({"messages": 0, "bytes": 0, "removed": 0, "garbled": 0});
        let mut shown = json!({"id": "ab", "name": null, "streams": 1, "bytes": 7, "segments": 0,
            "first": null, "last": null, "dropped": dropped});
        keeps(&List { containers: vec![container.clone()] }, &json!({"containers": [shown]}));
        let inspect = Inspect {
            container,
            options: [("max-size".into(), "1m".into())].into(),
            limits: Limits { max_size: 1, max_file: 5 },
            open: vec![Stream { file: "f".into(), started: "s".into() }],
            stored: vec![Segment { sequence: 1, bytes: 7, growing: true }],
            sinks: Vec::new(),
        };
        for (name, value) in [
            ("options", json!({"max-size": "1m"})),
            ("limits", json!({"max_size": 1, "max_file": 5})),
            ("open", json!([{"file": "f", "started": "s"}])),
            ("stored", json!([{"sequence": 1, "bytes": 7, "growing": true}])),
            ("sinks", json!([])),
        ] {
            shown[name] = value;
        }
        keeps(&inspect, &shown);
        let sink = json!({"container": "", "name": "", "sink": "file", "target": "", "lag_bytes": 0,
            "lines": 0, "bytes": 0, "dropped_lines": 0, "dropped_doubtful": 0,
            "dropped_uncounted": false, "error": null});
        let status = Status {
            version: "1.0.0".into(),
            sinks: vec![Sink { sink: "file".into(), ..Sink::default() }],
            ..Status::default()
        };
        keeps(
            &status,
            &json!({"version": "1.0.0", "formats": {}, "state_directory": "", "settings": {},
                "streams": 0, "containers": 0, "bytes": 0, "dropped": dropped, "sinks": [sink]}),
        );
        keeps(&Removed::default(), &json!({"id": "", "bytes": 0}));
    }
}
