//! A scenario, and the engines that it is for.

use std::fmt;
use std::sync::Arc;

use anyhow::Result;

use crate::suite::Stage;
use crate::version::Version;

pub(crate) type Body = Arc<dyn Fn(&Stage) -> Result<()> + Send + Sync>;

/// Which engines a scenario is for, and what it is about them.
#[derive(Debug, Clone, Copy)]
enum Range {
    Since(Version, &'static str),
    Before(Version, &'static str),
}

/// One thing that must hold on a real engine.
#[derive(Clone)]
pub struct Scenario {
    pub(crate) name: String,
    pub(crate) tolerated: &'static [&'static str],
    pub(crate) body: Body,
    range: Option<Range>,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Scenario").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Scenario {
    /// A scenario under a name that the command line can filter by.
    pub fn new(
        name: impl Into<String>,
        body: impl Fn(&Stage) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), tolerated: &[], body: Arc::new(body), range: None }
    }

    /// The scenario for each of several drivers: the plugin and the one of Docker's own that it
    /// must behave like. That the latter passes is the test of the test.
    pub fn for_drivers(
        name: &str,
        drivers: &[&'static str],
        body: fn(&Stage, &'static str) -> Result<()>,
    ) -> Vec<Self> {
        let scenario = |driver: &&'static str| {
            let driver = *driver;
            Self::new(format!("{name}::{driver}"), move |stage: &Stage| {
                body(stage, stage.driver(driver)?)
            })
        };
        drivers.iter().map(scenario).collect()
    }

    /// Lets the plugin log warnings and errors that contain one of `parts`.
    #[must_use]
    pub fn tolerating(mut self, parts: &'static [&'static str]) -> Self {
        self.tolerated = parts;
        self
    }

    /// Needs an engine from `version` on, for `what`. There should be a scenario that shows what
    /// becomes of it before.
    #[must_use]
    pub fn since(mut self, version: Version, what: &'static str) -> Self {
        self.range = Some(Range::Since(version, what));
        self
    }

    /// Shows a limit, `what`, that engines before `version` have.
    #[must_use]
    pub fn before(mut self, version: Version, what: &'static str) -> Self {
        self.range = Some(Range::Before(version, what));
        self
    }

    /// Why it is not for engines of `version`, if so.
    pub(crate) fn does_not_apply(&self, version: Version) -> Option<String> {
        match self.range? {
            Range::Since(first, what) if version < first => {
                Some(format!("{what}: from {first} on"))
            }
            Range::Before(first, what) if version >= first => {
                Some(format!("{what}: before {first}"))
            }
            Range::Since(..) | Range::Before(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why_it_does_not_apply() {
        let plain = Scenario::new("plain", |_| Ok(()));
        assert_eq!(plain.does_not_apply(Version::V20_10), None);
        let newer = plain.clone().since(Version::V26_1, "volume-subpath");
        let reason = newer.does_not_apply(Version::V20_10);
        assert_eq!(reason.as_deref(), Some("volume-subpath: from 26.1 on"));
        assert_eq!(newer.does_not_apply(Version::V26_1), None);
        let older = plain.before(Version::V26_1, "no volume-subpath");
        assert_eq!(older.does_not_apply(Version::V20_10), None);
        let reason = older.does_not_apply(Version::V28_5);
        assert_eq!(reason.as_deref(), Some("no volume-subpath: before 26.1"));
    }
}
