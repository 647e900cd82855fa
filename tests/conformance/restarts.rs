//! What an engine knows and holds again after its end, by either signal, with live restore too.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, RestartMode, Scenario, Stage, Volume};

use crate::rig::Rig;

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("volumes_after_an_engine_restart", after_restart),
        Scenario::new("plugin_is_released_after_a_restart", released_after_restart),
        Scenario::new("engine_killed_leaves_plugins_running", engine_killed),
        Scenario::new("live_restore_keeps_references", references),
    ]
}

/// What was in them, and what dockerd itself keeps about them.
fn after_restart(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    for driver in ["local", "pgvol"] {
        let driver = stage.driver(driver)?;
        let labelled = ["volume", "create", "--driver", driver, "--label", "team=blue"];
        let option = if driver == "pgvol" { &["--opt", "uid=1000"][..] } else { &[] };
        engine.docker(&[&labelled[..], option, &[driver]].concat())?;
        let volume = format!("{driver}:/data");
        let write = ["run", "--rm", "-v", &volume, "base", "sh", "-c", "echo kept >/data/file"];
        engine.docker(&write)?;
    }
    let shown = || engine.docker(&["volume", "inspect", "local", "pgvol"]);
    let before = shown()?;
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::Plain)?;
    ensure!(shown()? == before, "{} instead of {before}", shown()?);
    ensure!(before.contains("blue") && before.contains("1000"), "{before}");
    for driver in ["local", "pgvol"] {
        let volume = format!("{driver}:/data");
        let said = engine.docker(&["run", "--rm", "-v", &volume, "base", "cat", "/data/file"])?;
        ensure!(said == "kept", "{driver}: {said}");
        engine.docker(&["volume", "rm", driver])?;
    }
    Ok(())
}

/// A volume holds its plugin over a restart, and no longer than it is there; a plugin that was
/// off stays off.
fn released_after_restart(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    let volume = Volume::create(engine, "pgvol", "holds", &[])?;
    engine.docker(&["plugin", "disable", "pglog"])?;
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::Plain)?;
    let enabled =
        |plugin: &str| engine.docker(&["plugin", "inspect", "--format", "{{.Enabled}}", plugin]);
    ensure!(enabled("pgvol")? == "true" && enabled("pglog")? == "false");
    rig.pglog.enable()?;
    let said = engine.refused(&["plugin", "disable", "pgvol"])?;
    ensure!(said.contains("in use"), "{said}");
    volume.remove()?;
    engine.docker(&["plugin", "disable", "pgvol"])?;
    rig.pgvol.enable()
}

fn engine_killed(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    let pids = [rig.pgvol.pid()?, rig.pglog.pid()?];
    engine.kill_daemon()?;
    for pid in pids {
        engine.shell(&format!("kill -0 {pid}"))?;
    }
    engine.start_daemon(RestartMode::Plain)?;
    rig.pgvol.wait_listening()?;
    rig.pglog.wait_listening()?;
    // The next engine does not take them over, but starts them anew.
    for pid in pids {
        let old = engine.shell(&format!("kill -0 {pid} 2>&1 || :"))?;
        ensure!(old.contains("No such process"), "the old process {pid} runs beside the new one");
    }
    Ok(())
}

/// A volume of a container that ran on without dockerd is in use for the next one, too.
fn references(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::LiveRestore)?;
    rig.pgvol.wait_listening()?;
    let mut held = Vec::new();
    for driver in ["local", "pgvol"] {
        let volume = Volume::create(engine, driver, driver, &[])?;
        let mount = format!("{driver}:/data");
        let command = ["-v", &mount, "base", "sleep", "infinity"];
        held.push((Container::run(engine, &format!("on_{driver}"), &command)?, volume));
    }
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::LiveRestore)?;
    for (container, volume) in held {
        for force in [&[][..], &["--force"]] {
            let remove = [&["volume", "rm"], force, &[volume.name()]].concat();
            let said = engine.refused(&remove)?;
            ensure!(said.contains("in use"), "{said}");
        }
        container.shell("echo kept >/data/file")?;
        // Another container with it comes and goes; the first one still has it.
        let mount = format!("{}:/data", volume.name());
        let said = engine.docker(&["run", "--rm", "-v", &mount, "base", "cat", "/data/file"])?;
        ensure!(said == "kept", "{said}");
        container.shell("echo more >>/data/file")?;
        container.remove(LIMIT)?;
        volume.remove()?;
    }
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::Plain)
}
