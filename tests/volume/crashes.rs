//! Plugin and engine die under a running server: it goes on or starts again, nothing is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Engine, Pg, RestartMode, Scenario, Stage};

use crate::postgres::{server, volume};
use crate::trash::settled;

const INSERTS: u64 = 200;
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut scenarios = vec![
        Scenario::new("plugin_killed_under_a_server", plugin_killed),
        Scenario::new("plugin_killed_with_nothing_mounted", plugin_killed_idle),
        Scenario::new("plugin_killed_during_creates", plugin_killed_during_creates),
        // dockerd asks again without saying for which volume, where the kill came between.
        Scenario::new("plugin_killed_during_mounts", plugin_killed_during_mounts)
            .tolerating(&["a Get came without a name"]),
    ];
    let drivers = &["local", "pgvol"];
    scenarios.extend(Scenario::for_drivers("engine_killed_under_a_server", drivers, engine_killed));
    scenarios.extend(Scenario::for_drivers("engine_restarted", drivers, engine_restarted));
    scenarios.extend(Scenario::for_drivers("live_restore", drivers, live_restore));
    scenarios
}

fn started_at(pg: &Pg) -> Result<String> {
    pg.psql("SELECT pg_postmaster_start_time()")
}

/// The server does not notice; afterwards everything is as it was for the next mount.
fn plugin_killed(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let volume = volume(stage.engine(), "pgvol")?;
    let pg = server(stage.engine(), &[])?;
    let started = started_at(&pg)?;
    let mut writer = pg.writer()?;
    for _ in 0..3 {
        writer.advance(INSERTS)?;
        plugin.kill()?;
        writer.advance(INSERTS)?;
    }
    let last = writer.finish()?;
    pg.check_numbers(last)?;
    pg.psql("CHECKPOINT")?;
    ensure!(started_at(&pg)? == started, "the server was restarted");
    ensure!(volume.inspect()?["Status"]["state"] == "ok", "{:#}", volume.inspect()?);
    // Mounts are counted across the crash: another container comes and goes beside the server.
    let look = ["run", "--rm", "-v", "db:/pg", "postgres:17", "cat", "/pg/data/PG_VERSION"];
    ensure!(stage.engine().docker(&look)? == "17");
    pg.psql("CHECKPOINT")?;
    plugin.kill()?;
    pg.restart()?;
    pg.check_numbers(last)?;
    drop(pg);
    let left = stage.engine().mounts("/propagated-mount/db")?;
    ensure!(left.is_empty(), "the view is still mounted:\n{}", left.join("\n"));
    volume.remove()
}

fn plugin_killed_idle(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let volume = volume(stage.engine(), "pgvol")?;
    let run = |script: &str| {
        let image = "postgres:17";
        stage.engine().docker(&["run", "--rm", "-v", "db:/pg", image, "bash", "-euc", script])
    };
    for word in ["one", "two"] {
        run(&format!("for d in data wal tablespaces/fast; do echo {word} >/pg/$d/word; done"))?;
        plugin.kill()?;
        let found = run("cat /pg/data/word /pg/wal/word /pg/tablespaces/fast/word")?;
        ensure!(found == [word; 3].join("\n"), "{found:?} instead of {word}");
    }
    // All killed processes together have attached the image once.
    let devices = stage.engine().loop_devices()?;
    ensure!(devices.len() == 1, "loop devices: {devices:?}");
    volume.remove()
}

/// What was acknowledged is whole; what was not is whole or not there at all.
fn plugin_killed_during_creates(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let engine = stage.engine();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let creates = format!(
            "for n in $(seq 15); do docker volume create -d pgvol -o tablespaces=a r{round}n$n || :
             done"
        );
        let creator = engine.in_background(&creates)?;
        creator.next(LIMIT)?;
        plugin.kill()?;
        acknowledged.extend(creator.rest(LIMIT)?);
    }
    let names = engine.docker(&["volume", "ls", "--quiet"])?;
    for name in &acknowledged {
        ensure!(names.lines().any(|found| found == name), "{name} was acknowledged and is gone");
    }
    for name in names.lines() {
        let shown = engine.docker(&["volume", "inspect", "--format", "{{.Status.state}}", name])?;
        ensure!(shown == "ok", "{name} is {shown}");
    }
    let some = acknowledged.last().context("no create came through")?;
    let mount = format!("{some}:/pg");
    let look = ["run", "--rm", "-v", &mount, "postgres:17", "stat", "/pg/tablespaces/a"];
    engine.docker(&look)?;
    engine.shell("docker volume ls --quiet | xargs docker volume rm")?;
    // What a killed process may have half written is cleared by the next one.
    plugin.kill()?;
    settled(engine)?;
    let records = engine.shell("ls /var/lib/pgvol/catalog /var/lib/pgvol/wal | grep r.n || :")?;
    ensure!(records.is_empty(), "removed, but there is still {records}");
    Ok(())
}

/// Containers that come and go meanwhile may fail, but nothing stays mounted for ever.
fn plugin_killed_during_mounts(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let engine = stage.engine();
    let volume = volume(engine, "pgvol")?;
    let runs = "for n in $(seq 12); do
        docker run --rm -v db:/pg postgres:17 sh -c \"echo $n >/pg/data/$n && echo $n\" || :
        done";
    let runner = engine.in_background(runs)?;
    for _ in 0..4 {
        plugin.kill()?;
    }
    let written = runner.rest(Duration::from_mins(2))?;
    ensure!(!written.is_empty(), "no container came through");
    let files = engine.docker(&["run", "--rm", "-v", "db:/pg", "postgres:17", "ls", "/pg/data"])?;
    for number in &written {
        ensure!(files.lines().any(|file| file == number), "{number} is gone: {files}");
    }
    volume.remove()?;
    let left = engine.mounts("/propagated-mount/db")?;
    ensure!(left.is_empty(), "the view is still mounted:\n{}", left.join("\n"));
    Ok(())
}

/// Everything dies at once but the containers, which the next dockerd ends and starts again.
fn engine_killed(stage: &Stage, driver: &'static str) -> Result<()> {
    starts_again(stage, driver, Engine::kill_daemon)
}

fn engine_restarted(stage: &Stage, driver: &'static str) -> Result<()> {
    starts_again(stage, driver, Engine::stop_daemon)
}

/// Nothing acknowledged is lost when the engine ends under a server and starts again.
fn starts_again(stage: &Stage, driver: &'static str, end: fn(&Engine) -> Result<()>) -> Result<()> {
    let engine = stage.engine();
    let volume = volume(engine, driver)?;
    let pg = server(engine, &["--restart", "always"])?;
    let mut writer = pg.writer()?;
    writer.advance(INSERTS)?;
    end(engine)?;
    engine.start_daemon(RestartMode::Plain)?;
    let last = writer.finish()?;
    pg.wait_ready()?;
    pg.check_numbers(last)?;
    drop(pg);
    volume.remove()
}

/// The server goes on while there is no dockerd, and is stopped by the next one.
fn live_restore(stage: &Stage, driver: &'static str) -> Result<()> {
    let engine = stage.engine();
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::LiveRestore)?;
    let volume = volume(engine, driver)?;
    let pg = server(engine, &[])?;
    let started = started_at(&pg)?;
    let mut writer = pg.writer()?;
    writer.advance(INSERTS)?;
    engine.kill_daemon()?;
    engine.start_daemon(RestartMode::LiveRestore)?;
    let last = writer.finish()?;
    ensure!(started_at(&pg)? == started, "the server was restarted");
    pg.check_numbers(last)?;
    pg.container().stop(LIMIT)?;
    if driver == "pgvol" {
        let left = engine.mounts("/propagated-mount/db")?;
        ensure!(left.is_empty(), "the view is still mounted:\n{}", left.join("\n"));
    }
    drop(pg);
    volume.remove()?;
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::Plain)
}
