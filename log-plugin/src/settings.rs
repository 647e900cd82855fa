//! Plugin settings.

use std::path::PathBuf;
use std::str::FromStr;

use plugin_sdk::settings::{BadSettings, InForce, Reader, Setting};
use plugin_sdk::telemetry::Level;

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

/// Every setting, as config.json declares them.
pub const SETTINGS: &[Setting] = &[LOG_LEVEL, LOG_DIR];

/// What the plugin was told by `docker plugin set`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How much the plugin logs of its own doing.
    pub log_level: Level,
    /// Where on the host the file sink writes.
    pub log_directory: HostPath,
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
        if path.is_absolute() { Ok(Self(path)) } else { Err("allowed is an absolute path") }
    }
}

impl Settings {
    /// Reads the settings out of `environment`; on failure names every bad one.
    pub fn read(
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, BadSettings> {
        let mut reader = Reader::new(environment);
        let (log_level, log_directory) = (reader.read(&LOG_LEVEL), reader.read(&LOG_DIR));
        let settings = Self { log_level, log_directory, in_force: reader.in_force() };
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
    fn the_log_directory_is_a_path_of_the_host() {
        let read = |path: &str| Settings::read([("LOG_DIR".to_owned(), path.to_owned())]);
        assert!(read("logs").unwrap_err().to_string().contains("LOG_DIR=logs"));
        assert_eq!(read("/a/b").unwrap().log_directory, HostPath("/a/b".into()));
    }
}
