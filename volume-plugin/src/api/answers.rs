//! What the admin calls answer: written by the plugin, read by `docker pgvol`, which may be older or newer.
//! So a field that is missing has its default, and one that is not known is passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `/Pgvol.List`: every volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct List {
    /// By name.
    pub volumes: Vec<Volume>,
}

/// A volume at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// `ok`, `creating` or `degraded`.
    pub state: String,
    /// Why it is degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The option's word; none where the record cannot be read.
    pub layout: Option<String>,
    /// RFC 3339; likewise.
    pub created: Option<String>,
    /// How many times containers have it mounted.
    pub mounts: usize,
    /// The user's own words.
    pub labels: BTreeMap<String, String>,
}

/// `/Pgvol.Status`: the plugin itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The plugin's version.
    pub version: String,
    /// Kinds of records on disk, each with the format that is written and the newest that is read.
    pub formats: BTreeMap<String, u32>,
    /// The state directory, by the host's path where that can be told.
    pub state_directory: String,
    /// Why the state cannot be used; then nothing else is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The settings in force.
    pub settings: BTreeMap<String, String>,
    /// What is wrong with those that were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings_error: Option<String>,
    /// By name.
    pub pools: Vec<Pool>,
    /// How many volumes are in each state.
    pub volumes: BTreeMap<String, usize>,
    /// Those that are not ok.
    pub degraded: Vec<Degraded>,
}

/// A pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// `open`, `closed` until it is first needed, or `failed`.
    pub state: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `image` or `dir`; this and the rest only of one that is open.
    pub kind: Option<String>,
    /// The image file or the directory, by the host's path where that can be told.
    pub path: Option<String>,
    /// The device of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Bytes that its file system has.
    pub size: Option<u64>,
    /// Bytes of these that are in use, by whatever is on that file system.
    pub used: Option<u64>,
    /// Bytes that can still be written.
    pub free: Option<u64>,
    /// Bytes by which the pool can still grow.
    pub growable: Option<u64>,
    /// What will go wrong unless somebody does something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

/// `/Pgvol.DiskUsage`: who takes what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskUsage {
    /// By volume.
    pub shares: Vec<Share>,
    /// As in the status.
    pub pools: Vec<Pool>,
}

/// A role of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Share {
    /// The volume.
    pub volume: String,
    /// Its role, as options write it.
    pub role: String,
    /// Where the role lives.
    pub pool: String,
    /// Bytes allocated; none where that could not be seen.
    pub used: Option<u64>,
    /// Bytes that it may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Bytes that deleting the volume would give back, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freed: Option<u64>,
}

/// A volume that is degraded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Degraded {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
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

    fn pool() -> Pool {
        Pool {
            name: "default".into(),
            state: "failed".into(),
            reason: Some("full".into()),
            size: Some(3),
            ..Pool::default()
        }
    }

    #[test]
    fn answers_have_the_names_that_scripts_know() {
        let volume = Volume {
            name: "b".into(),
            state: "degraded".into(),
            reason: Some("torn".into()),
            mounts: 1,
            labels: [("team".into(), "a".into())].into(),
            ..Volume::default()
        };
        let shown = json!({"name": "b", "state": "degraded", "reason": "torn", "layout": null,
            "created": null, "mounts": 1, "labels": {"team": "a"}});
        keeps(&List { volumes: vec![volume] }, &json!({"volumes": [shown]}));
        let pool_shown = json!({"name": "default", "state": "failed", "reason": "full",
            "kind": null, "path": null, "size": 3, "used": null, "free": null, "growable": null});
        let status = Status {
            version: "1.0.0".into(),
            formats: [("pgvol-volume".into(), 6)].into(),
            state_directory: "/var/lib/pgvol".into(),
            settings: [("TRASH".into(), "24h".into())].into(),
            pools: vec![pool()],
            volumes: [("degraded".into(), 1)].into(),
            degraded: vec![Degraded { name: "b".into(), reason: "torn".into() }],
            ..Status::default()
        };
        keeps(
            &status,
            &json!({"version": "1.0.0", "formats": {"pgvol-volume": 6},
                "state_directory": "/var/lib/pgvol", "settings": {"TRASH": "24h"},
                "pools": [pool_shown], "volumes": {"degraded": 1},
                "degraded": [{"name": "b", "reason": "torn"}]}),
        );
        let share = Share { volume: "b".into(), role: "wal".into(), ..Share::default() };
        let usage = DiskUsage { shares: vec![share], pools: vec![pool()] };
        let shown = json!({"volume": "b", "role": "wal", "pool": "", "used": null});
        keeps(&usage, &json!({"shares": [shown], "pools": [pool_shown]}));
    }
}
