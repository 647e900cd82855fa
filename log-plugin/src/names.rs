//! Names that come from dockerd and become names of files: checked once, then trusted.

use std::fmt;
use std::path::Path;

/// Longest name taken; dockerd's are 64 hexadecimal digits.
const LONGEST: usize = 128;

/// A container's full id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

/// The name of a stream's FIFO within its directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(String);

/// A name that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{name}` is not a name of 1 to {LONGEST} letters, digits, `-` and `_`")]
pub struct BadName {
    what: &'static str,
    name: String,
}

fn check(what: &'static str, name: &str) -> Result<String, BadName> {
    let good = !name.is_empty()
        && name.len() <= LONGEST
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if good { Ok(name.to_owned()) } else { Err(BadName { what, name: name.to_owned() }) }
}

impl ContainerId {
    /// Checks `name`, which dockerd sends as `ContainerID`.
    pub fn parse(name: &str) -> Result<Self, BadName> {
        check("container id", name).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl StreamId {
    /// Takes the last part of `path`, which dockerd sends as `File`.
    pub fn of_fifo(path: &Path) -> Result<Self, BadName> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        check("FIFO", name).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What marks the stream's segments: enough of the id to be the only one of its container.
    pub fn tag(&self) -> &str {
        self.0.get(..16).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "a.b", "\0", &"a".repeat(129)] {
            assert!(ContainerId::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "/", "/run/docker/logging/.."] {
            assert!(StreamId::of_fifo(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stream_is_named_by_its_fifo() {
        let id = StreamId::of_fifo(Path::new("/run/docker/logging/0123456789abcdef0123")).unwrap();
        assert_eq!((id.as_str(), id.tag()), ("0123456789abcdef0123", "0123456789abcdef"));
        assert_eq!(StreamId::of_fifo(Path::new("short")).unwrap().tag(), "short");
    }
}
