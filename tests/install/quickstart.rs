//! `quickstart.sh` on an engine that answers: all of it, again, and away with it.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Engine, Scenario, Stage};

use crate::state::on_bare;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("quickstart", quickstart)]
}

/// The programs are those that are packaged: nothing is built or fetched.
fn run(engine: &Engine, arguments: &str) -> Result<String> {
    let script =
        format!("HOME=/var/lib/home BIN_DIR=/var/lib/bin /opt/scripts/quickstart.sh {arguments}");
    let outcome = engine.run_shell(Duration::from_mins(5), &script)?;
    let said = [outcome.stdout, outcome.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(outcome.success, "quickstart.sh {arguments} failed: {said}");
    Ok(said)
}

/// An engine that it has brought stays where it cannot say what it holds, with all that is on its disk.
fn stays(engine: &Engine) -> Result<()> {
    let state = "/var/lib/home/.local/state/pgvol-quickstart";
    engine.shell(&format!("docker volume create precious; touch {state}/engine-data"))?;
    let script =
        "DOCKER_HOST=unix:///nowhere.sock HOME=/var/lib/home /opt/scripts/quickstart.sh --clean";
    let outcome = engine.run_shell(Duration::from_mins(1), script)?;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    ensure!(!outcome.success && said.contains("it stays; start the engine"), "{said}");
    engine.shell(&format!(
        "ls -d /var/lib/docker/volumes/precious {state}; rm {state}/engine-data"
    ))?;
    engine.docker(&["volume", "rm", "precious"]).map(drop)
}

fn quickstart(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        engine.shell(
            "mkdir /var/lib/bin /var/lib/home
            cp /srv/pgvol/rootfs/pgvol /srv/pglog/rootfs/pglog /var/lib/bin",
        )?;
        // It may be run again at any time.
        for _ in 0..2 {
            let said = run(engine, "")?;
            for part in [
                "accounts 1000000",
                "its balances agree",
                "the same as before the restart",
                "All of it works",
            ] {
                ensure!(said.contains(part), "no {part:?} in: {said}");
            }
        }
        stays(engine)?;
        run(engine, "--clean")?;
        let left = engine.shell(
            "docker ps -aq; docker volume ls -q; docker plugin ls -q
            ls -d /var/lib/pgvol /var/lib/pglog /usr/local/lib/docker/cli-plugins/* 2>/dev/null || :",
        )?;
        ensure!(left.is_empty(), "--clean has left: {left}");
        engine.shell("rm -r /var/lib/bin /var/lib/home").map(drop)
    })
}
