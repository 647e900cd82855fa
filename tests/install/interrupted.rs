//! `install.sh` that is cut off or fails between two steps of an upgrade: the plugin goes on with the state
//! that it had, or stays off, and never runs on an empty one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Engine, Scenario, Stage};

use crate::replace::without_registry;
use crate::state::{create, inspect, installed, next_version, on_bare, printer};
use harness::packages::next_version_of;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("an_interrupted_upgrade_keeps_its_state", interrupted),
        Scenario::new("an_interrupted_first_install_leaves_nothing", first),
        Scenario::new("a_plugin_whose_state_cannot_be_set_stays_off", unset),
        Scenario::new("an_interrupted_replacement_is_undone", replacement),
    ]
}

/// `install.sh ARGUMENTS` with a docker command that does `before` and `after` the real one. Gives whether
/// it succeeded and what it said.
pub(crate) fn with_docker(
    engine: &Engine,
    before: &str,
    after: &str,
    arguments: &str,
) -> Result<(bool, String)> {
    // No shell can trap what was ignored when it began, as it is for whoever runs these tests in the
    // background.
    let script = format!(
        "mkdir -p /tmp/instead
        cat >/tmp/instead/docker <<'SCRIPT'\n#!/bin/bash\n{before}\n/usr/bin/docker \"$@\"; status=$?\n{after}\nexit $status\nSCRIPT
        chmod +x /tmp/instead/docker
        status=0
        PATH=/tmp/instead:$PATH PACKAGES=/var/lib/two env --default-signal=INT,HUP /opt/scripts/install.sh {arguments} || status=$?
        rm -r /tmp/instead
        exit $status"
    );
    let outcome = engine.run_shell(Duration::from_mins(5), &script)?;
    Ok((outcome.success, String::from_utf8_lossy(&outcome.stderr).into_owned()))
}

/// pglog with its state at another place than the default, and a next version of it.
fn elsewhere(engine: &Arc<Engine>) -> Result<()> {
    engine.shell("mkdir /var/lib/elsewhere")?;
    engine.docker(&["plugin", "create", "pgvol", "/srv/pgvol"])?;
    create(engine, "pglog", &["LOG_LEVEL=warn", "state.source=/var/lib/elsewhere"])?;
    next_version(engine)?;
    // Disabled, and of the same version: it stays out of this.
    engine.shell("rm -r /var/lib/two/pgvol; cp -a /srv/pgvol /var/lib/two").map(drop)
}

/// Nothing has ever run on the default directory.
fn check_no_default_state(engine: &Engine) -> Result<()> {
    let none = engine.shell("ls -d /var/lib/pglog 2>/dev/null || :")?;
    ensure!(none.is_empty(), "state at the default place: {none}");
    Ok(())
}

/// [`on_bare`] with a pgvol that was never enabled, which is enabled at the end to be removed as any.
pub(crate) fn with_pglog_elsewhere(
    stage: &Stage,
    body: impl FnOnce(&Arc<Engine>) -> Result<()>,
) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        elsewhere(engine)?;
        body(engine)?;
        check_no_default_state(engine)?;
        engine.docker(&["plugin", "rm", "pgvol"]).map(drop)
    })
}

/// What must be the same whatever version it is.
const KEPT: &str =
    "{{.Id}} {{.Enabled}} {{json .Settings.Env}} {{range .Config.Mounts}}{{.Source}} {{end}}";

fn interrupted(stage: &Stage) -> Result<()> {
    with_pglog_elsewhere(stage, |engine| {
        // While the package is on its way, while the upgrade begins, and after it, when it has reset where
        // the state is.
        for (when, what, signal) in [
            ("before", "plugin push ", "TERM"),
            ("before", "cp install.sh-copy:", "TERM"),
            ("before", "plugin upgrade ", "INT"),
            ("after", "plugin upgrade ", "HUP"),
        ] {
            let source = "{{range .Config.Mounts}}{{.Source}} {{end}}";
            let before = inspect(engine, "pglog", KEPT)?;
            let kill = format!(
                r#"case "$*" in *"{what}"*) /usr/bin/docker plugin inspect -f '{source}' pglog >/tmp/source; kill -{signal} $PPID ;; esac"#
            );
            let (first, then) =
                if when == "before" { (kill.as_str(), "") } else { ("", kill.as_str()) };
            let (done, said) = with_docker(engine, first, then, "")?;
            ensure!(!done, "it went on: {said}");
            let then = engine.shell("cat /tmp/source; rm /tmp/source")?;
            ensure!(then.contains("elsewhere") == (when == "before"), "{when}: {then}");
            let after = inspect(engine, "pglog", KEPT)?;
            ensure!(after == before, "it was {before}, it is {after}: {said}");
            let names = engine.docker(&["plugin", "ls", "--format={{.Name}}"])?;
            let ours = names.lines().all(|name| ["pgvol:latest", "pglog:latest"].contains(&name));
            ensure!(ours, "left is what was to be pushed: {names}");
            let copies = engine.shell("docker ps -aq; docker image ls -q install.sh-copy")?;
            ensure!(copies.is_empty(), "left is what a copy was made by: {copies}");
            if what.contains("upgrade") {
                next_version_of(engine, &["pglog"], 3)?;
            }
        }
        Ok(())
    })
}

/// Between its making and its start: the next run begins anew.
fn first(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        next_version(engine)?;
        let kill = r#"case "$*" in *"plugin enable "*) kill -INT $PPID; exit 1 ;; esac"#;
        let (done, said) = with_docker(engine, kill, "", "")?;
        ensure!(!done && said.contains("pgvol is not installed"), "{said}");
        let plugins = engine.docker(&["plugin", "ls", "--quiet"])?;
        ensure!(plugins.is_empty(), "left: {plugins}");
        Ok(())
    })
}

fn unset(stage: &Stage) -> Result<()> {
    with_pglog_elsewhere(stage, |engine| {
        let before = inspect(engine, "pglog", KEPT)?;
        let fail =
            r#"case "$*" in *"plugin set pglog state.source="*) echo refused >&2; exit 1 ;; esac"#;
        let (done, said) = with_docker(engine, fail, "", "")?;
        let repair = "docker plugin set pglog state.source=/var/lib/elsewhere && docker plugin enable --timeout 0 pglog";
        ensure!(!done && said.contains(repair), "{said}");
        ensure!(inspect(engine, "pglog", "{{.Enabled}}")? == "false", "enabled: {said}");
        let kept = said.split_once("the version before is in ").map_or("", |parts| parts.1);
        let kept = kept.split(',').next().unwrap_or_default();
        engine.shell(&format!("cmp {kept}/rootfs/pglog /srv/pglog/rootfs/pglog; rm -r {kept}"))?;
        // Whoever has not read it is told again.
        let again = installed(engine, "/var/lib/two", "")?;
        ensure!(
            again.contains("docker plugin set pglog state.source=/var/lib/elsewhere"),
            "{again}"
        );
        engine.shell(repair)?;
        let after = inspect(engine, "pglog", KEPT)?;
        ensure!(after == before, "it was {before}, it is {after}");
        Ok(())
    })
}

/// Where the plugin is removed and made again: between the two there is none.
fn replacement(stage: &Stage) -> Result<()> {
    with_pglog_elsewhere(stage, |engine| {
        let described = "{{.Config.Description}} {{.Enabled}} {{json .Settings.Env}} {{range .Config.Mounts}}{{.Source}} {{end}}";
        let before = inspect(engine, "pglog", described)?;
        let printer = printer(engine)?;
        // Before it is made, and when it has been, but not all is set.
        for step in ["plugin create pglog ", "plugin set pglog "] {
            let kill = format!(
                r#"case "$*" in "{step}"*) [ -e /tmp/killed ] || {{ touch /tmp/killed; kill -INT $PPID; exit 1; }} ;; esac"#
            );
            let (done, said) = without_registry(engine, || {
                with_docker(engine, &kill, "", "--restart-containers")
            })?;
            ensure!(!done, "{step}: it went on: {said}");
            engine.shell("rm /tmp/killed")?;
            let after = inspect(engine, "pglog", described)?;
            ensure!(after == before, "{step}: it was {before}, it is {after}: {said}");
            ensure!(printer.inspect("{{.State.Running}}")? == "true", "the printer is off: {said}");
        }
        printer.remove(Duration::from_secs(20))
    })
}
