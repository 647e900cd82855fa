//! One server for each cluster, decided at the open of `pg_control`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Engine, Pg, Scenario, Stage, Volume, eventually};
use serde_json::{Value, json};

use crate::probe::Probe;

const DENIED: &str = "pg_control\": Operation not permitted";
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("guard::denies_a_second_server", denies_a_second_server),
        Scenario::new("guard::holds_from_before_initdb", holds_from_before_initdb),
        Scenario::new("guard::lets_one_of_two_start", lets_one_of_two_start),
        Scenario::new("guard::is_no_obstacle_once_killed", is_no_obstacle_once_killed),
    ]
}

/// The probe with less than all privileges, a volume and the `docker run` option that mounts it.
pub(crate) fn with_volume(
    stage: &Stage,
    less: impl FnOnce(&mut Value),
    name: &str,
) -> Result<(Probe, Volume, String)> {
    let probe = Probe::without(stage.engine(), "pgvol", less)?;
    let volume = Volume::create(stage.engine(), "pgvol", name, &[])?;
    Ok((probe, volume, format!("--volume={name}:/var/lib/postgresql/data")))
}

/// The directory of a volume, as the probe sees it.
pub(crate) fn directory(volume: &Volume) -> String {
    format!("/host/state/pgvol/probe/volumes/{}", volume.name())
}

fn expect_denied(engine: &Arc<Engine>, name: &str, mount: &str) -> Result<()> {
    let second = Pg::run(engine, name, &[mount])?;
    ensure!(second.container().wait(LIMIT)? != 0, "the second server ended well");
    let logs = second.container().logs(&[])?;
    let said = String::from_utf8_lossy(&[logs.stdout, logs.stderr].concat()).into_owned();
    ensure!(said.contains(DENIED), "the second server says: {said}");
    Ok(())
}

fn denies_a_second_server(stage: &Stage) -> Result<()> {
    let (probe, volume, mount) = with_volume(stage, |_| {}, "guarded")?;
    let first = Pg::start(stage.engine(), "first", &[&mount])?;
    let begun = probe.ask("guard.start", &json!({"data": directory(&volume)}))?;
    ensure!(begun["control_file"] == true && begun["servers"][0].is_u64(), "found: {begun}");

    first.psql("CHECKPOINT")?;
    expect_denied(stage.engine(), "second", &mount)?;
    // Those that only read are not servers.
    let control = "pg_controldata -D /var/lib/postgresql/data | grep 'in production'";
    stage.engine().docker(&[
        "run",
        "--rm",
        &mount,
        "--entrypoint=bash",
        "postgres:17",
        "-euc",
        control,
    ])?;
    first.psql("CHECKPOINT")?;
    first.psql("CREATE TABLE after AS SELECT 1")?;
    // The same cluster may be served again by whom it belongs to, and by another afterwards.
    first.restart()?;
    drop(first);
    let next = Pg::start(stage.engine(), "next", &[&mount])?;
    next.psql("SELECT * FROM after")?;

    let events = probe.ask("guard.events", &Value::Null)?;
    let all = events.as_array().map(Vec::as_slice).unwrap_or_default();
    let denied: Vec<_> = all.iter().filter(|event| event["answer"] == "deny").collect();
    ensure!(denied.len() == 1, "denied: {denied:?}");
    // What the decision rests on: who it is, and in which container.
    let exe = denied[0]["exe"].as_str().unwrap_or_default();
    ensure!(exe.ends_with("/bin/postgres"), "the opener is {exe:?}");
    let namespace = denied[0]["namespace"].as_str().unwrap_or_default();
    ensure!(namespace.starts_with("mnt:["), "its namespace is {namespace:?}");
    Ok(())
}

fn holds_from_before_initdb(stage: &Stage) -> Result<()> {
    let (probe, volume, mount) = with_volume(stage, |_| {}, "unmade")?;
    let begun = probe.ask("guard.start", &json!({"data": directory(&volume)}))?;
    ensure!(begun["control_file"] == false, "there is a cluster: {begun}");
    let first = Pg::start(stage.engine(), "first", &[&mount])?;
    expect_denied(stage.engine(), "second", &mount)?;
    first.psql("CHECKPOINT").map(drop)
}

fn lets_one_of_two_start(stage: &Stage) -> Result<()> {
    let (probe, volume, mount) = with_volume(stage, |_| {}, "contended")?;
    drop(Pg::start(stage.engine(), "maker", &[&mount])?);
    probe.ask("guard.start", &json!({"data": directory(&volume)}))?;
    for _ in 0..3 {
        let names = ["left", "right"];
        let made = names
            .map(|name| stage.engine().docker(&["create", "--name", name, &mount, "postgres:17"]));
        for one in made {
            one?;
        }
        stage.engine().shell("docker start left & docker start right & wait")?;
        eventually(LIMIT, || {
            let states = stage.engine().docker(&[
                "inspect",
                "--format={{.State.Status}}",
                "left",
                "right",
            ])?;
            let running = states.lines().filter(|state| *state == "running").count();
            let ended = states.lines().filter(|state| *state == "exited").count();
            ensure!((running, ended) == (1, 1), "states: {states:?}");
            Ok(())
        })?;
        stage.engine().docker(&["rm", "--force", "left", "right"])?;
    }
    Ok(())
}

fn is_no_obstacle_once_killed(stage: &Stage) -> Result<()> {
    let (probe, volume, mount) = with_volume(stage, |_| {}, "orphaned")?;
    drop(Pg::start(stage.engine(), "maker", &[&mount])?);
    // It never answers: the server waits in its open until the probe is killed.
    probe.ask("guard.start", &json!({"data": directory(&volume), "silent": true}))?;
    let server = Pg::run(stage.engine(), "waiting", &[&mount])?;
    eventually(LIMIT, || {
        let events = probe.ask("guard.events", &Value::Null)?;
        let waits = |event: &Value| event["answer"] == "none";
        ensure!(events.as_array().is_some_and(|events| events.iter().any(waits)), "no open yet");
        Ok(())
    })?;
    ensure!(!serves(server.container())?, "the server did not wait");
    probe.kill()?;
    server.wait_ready()
}

fn serves(container: &Container) -> Result<bool> {
    let logs = container.logs(&[])?;
    Ok(String::from_utf8_lossy(&logs.stderr).contains("ready to accept connections"))
}
