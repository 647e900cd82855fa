//! Plugin settings.

use plugin_sdk::settings::{BadSettings, Reader, Setting};
use plugin_sdk::telemetry::Level;

const LOG_LEVEL: Setting = Setting {
    name: "LOG_LEVEL",
    description: "error, warn, info, debug or trace",
    default: "info",
};

/// Every setting, as config.json declares them.
pub const SETTINGS: &[Setting] = &[LOG_LEVEL];

/// What the plugin was told by `docker plugin set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How much the plugin logs of its own doing.
    pub log_level: Level,
}

impl Settings {
    /// Reads the settings out of `environment`; on failure names every bad one.
    pub fn read(
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, BadSettings> {
        let mut reader = Reader::new(environment);
        let settings = Self { log_level: reader.read(&LOG_LEVEL) };
        reader.finish().map(|()| settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_parse() {
        assert_eq!(Settings::read([]).unwrap(), Settings { log_level: Level::Info });
    }
}
