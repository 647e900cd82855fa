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
    /// What was wrong; each of them has its default instead, but for what could do harm.
    pub bad: Option<BadSettings>,
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
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        options::age(text).map(Self).ok_or_else(|| format!("allowed is {}", options::AN_AGE))
    }
}

/// A size, as the option `max-size` has it.
struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        options::size(text).map(Self).ok_or_else(|| format!("allowed is {}", options::A_SIZE))
    }
}

impl Settings {
    /// Reads the settings out of `environment`. Bad ones are told, not fatal: an engine whose plugin
    /// ends at once starts it again and again, and containers wait meanwhile. So nothing of removed
    /// containers is deleted by a default that was not meant.
    pub fn read(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut reader = Reader::new(environment);
        let (log_level, log_directory) = (reader.read(&LOG_LEVEL), reader.read(&LOG_DIR));
        let Age(keep_removed) = reader.read(&KEEP_REMOVED);
        let Size(host_max) = reader.read(&HOST_MAX);
        let in_force = reader.in_force();
        let bad = reader.finish().err();
        let mut retention = Retention { keep_removed, host_max };
        if [KEEP_REMOVED, HOST_MAX].iter().any(|setting| is_bad(bad.as_ref(), setting)) {
            retention = Retention::ALL;
        }
        Self { log_level, log_directory, retention, in_force, bad }
    }

    /// Why no file is written, where it is not known below which directory.
    pub fn no_files(&self) -> Option<String> {
        let bad = self.bad.as_ref()?;
        is_bad(Some(bad), &LOG_DIR).then(|| bad.to_string())
    }
}

fn is_bad(bad: Option<&BadSettings>, setting: &Setting) -> bool {
    bad.is_some_and(|bad| bad.0.iter().any(|bad| bad.name == setting.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_parse() {
        let log_directory = HostPath("/var/log/pglog".into());
        let settings = Settings::read([]);
        assert_eq!((settings.bad.clone(), settings.no_files()), (None, None));
        assert_eq!((settings.log_level, settings.log_directory), (Level::Info, log_directory));
        assert_eq!(settings.in_force.len(), SETTINGS.len());
    }

    #[test]
    fn what_is_kept_of_removed_containers_is_read() {
        let read = |pair: (&str, &str)| Settings::read([(pair.0.to_owned(), pair.1.to_owned())]);
        let retention = Settings::read([]).retention;
        assert_eq!(retention.keep_removed, Duration::from_hours(14 * 24));
        assert_eq!(retention.host_max, 10 << 30);
        assert_eq!(read(("KEEP_REMOVED", "30m")).retention.keep_removed.as_secs(), 1800);
        for bad in [("KEEP_REMOVED", ""), ("KEEP_REMOVED", "14"), ("HOST_MAX", "much")] {
            let settings = read(bad);
            assert_eq!((settings.retention, settings.no_files()), (Retention::ALL, None));
            let words = settings.bad.unwrap().to_string();
            assert!(words.contains(&format!("{}={}: allowed is", bad.0, bad.1)), "{words}");
        }
    }

    #[test]
    fn the_log_directory_is_a_path_of_the_host() {
        let read = |path: &str| Settings::read([("LOG_DIR".to_owned(), path.to_owned())]);
        let bad = read("logs");
        assert!(bad.no_files().unwrap().contains("LOG_DIR=logs: allowed is an absolute path"));
        assert!(read("/a/../b").no_files().unwrap().contains("LOG_DIR=/a/../b"));
        assert_eq!(bad.retention, Settings::read([]).retention);
        assert_eq!(read("/a/b").log_directory, HostPath("/a/b".into()));
    }
}
