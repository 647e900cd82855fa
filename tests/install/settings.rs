//! What was set stays over an upgrade, and what is new has its default until it is set.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Engine, Scenario, Stage};

use crate::state::{POOL, create, inspect, installed, next_version, on_bare};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("settings_stay_over_an_upgrade", set),
        Scenario::new("a_new_setting_has_its_default_and_can_be_set", new),
        Scenario::new("an_empty_source_of_state_is_refused", empty).tolerating(&[
            "the state cannot be used",
            "state.source is empty",
            "hung up",
        ]),
    ]
}

/// What was set stays, the mount too, which Docker resets; a new setting can be set afterwards.
fn set(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        engine.shell("mkdir /var/lib/elsewhere")?;
        create(engine, "pgvol", &[POOL, "LOG_LEVEL=debug", "state.source=/var/lib/elsewhere"])?;
        create(engine, "pglog", &["LOG_LEVEL=warn", "state.source=/var/lib/elsewhere"])?;
        next_version(engine)?;
        engine.docker(&["plugin", "disable", "pglog"])?;
        let said = installed(engine, "/var/lib/two", "")?;
        ensure!(said.contains("pglog was disabled and still is"), "{said}");
        for (plugin, kept) in [("pgvol", "LOG_LEVEL=debug"), ("pglog", "LOG_LEVEL=warn")] {
            let settings = inspect(engine, plugin, "{{json .Settings}}")?;
            ensure!(settings.contains(kept), "{settings}");
            ensure!(settings.contains(r#""Source":"/var/lib/elsewhere""#), "{settings}");
        }
        let none = engine.shell("ls -d /var/lib/pgvol /var/lib/pglog 2>/dev/null || :")?;
        ensure!(none.is_empty(), "state at the default place: {none}");
        engine.docker(&["plugin", "set", "pglog", "NEXT=2"])?;
        engine.docker(&["plugin", "enable", "pglog"]).map(drop)
    })
}

/// Between the two versions nothing differs but the configuration, which is enough for an upgrade.
fn new(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        engine.shell(
            "mkdir /var/lib/bin; cp /srv/pgvol/rootfs/pgvol /srv/pglog/rootfs/pglog /var/lib/bin
            cp /opt/config.json /opt/config.json.whole
            jq 'map_values(.env |= map(select(.name != \"LOG_LEVEL\")))' /opt/config.json.whole >/opt/config.json
            BIN_DIR=/var/lib/bin /opt/scripts/package.sh /var/lib/one
            mv /opt/config.json.whole /opt/config.json
            BIN_DIR=/var/lib/bin /opt/scripts/package.sh /var/lib/two",
        )?;
        installed(engine, "/var/lib/one", "")?;
        let said = installed(engine, "/var/lib/two", "")?;
        for plugin in ["pgvol", "pglog"] {
            ensure!(said.contains(&format!("{plugin} is upgraded")), "{said}");
            // Docker does not add it; the plugin does with its own default.
            let settings = inspect(engine, plugin, "{{json .Settings.Env}}")?;
            ensure!(!settings.contains("LOG_LEVEL"), "{settings}");
        }
        ensure!(words(engine)? > 0, "with its default, info, pglog says nothing");
        engine.docker(&["plugin", "disable", "pglog"])?;
        engine.docker(&["plugin", "set", "pglog", "LOG_LEVEL=error"])?;
        engine.docker(&["plugin", "enable", "pglog"])?;
        ensure!(words(engine)? == 0, "what was set has no effect");
        engine.shell("rm -r /var/lib/bin /var/lib/one").map(drop)
    })
}

/// As of a variable that nobody has set: Docker takes it, and would delete with the process what is kept.
fn empty(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        for (plugin, words) in [
            ("pgvol", &["volume", "create", "--driver=pgvol", "appdb"][..]),
            ("pglog", &["run", "--rm", "--log-driver=pglog", "base", "true"]),
        ] {
            create(engine, plugin, &["state.source="])?;
            let said = engine.refused(words)?;
            ensure!(said.contains("state.source is empty"), "{said}");
            engine.docker(&["plugin", "disable", plugin])?;
            engine.docker(&["plugin", "set", plugin, "state.source=/var/lib"])?;
            engine.docker(&["plugin", "enable", plugin])?;
            engine.docker(words)?;
        }
        engine.docker(&["volume", "rm", "appdb"]).map(drop)
    })
}

/// How many lines pglog itself prints while a container logs one.
fn words(engine: &Arc<Engine>) -> Result<usize> {
    let before = engine.log().position()?;
    let run = ["--log-driver=pglog", "base", "echo", "line"];
    let container = Container::run(engine, "speaker", &run)?;
    ensure!(container.wait(Duration::from_secs(20))? == 0, "the container failed");
    let logs = container.logs(&[])?;
    ensure!(logs.stdout == b"line\n", "{:?}", String::from_utf8_lossy(&logs.stdout));
    container.remove(Duration::from_secs(20))?;
    Ok(engine.log().plugin_lines(before)?.len())
}
