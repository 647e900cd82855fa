//! The options of snapshots and clones: Docker's raw map in, what is asked for out.

use std::collections::BTreeMap;

use super::options::{self, OptionError, RawOptions};
use super::size::Size;
use super::spec::Access;
use crate::name::VolumeName;
use crate::snapshot::Consistency;
use crate::snapshot::retention::Keep;
use crate::snapshot::schedule::Schedule;

/// What is asked of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SnapshotSpec {
    pub(crate) consistency: Consistency,
    pub(crate) labels: BTreeMap<String, String>,
}

/// What is asked of a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CloneSpec {
    pub(crate) from: VolumeName,
    pub(crate) sanitise: Sanitise,
    /// Whether what the snapshot was prepared to is as good.
    pub(crate) prepared: bool,
    pub(crate) access: Access,
    pub(crate) size: CloneSize,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) keep: Option<Keep>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// What a clone may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloneSize {
    /// What its origin may.
    AsOrigin,
    /// This, or as much as there is.
    Given(Option<Size>),
}

/// Whether a clone is kept from reaching out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sanitise {
    /// It is.
    On,
    /// It is a replica, or whatever the user makes of it.
    Off,
}

/// Whether the options are those of a clone.
pub(crate) fn is_clone(raw: &RawOptions) -> bool {
    raw.contains_key("from")
}

/// What is asked of the snapshot `name`, which nobody has taken yet.
pub(crate) fn snapshot(name: &VolumeName, raw: &RawOptions) -> Result<SnapshotSpec, OptionError> {
    let mut consistency = Consistency::Auto;
    for (key, value) in raw {
        match (key.as_str(), value.as_str()) {
            ("snapshot", "now") => {}
            ("snapshot", _) => return Err(bad(key, value, "allowed is now")),
            ("consistency", _) => consistency = parse_consistency(value)?,
            _ if options::is_label(key) => {}
            _ => return Err(OptionError::NotOfSnapshot(key.clone())),
        }
    }
    if !raw.contains_key("snapshot") {
        return Err(OptionError::NoSnapshot(name.clone()));
    }
    Ok(SnapshotSpec { consistency, labels: options::labels(raw)? })
}

fn parse_consistency(value: &str) -> Result<Consistency, OptionError> {
    let allowed = "allowed are auto, offline, atomic, ordered, barrier and backup";
    let asked = Consistency::ALL.into_iter().find(|level| level.to_string() == value);
    asked.ok_or_else(|| bad("consistency", value, allowed))
}

/// What is asked of a clone.
pub(crate) fn clone(raw: &RawOptions) -> Result<CloneSpec, OptionError> {
    let mut asked = CloneSpec {
        from: parse_from(raw.get("from").map(String::as_str).unwrap_or_default())?,
        sanitise: Sanitise::On,
        prepared: true,
        access: Access::Guarded,
        size: match raw.get("size") {
            None => CloneSize::AsOrigin,
            Some(value) => CloneSize::Given(options::size("size", value)?),
        },
        schedule: options::schedule(raw)?,
        keep: options::keep(raw)?,
        labels: options::labels(raw)?,
    };
    for (key, value) in raw {
        match (key.as_str(), value.as_str()) {
            ("from" | "size" | "snapshot.schedule" | "snapshot.keep", _)
            | ("sanitize" | "prepared", "on")
            | ("access", "guarded") => {}
            // What was disarmed once is gone from what was prepared.
            ("sanitize", "off") => (asked.sanitise, asked.prepared) = (Sanitise::Off, false),
            ("prepared", "off") => asked.prepared = false,
            ("sanitize" | "prepared", _) => return Err(bad(key, value, "allowed are on and off")),
            ("access", "exclusive") => asked.access = Access::Exclusive,
            ("access", _) => return Err(bad(key, value, "allowed are guarded and exclusive")),
            _ if options::is_label(key) => {}
            _ => return Err(OptionError::NotOfClone(key.clone())),
        }
    }
    Ok(asked)
}

fn parse_from(value: &str) -> Result<VolumeName, OptionError> {
    value.parse().map_err(|_| bad("from", value, "allowed are VOLUME and VOLUME@SNAPSHOT"))
}

fn bad(key: &str, value: &str, allowed: &str) -> OptionError {
    options::bad(key, value, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(options: &[(&str, &str)]) -> RawOptions {
        options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn snapshot_of(options: &[(&str, &str)]) -> Result<SnapshotSpec, OptionError> {
        snapshot(&"v@s".parse().unwrap(), &raw(options))
    }

    #[test]
    fn a_snapshot_is_taken_only_where_that_is_said() {
        let asked = snapshot_of(&[("snapshot", "now"), ("label.a", "b")]).unwrap();
        assert_eq!((asked.consistency, &*asked.labels["a"]), (Consistency::Auto, "b"));
        let ordered = snapshot_of(&[("snapshot", "now"), ("consistency", "ordered")]).unwrap();
        assert_eq!(ordered.consistency, Consistency::Ordered);
        let backup = snapshot_of(&[("snapshot", "now"), ("consistency", "backup")]).unwrap();
        assert_eq!(backup.consistency, Consistency::Backup);
        for (options, said) in [
            (&[][..], "there is no snapshot v@s"),
            (&[("snapshot", "later")], "`later` is not allowed: allowed is now"),
            (
                &[("snapshot", "now"), ("consistency", "best")],
                "auto, offline, atomic, ordered, barrier and backup",
            ),
            (&[("snapshot", "now"), ("uid", "1")], "`uid`"),
            (&[("snapshot", "now"), ("from", "x")], "`from`"),
        ] {
            let error = snapshot_of(options).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_clone_takes_its_layout_from_its_origin() {
        let asked = clone(&raw(&[
            ("from", "v@s"),
            ("access", "exclusive"),
            ("snapshot.schedule", "@daily"),
            ("label.a", "b"),
        ]));
        let asked = asked.unwrap();
        assert_eq!(asked.schedule, Some("@daily".parse().unwrap()));
        assert_eq!((asked.from.as_str(), asked.sanitise), ("v@s", Sanitise::On));
        assert_eq!((asked.access, &*asked.labels["a"]), (Access::Exclusive, "b"));
        assert!(asked.prepared);
        let off = clone(&raw(&[("from", "v"), ("sanitize", "off")])).unwrap();
        assert_eq!((off.sanitise, off.prepared), (Sanitise::Off, false));
        let off = clone(&raw(&[("from", "v@s"), ("prepared", "off")])).unwrap();
        assert_eq!((off.sanitise, off.prepared), (Sanitise::On, false));
        for (key, value, said) in [
            ("from", "../x", "VOLUME@SNAPSHOT"),
            ("sanitize", "no", "on and off"),
            ("prepared", "no", "on and off"),
            ("access", "all", "guarded and exclusive"),
            ("size", "1", "`size`"),
            ("pool", "wal", "`pool`"),
            ("wal.pool", "wal", "`wal.pool`"),
        ] {
            let mut options = raw(&[("from", "v")]);
            options.insert(key.to_owned(), value.to_owned());
            let error = clone(&options).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
