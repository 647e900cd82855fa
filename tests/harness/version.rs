//! The versions of Docker that scenarios run on, and which of them a run is for.
//!
//! Each is the one that a release of Debian ships. A scenario says what it needs of an engine by
//! [`crate::Scenario::since`] and [`crate::Scenario::before`]; a run says by `ENGINES` where it
//! plays.

use std::env::{self, VarError};
use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// The release of Debian that is never finished.
pub(crate) const UNSTABLE: &str = "sid";

/// What a run is for where `ENGINES` says nothing.
const DEFAULT: &str = "26.1 20.10:smoke 28.5:smoke";

/// A version of Docker, the older the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 20.10, in Debian 12.
    V20_10,
    /// 26.1, in Debian 13; the first one here that knows volume-subpath.
    V26_1,
    /// 28.5, in Debian unstable.
    V28_5,
}

impl Version {
    /// All of them, oldest first.
    const ALL: [Self; 3] = [Self::V20_10, Self::V26_1, Self::V28_5];

    /// The release of Debian that ships it.
    pub(crate) fn suite(self) -> &'static str {
        match self {
            Self::V20_10 => "bookworm",
            Self::V26_1 => "trixie",
            Self::V28_5 => UNSTABLE,
        }
    }

    /// The package of the client, where it is not in the daemon's.
    pub(crate) fn client_package(self) -> Option<&'static str> {
        (self > Self::V20_10).then_some("docker-cli")
    }

    /// Fails unless `release`, which dockerd gives, is one of this version: Debian's may move on.
    pub(crate) fn check(self, release: &str) -> Result<()> {
        let matches = release
            .strip_prefix(&self.to_string())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        ensure!(matches, "Debian {} has Docker {release} now, not {self}", self.suite());
        Ok(())
    }

    fn parse(text: &str) -> Result<Self> {
        let version = Self::ALL.into_iter().find(|version| version.to_string() == text);
        let known = || Self::ALL.map(|version| version.to_string()).join(", ");
        version.with_context(|| format!("{text:?} is none of {}", known()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V20_10 => "20.10",
            Self::V26_1 => "26.1",
            Self::V28_5 => "28.5",
        })
    }
}

/// How much of a suite is played on an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All that applies to the engine.
    Whole,
    /// What a suite names for it, of what applies.
    Smoke,
}

/// What `ENGINES` asks for, in its order.
pub(crate) fn selected() -> Result<Vec<(Version, Extent)>> {
    let text = match env::var("ENGINES") {
        Ok(text) => text,
        Err(VarError::NotPresent) => DEFAULT.to_owned(),
        Err(error) => return Err(error).context("ENGINES"),
    };
    parse(&text).with_context(|| format!("ENGINES={text:?}"))
}

/// Words such as `20.10` or `20.10:smoke`, or the word `all`.
fn parse(text: &str) -> Result<Vec<(Version, Extent)>> {
    if text.trim() == "all" {
        return Ok(Version::ALL.map(|version| (version, Extent::Whole)).to_vec());
    }
    let mut selected: Vec<(Version, Extent)> = Vec::new();
    for word in text.split_whitespace() {
        let (name, extent) = match word.split_once(':') {
            None => (word, Extent::Whole),
            Some((name, "smoke")) => (name, Extent::Smoke),
            Some((_, other)) => bail!("{other:?} is not \"smoke\""),
        };
        let version = Version::parse(name)?;
        ensure!(selected.iter().all(|(other, _)| *other != version), "{version} is named twice");
        selected.push((version, extent));
    }
    ensure!(!selected.is_empty(), "no engine is named");
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_run_is_for() {
        let whole = |version| (version, Extent::Whole);
        let smoke = |version| (version, Extent::Smoke);
        assert_eq!(parse("all").unwrap(), Version::ALL.map(whole));
        assert_eq!(parse(" 20.10  28.5 ").unwrap(), [Version::V20_10, Version::V28_5].map(whole));
        let default = [whole(Version::V26_1), smoke(Version::V20_10), smoke(Version::V28_5)];
        assert_eq!(parse(DEFAULT).unwrap(), default);
    }

    #[test]
    fn refuses_what_is_no_engine() {
        for (text, part) in [
            ("", "no engine"),
            ("27.0", "\"27.0\" is none of 20.10, 26.1, 28.5"),
            ("all 20.10", "\"all\" is none of"),
            ("20.10:whole", "\"whole\" is not"),
            ("20.10 20.10:smoke", "20.10 is named twice"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_engine_is_of_its_version() {
        assert!(Version::V20_10.check("20.10.24+dfsg1").is_ok());
        assert!(Version::V28_5.check("28.5").is_ok());
        assert!(Version::V28_5.check("28.50.1").is_err());
        assert!(Version::V26_1.check("28.5.2").is_err());
    }
}
