//! Stopping all processes that use a volume, and that the kernel lets them go when the plugin is
//! killed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Pg, Scenario, Stage, eventually};
use serde_json::{Value, json};

use crate::guard::{directory, with_volume};

/// Far beyond what it takes; the machine may be busy.
const STOP_LIMIT_MICROS: u64 = 500_000;
const KILLS: usize = 4;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("freeze::stops_all_and_lets_go", stops_all_and_lets_go),
        Scenario::new("freeze::lets_go_when_killed", lets_go_when_killed),
        Scenario::new("freeze::leaves_stopped_what_was_stopped", leaves_stopped_what_was_stopped),
    ]
}

/// The engine's processes that are stopped, by a signal or by a tracer.
fn stopped(stage: &Stage) -> Result<Vec<u64>> {
    let pids = stage.engine().shell("ps -e -o pid=,stat= | awk '$2 ~ /^[Tt]/ {print $1}'")?;
    Ok(pids.lines().map(str::parse).collect::<Result<_, _>>()?)
}

fn load(stage: &Stage) -> Result<()> {
    let pgbench = "pgbench -i -q -s 2 && pgbench -c 16 -T 600";
    stage
        .engine()
        .docker(&["exec", "-d", "-u", "postgres", "loaded", "sh", "-c", pgbench])
        .map(drop)
}

fn busy(pg: &Pg) -> Result<()> {
    eventually(Duration::from_secs(30), || {
        let busy = "SELECT count(*) >= 16 FROM pg_stat_activity WHERE application_name = 'pgbench'";
        ensure!(pg.psql(busy)? == "t", "pgbench is not at work");
        Ok(())
    })
}

fn stops_all_and_lets_go(stage: &Stage) -> Result<()> {
    let (probe, volume, mount) = with_volume(stage, |_| {}, "frozen")?;
    let pg = Pg::start(stage.engine(), "loaded", &[&mount])?;
    // It has the volume mounted, but no file of it open.
    let bystander = ["--entrypoint=sleep", &mount, "postgres:17", "600"];
    let bystander = Container::run(stage.engine(), "bystander", &bystander)?;
    let bystander: u64 = bystander.inspect("{{.State.Pid}}").and_then(|pid| Ok(pid.parse()?))?;
    load(stage)?;
    busy(&pg)?;
    for by in ["files", "namespace"] {
        let mut times = Vec::new();
        for _ in 0..7 {
            let arguments = json!({"directory": directory(&volume), "by": by, "millis": 20});
            let held = probe.ask("freeze.hold", &arguments)?;
            let pids = held["pids"].as_array().map(Vec::as_slice).unwrap_or_default();
            ensure!(held["all"] == true && pids.len() > 16, "{by}: {held}");
            let by_mount = pids.contains(&json!(bystander));
            ensure!(by_mount == (by == "namespace"), "the bystander, {by}: {held}");
            times.push(held["micros_to_stop"].as_u64().unwrap_or(u64::MAX));
        }
        times.sort_unstable();
        ensure!(times[3] < STOP_LIMIT_MICROS, "{by}: stopped after {times:?} microseconds");
        ensure!(stopped(stage)?.is_empty(), "not let go of: {:?}", stopped(stage)?);
    }
    busy(&pg)
}

fn lets_go_when_killed(stage: &Stage) -> Result<()> {
    let (probe, volume, mount) = with_volume(stage, |_| {}, "killed")?;
    let pg = Pg::start(stage.engine(), "loaded", &[&mount])?;
    load(stage)?;
    busy(&pg)?;
    for round in 0..KILLS {
        let arguments = json!({"directory": directory(&volume), "by": "files"});
        let held = probe.ask("freeze.hold", &arguments)?;
        let count = held["pids"].as_array().map_or(0, Vec::len);
        ensure!(stopped(stage)?.len() == count, "held {held}, stopped {:?}", stopped(stage)?);
        probe.kill()?;
        ensure!(stopped(stage)?.is_empty(), "kill {round}: {:?} stay", stopped(stage)?);
    }
    busy(&pg)
}

fn leaves_stopped_what_was_stopped(stage: &Stage) -> Result<()> {
    let (probe, volume, mount) = with_volume(stage, |_| {}, "half")?;
    let _pg = Pg::start(stage.engine(), "loaded", &[&mount])?;
    let find = json!({"directory": directory(&volume), "by": "files"});
    let found = probe.ask("freeze.find", &find)?;
    let pids = found["pids"].as_array().context("a list")?;
    let other = pids.iter().filter_map(Value::as_u64).max().context("no process found")?;
    stage.engine().shell(&format!("kill -STOP {other}"))?;
    eventually(Duration::from_secs(10), || {
        ensure!(stopped(stage)? == [other], "{other} is not stopped");
        Ok(())
    })?;
    let arguments = json!({"directory": directory(&volume), "by": "files", "millis": 20});
    let held = probe.ask("freeze.hold", &arguments)?;
    ensure!(held["all"] == true, "{held}");
    ensure!(stopped(stage)? == [other], "stopped are {:?}, not {other}", stopped(stage)?);
    probe.ask("freeze.hold", &find)?;
    probe.kill()?;
    ensure!(stopped(stage)? == [other], "killed: stopped are {:?}", stopped(stage)?);
    stage.engine().shell(&format!("kill -CONT {other}")).map(drop)
}
