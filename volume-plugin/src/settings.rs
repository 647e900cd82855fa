//! The plugin's settings (`docker plugin set pgvol NAME=value`).

use plugin_sdk::settings::{BadSettings, InForce, Reader, Setting};
use plugin_sdk::telemetry::Level;

use crate::pool::{ImageLimit, ImageSize};
use crate::volume::listing::ListedSnapshots;
use crate::volume::spec::Layout;
use crate::volume::trash::TrashTime;

const DEFAULT_LAYOUT: Setting = Setting {
    name: "DEFAULT_LAYOUT",
    description: "layout of volumes that are created without one: split or pgdata",
    default: "split",
};

const LIST_SNAPSHOTS: Setting = Setting {
    name: "LIST_SNAPSHOTS",
    description: "snapshots that docker volume ls shows: asked, without those that schedules took, or all",
    default: "asked",
};

const LOG_LEVEL: Setting = Setting {
    name: "LOG_LEVEL",
    description: "error, warn, info, debug or trace",
    default: "info",
};

const POOL_SIZE: Setting = Setting {
    name: "POOL_SIZE",
    description: "size of the image of the pool `default` when it is made",
    default: "10G",
};

const POOL_MAX: Setting = Setting {
    name: "POOL_MAX",
    description: "size up to which that image grows ahead of use: none for as far as the host's disk allows",
    default: "none",
};

const TRASH: Setting = Setting {
    name: "TRASH",
    description: "how long a removed volume can be had back: 0, or a number with s, m, h or d",
    default: "24h",
};

/// All settings, as config.json declares them.
pub const SETTINGS: [Setting; 6] =
    [DEFAULT_LAYOUT, LIST_SNAPSHOTS, LOG_LEVEL, POOL_SIZE, POOL_MAX, TRASH];

/// The settings of this process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Layout of volumes that are created without one.
    pub default_layout: Layout,
    /// Which snapshots are listed.
    pub listed: ListedSnapshots,
    /// How much is logged.
    pub log_level: Level,
    /// Size of a new image.
    pub pool_size: ImageSize,
    /// The largest that it grows to.
    pub pool_max: ImageLimit,
    /// All of them in words, for who asks.
    pub in_force: InForce,
    /// How long what was removed is kept.
    pub trash_time: TrashTime,
    /// What was wrong; each of them has its default instead.
    pub bad: Option<BadSettings>,
}

impl Settings {
    /// Reads them out of `environment`. Bad ones are told, not fatal: the volumes that there are
    /// must go on working.
    pub fn read(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut reader = Reader::new(environment);
        let default_layout = reader.read(&DEFAULT_LAYOUT);
        let listed = reader.read(&LIST_SNAPSHOTS);
        let log_level = reader.read(&LOG_LEVEL);
        let pool_size = reader.read(&POOL_SIZE);
        let pool_max = reader.read(&POOL_MAX);
        let trash_time = reader.read(&TRASH);
        let in_force = reader.in_force();
        let bad = reader.finish().err();
        Self { default_layout, listed, log_level, pool_size, pool_max, in_force, trash_time, bad }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        let settings = Settings::read([]);
        assert_eq!(settings.pool_size, "10G".parse().unwrap());
        assert_eq!(settings.pool_max, "none".parse().unwrap());
        assert_eq!(settings.trash_time, "1d".parse().unwrap());
        assert_eq!(settings.default_layout, Layout::Split);
        assert_eq!(settings.log_level, Level::Info);
        assert_eq!(settings.bad, None);
    }

    #[test]
    fn all_bad_ones_are_told() {
        let set = |name: &str| (name.to_owned(), "?".to_owned());
        let names = ["POOL_SIZE", "POOL_MAX", "LOG_LEVEL", "TRASH", "DEFAULT_LAYOUT", "PATH"];
        let bad = Settings::read(names.map(set)).bad.unwrap();
        assert_eq!(bad.0.len(), 5);
    }
}
