//! `install.sh` where no upgrade in place can be: nothing without consent, and nothing lost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Engine, Scenario, Stage, Volume};

use crate::state::{
    POOL, create, inspect, install, installed, next_version, on_bare, printer, server,
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("without_a_registry_containers_are_restarted_on_demand", replaced)]
}

/// An engine's host without a registry, and without one to be fetched.
pub(crate) fn without_registry<T>(engine: &Engine, body: impl FnOnce() -> Result<T>) -> Result<T> {
    engine.shell("mv /usr/bin/docker-registry /tmp")?;
    let result = body()?;
    engine.shell("mv /tmp/docker-registry /usr/bin")?;
    Ok(result)
}

/// One that Docker would remove when it stops is nobody's to stop.
fn fleeting(engine: &Arc<Engine>) -> Result<()> {
    let run = ["--rm", "--log-driver=pglog", "-v", "/place", "--volume-driver=pgvol", "base"];
    let once = Container::run(engine, "once", &[&run[..], &["sleep", "infinity"]].concat())?;
    let outcome = install(engine, "/var/lib/two", "--restart-containers")?;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    ensure!(!outcome.success && said.contains("would not come back"), "{said}");
    ensure!(said.contains("\n  once\n") && !said.contains("  app\n"), "{said}");
    for container in ["once", "app", "printer"] {
        engine.docker(&["exec", container, "true"])?;
    }
    once.remove(Duration::from_secs(20))
}

fn replaced(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pgvol", &[POOL, "LOG_LEVEL=debug"])?;
        create(engine, "pglog", &[])?;
        let volume = Volume::create(engine, "pgvol", "appdb", &["label.team=blue"])?;
        let pg = server(engine)?;
        let mut writer = pg.writer()?;
        writer.advance(100)?;
        let last = writer.finish()?;
        let printer = printer(engine)?;
        next_version(engine)?;
        without_registry(engine, || fleeting(engine))?;
        without_registry(engine, || {
            let ids = ["pgvol", "pglog"].map(|plugin| inspect(engine, plugin, "{{.Id}}"));
            let outcome = install(engine, "/var/lib/two", "")?;
            let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
            ensure!(!outcome.success, "it went on: {said}");
            ensure!(said.contains("  app\n") && said.contains("--restart-containers"), "{said}");
            for (plugin, id) in ["pgvol", "pglog"].into_iter().zip(ids) {
                ensure!(inspect(engine, plugin, "{{.Id}}")? == id?, "{plugin} is new");
            }
            let said = installed(engine, "/var/lib/two", "--restart-containers")?;
            ensure!(said.contains("pgvol is replaced; restarted: app\n"), "{said}");
            ensure!(said.contains("pglog is replaced; restarted: app printer\n"), "{said}");
            Ok(())
        })?;
        pg.wait_ready()?;
        pg.check_numbers(last)?;
        ensure!(volume.inspect()?["Status"]["labels"]["team"] == "blue", "{volume:?}");
        let settings = inspect(engine, "pgvol", "{{json .Settings.Env}}")?;
        ensure!(settings.contains("LOG_LEVEL=debug"), "{settings}");
        let logs = printer.logs(&["--tail=1"])?;
        ensure!(!logs.stdout.is_empty(), "the log is gone");
        drop((printer, pg));
        volume.remove()
    })
}
