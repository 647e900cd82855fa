//! Everything that an engine has going, counted: what stays the same when nothing is leaked.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{Engine, eventually};

/// How long what goes by itself may take to go.
const SETTLE: Duration = Duration::from_secs(20);
/// How long nothing may come or go before it is counted.
const STILL: Duration = Duration::from_secs(1);

/// Programs that come and go with the tests themselves or with what containers run.
const PASSING: &[&str] = &[
    "awk", "bash", "docker", "nsenter", "perl", "pgbench", "postgres", "ps", "psql", "sh", "sleep",
    "sort", "timeout",
];

/// Mounts, loop devices, processes and log streams of an engine, sorted, without their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census(Vec<String>);

impl Census {
    /// Counts as soon as no process waits to be reaped and nothing comes or goes any more: what
    /// can be compared with later. What a command that has ended still has about, such as the
    /// engine's helpers of an `exec`, would be missed for ever.
    pub fn begin(engine: &Engine) -> Result<Self> {
        eventually(SETTLE, || {
            let census = Self::take(engine)?;
            let zombie = census.0.iter().find(|one| one.starts_with("zombie "));
            ensure!(zombie.is_none(), "{zombie:?} from the beginning");
            thread::sleep(STILL);
            Self::take(engine)?.same_as(&census)?;
            Ok(census)
        })
    }

    /// Waits until there is exactly what there was at the beginning; else names the difference.
    pub fn check(&self, engine: &Engine) -> Result<()> {
        eventually(SETTLE, || Self::take(engine)?.same_as(self))
    }

    fn take(engine: &Engine) -> Result<Self> {
        let mut found = Vec::new();
        for mount in engine.mounts("")? {
            let point = mount.split(' ').nth(4).unwrap_or_default();
            found.push(format!("mount {}", without_ids(point)));
        }
        let devices = engine.loop_devices()?;
        found.extend(devices.iter().map(|_| "loop device".to_owned()));
        for process in engine.shell("ps -eo stat=,comm=")?.lines() {
            let (state, name) = process.split_once(' ').unwrap_or_default();
            let name = name.trim();
            if state.starts_with('Z') {
                found.push(format!("zombie {name}"));
            } else if !PASSING.contains(&name) {
                found.push(format!("process {name}"));
            }
        }
        // Beside the records of streams, the FIFOs that dockerd made for them.
        let streams = "cd /var/lib; find pglog/streams docker/plugins/*/propagated-mount \
                       \\( -type p -o -path '*/streams/*' \\) 2>/dev/null || :";
        found.extend(engine.shell(streams)?.lines().map(without_ids));
        found.sort();
        Ok(Self(found))
    }

    /// Fails, naming them, when there are more or fewer of anything than `before`.
    fn same_as(&self, before: &Self) -> Result<()> {
        let more = less(&self.0, &before.0);
        let fewer = less(&before.0, &self.0);
        ensure!(more.is_empty() && fewer.is_empty(), "too many: {more:?}; missing: {fewer:?}");
        Ok(())
    }
}

/// What of `all` is not in `others`, as often as it is not.
fn less<'a>(all: &'a [String], others: &[String]) -> Vec<&'a String> {
    let mut others = others.to_vec();
    let mut rest = Vec::new();
    for one in all {
        match others.iter().position(|other| other == one) {
            Some(position) => drop(others.swap_remove(position)),
            None => rest.push(one),
        }
    }
    rest
}

/// `path` with `#` in place of whatever looks like an id of Docker's.
fn without_ids(path: &str) -> String {
    let is_id = |part: &str| part.len() >= 12 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = path.split('/').map(|part| if is_id(part) { "#" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(words: &[&str]) -> Census {
        Census(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn names_what_is_too_many() {
        let before = census(&["a", "b"]);
        assert!(before.same_as(&before).is_ok());
        let error = census(&["a", "b", "b"]).same_as(&before).unwrap_err().to_string();
        assert_eq!(error, r#"too many: ["b"]; missing: []"#);
        assert!(census(&["a"]).same_as(&before).is_err());
    }

    #[test]
    fn ids_do_not_count() {
        assert_eq!(without_ids("/run/netns/0123456789ab"), "/run/netns/#");
        assert_eq!(without_ids("/mnt/volumes/db"), "/mnt/volumes/db");
    }
}
