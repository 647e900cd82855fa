//! Why options cannot be taken, in words for whoever gave them.

use std::borrow::Cow;
use std::fmt;

use super::{KEYS, Kind};

/// One option that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadOption {
    /// Nobody knows the key.
    Unknown {
        /// The key.
        key: String,
    },
    /// Known, but this version cannot do it.
    NotBuilt {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// The value that can be had, if there is one.
        instead: Option<&'static str>,
    },
    /// The value is not what the key takes.
    Malformed {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What the key takes.
        allowed: Cow<'static, str>,
    },
}

/// All that is wrong with a container's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOptions(pub Vec<BadOption>);

/// What the options of sinks begin with.
const SINKS: [&str; 3] = ["file-", "syslog-", "fluentd-"];

/// What `key` begins with, if it is of a sink.
fn sink(key: &str) -> Option<&'static str> {
    SINKS.into_iter().find(|sink| key.starts_with(sink))
}

/// What could be meant by `key`: the options of its sink, or those of none.
fn known_beside(key: &str) -> Vec<&'static str> {
    let built = KEYS.iter().filter(|(_, kind)| !matches!(kind, Kind::NotBuilt(_)));
    built.map(|&(known, _)| known).filter(|known| sink(known) == sink(key)).collect()
}

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { key } => {
                let known = known_beside(key).join(", ");
                write!(f, "unknown log option `{key}`; known are {known}")?;
                if sink(key).is_none() {
                    write!(
                        f,
                        ", and those of sinks: {}",
                        SINKS.map(|sink| format!("{sink}*")).join(", ")
                    )?;
                }
                Ok(())
            }
            Self::NotBuilt { key, value, instead: None } => {
                write!(f, "log option `{key}` (`{value}`) is not built yet")
            }
            Self::NotBuilt { key, value, instead: Some(instead) } => {
                write!(f, "log option `{key}={value}` is not built yet; allowed is `{instead}`")
            }
            Self::Malformed { key, value, allowed } => {
                write!(f, "log option `{key}={value}`: allowed is {allowed}")
            }
        }
    }
}

impl fmt::Display for BadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, bad) in self.0.iter().enumerate() {
            write!(f, "{}{bad}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for BadOptions {}
