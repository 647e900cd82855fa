//! Plugin settings.

use std::path::{Component, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use plugin_sdk::settings::{BadSettings, InForce, Reader, Setting};
use plugin_sdk::telemetry::Level;

use crate::keeper::Retention;
use crate::options;

const LOG_LEVEL: Setting = Setting {
    name: "LOG_LEVEL",
    description: "error, warn, info, debug or trace",
    default: "info",
};

const LOG_DIR: Setting = Setting {
    name: "LOG_DIR",
    description: "directory of the host below which the file sink writes",
    default: "/var/log/pglog",
};

const KEEP_REMOVED: Setting = Setting {
    name: "KEEP_REMOVED",
    description: "how long the log of a removed container is kept: a number with s, m, h or d",
    default: "14d",
};

const HOST_MAX: Setting = Setting {
    name: "HOST_MAX",
    description: "size that the logs of removed containers may have together",
    default: "10g",
};

/// Every setting, as config.json declares them.
pub const SETTINGS: &[Setting] = &[LOG_LEVEL, LOG_DIR, KEEP_REMOVED, HOST_MAX];

/// What the plugin was told by `docker plugin set`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How much the plugin logs of its own doing.
    pub log_level: Level,
    /// Where on the host the file sink writes.
    pub log_directory: HostPath,
    /// How long, and how much, is kept of removed containers.
    pub retention: Retention,
    /// All of them in words, for who asks.
    pub in_force: InForce,
}

/// An absolute path of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath(pub PathBuf);

impl FromStr for HostPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(text);
        let plain = path.components().all(|part| part != Component::ParentDir);
        if path.is_absolute() && plain {
            Ok(Self(path))
        } else {
            Err("allowed is an absolute path without `..`")
        }
    }
}

/// A time, as the option `max-age` has it.
struct Age(Duration);

impl FromStr for Age {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        options::age(text).map(Self).ok_or(options::AN_AGE)
    }
}

/// A size, as the option `max-size` has it.
struct Size(u64);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        options::size(text).map(Self).ok_or(options::A_SIZE)
    }
}

impl Settings {
    /// Reads the settings out of `environment`; on failure names every bad one.
    pub fn read(
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, BadSettings> {
        let mut reader = Reader::new(environment);
        let (log_level, log_directory) = (reader.read(&LOG_LEVEL), reader.read(&LOG_DIR));
        let Age(keep_removed) = reader.read(&KEEP_REMOVED);
        let Size(host_max) = reader.read(&HOST_MAX);
        let retention = Retention { keep_removed, host_max };
        let settings = Self { log_level, log_directory, retention, in_force: reader.in_force() };
        reader.finish().map(|()| settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_parse() {
        let log_directory = HostPath("/var/log/pglog".into());
        let settings = Settings::read([]).unwrap();
        assert_eq!((settings.log_level, settings.log_directory), (Level::Info, log_directory));
        assert_eq!(settings.in_force.len(), SETTINGS.len());
    }

    #[test]
    fn what_is_kept_of_removed_containers_is_read() {
        let read = |pair: (&str, &str)| Settings::read([(pair.0.to_owned(), pair.1.to_owned())]);
        let retention = Settings::read([]).unwrap().retention;
        assert_eq!(retention.keep_removed, Duration::from_hours(14 * 24));
        assert_eq!(retention.host_max, 10 << 30);
        assert_eq!(read(("KEEP_REMOVED", "30m")).unwrap().retention.keep_removed.as_secs(), 1800);
        for bad in [("KEEP_REMOVED", ""), ("KEEP_REMOVED", "14"), ("HOST_MAX", "much")] {
            let words = read(bad).unwrap_err().to_string();
            assert!(words.contains(bad.0) && words.contains(bad.1), "{words}");
        }
    }

    #[test]
    fn the_log_directory_is_a_path_of_the_host() {
        let read = |path: &str| Settings::read([("LOG_DIR".to_owned(), path.to_owned())]);
        assert!(read("logs").unwrap_err().to_string().contains("LOG_DIR=logs"));
        assert!(read("/a/../b").unwrap_err().to_string().contains("LOG_DIR=/a/../b"));
        assert_eq!(read("/a/b").unwrap().log_directory, HostPath("/a/b".into()));
    }
}
