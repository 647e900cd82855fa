//! `install.sh` where the plugins are there already: in place, under running containers.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, Volume, eventually};

use crate::state::{
    PLUGINS, POOL, check_lines, create, inspect, installed, next_version, on_bare, printer, server,
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("install_script_on_a_bare_engine", bare),
        Scenario::new("upgraded_under_a_running_server", under_load),
    ]
}

/// The second run finds that nothing is to be done.
fn bare(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        let said = installed(engine, "/srv", "")?;
        for plugin in PLUGINS {
            ensure!(said.contains(&format!("docker {plugin} is installed as ")), "{said}");
            let usage = engine.docker(&[plugin, "--help"])?;
            ensure!(usage.contains(&format!("docker {plugin}")), "{usage}");
        }
        let ids = PLUGINS.map(|plugin| inspect(engine, plugin, "{{.Id}} {{.Enabled}}"));
        let said = installed(engine, "/srv", "")?;
        for (plugin, id) in PLUGINS.into_iter().zip(ids) {
            ensure!(said.contains(&format!("{plugin} is up to date")), "{said}");
            ensure!(inspect(engine, plugin, "{{.Id}} {{.Enabled}}")? == id?, "{plugin} is new");
        }
        ensure!(!said.contains("installed"), "{said}");
        // Whether or not anybody reads what is said; a shell says of its own where it cannot be.
        let unread = "cd /; { s=0; PACKAGES=/srv /opt/scripts/install.sh || s=$?; echo $s >/tmp/status; } 2>&1 | true";
        engine.shell(unread)?;
        let status = engine.shell("cat /tmp/status; rm /tmp/status")?;
        ensure!(status == "0", "unread it ends with {status}");
        let registry = engine.shell("pgrep docker-registry || :")?;
        ensure!(registry.is_empty(), "the registry still runs: {registry}");
        Ok(())
    })
}

fn under_load(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pgvol", &[POOL])?;
        create(engine, "pglog", &[])?;
        let labelled = ["label.team=blue", "tablespaces=fast"];
        let volume = Volume::create(engine, "pgvol", "appdb", &labelled)?;
        let before = volume.inspect()?;
        let ids = PLUGINS.map(|plugin| inspect(engine, plugin, "{{.Id}}"));
        let pg = server(engine)?;
        let mut writer = pg.writer()?;
        writer.advance(100)?;
        let printer = printer(engine)?;
        let follower = engine.stream(&["logs", "--follow", printer.name()])?;
        follower.next(Duration::from_secs(10))?;
        next_version(engine)?;

        let started = pg.container().inspect("{{.State.StartedAt}}")?;
        installed(engine, "/var/lib/two", "")?;
        writer.advance(100)?;
        for (plugin, id) in PLUGINS.into_iter().zip(ids) {
            ensure!(inspect(engine, plugin, "{{.Id}}")? == id?, "another id of {plugin}");
            let root =
                format!("/var/lib/docker/plugins/{}/rootfs", inspect(engine, plugin, "{{.Id}}")?);
            engine.shell(&format!("test -e {root}/version"))?;
        }
        let now = pg.container().inspect("{{.State.StartedAt}}")?;
        ensure!(now == started, "the server was restarted");
        let after = volume.inspect()?;
        for field in ["CreatedAt", "Options"] {
            ensure!(before[field] == after[field], "{field}: {before} {after}");
        }
        ensure!(after["Status"]["labels"]["team"] == "blue", "{after}");
        check_lines(engine, &printer)?;
        // A tablespace made now lies where the new plugin has it, not below a forgotten mount.
        pg.psql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
        pg.psql("CREATE TABLE quick TABLESPACE fast AS SELECT generate_series(1, 1000) AS n")?;
        let last = writer.finish()?;
        pg.restart()?;
        pg.check_numbers(last)?;
        ensure!(pg.psql("SELECT count(*) FROM quick")? == "1000", "rows of the tablespace");
        let logs = pg.container().logs(&[])?;
        let said = String::from_utf8_lossy(&logs.stderr).into_owned();
        let starts = said.matches("ready to accept connections").count();
        ensure!(starts >= 2, "the journal has {starts} starts: {said}");
        drop((printer, pg));
        eventually(Duration::from_secs(10), || {
            let mounts = engine.mounts("propagated-mount/appdb")?;
            ensure!(mounts.is_empty(), "left: {mounts:?}");
            Ok(())
        })?;
        volume.remove()
    })
}
