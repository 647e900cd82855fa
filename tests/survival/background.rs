//! A snapshot that is made in the background: held up at a step it is seen, and `docker volume rm` ends it;
//! killed there it is begun anew.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Engine, Stage, eventually};
use serde_json::Value;

use crate::play::{FAILPOINT, REACHED};

const LIMIT: Duration = Duration::from_mins(2);

pub(crate) fn run(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    stage.plugin()?;
    engine.docker(&["volume", "create", "-d", "pgvol", "main"])?;
    engine.shell(&format!("echo 'snapshot.wal-held wait' >{FAILPOINT}"))?;
    let begun = engine.docker(&["pgvol", "snapshot", "create", "--detach", "main@s"])?;
    ensure!(begun == "main@s", "{begun}");
    eventually(LIMIT, || engine.shell(&format!("test -e {REACHED}")).context("waiting"))?;
    let shown: Value = serde_json::from_str(&engine.docker(&["volume", "inspect", "main@s"])?)?;
    let status = &shown[0]["Status"];
    ensure!(status["state"] == "creating" && status["progress"]["of"] == "main", "{status:#}");
    let volumes = engine.docker(&["volume", "ls", "--quiet"])?;
    ensure!(volumes.lines().any(|name| name == "main@s"), "{volumes}");
    let run = ["run", "--rm", "-v", "main@s:/pg:ro", "base", "true"];
    let refused = engine.client(LIMIT, &run)?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.success && said.contains("is being made"), "{said}");
    // Nobody has to wait for it: the volume itself is used.
    engine.docker(&["run", "--rm", "-v", "main:/pg", "base", "true"])?;
    let removing = engine.stream(&["volume", "rm", "main@s"])?;
    eventually(LIMIT, || {
        let progress = inspect(engine, "main@s")?["progress"].clone();
        ensure!(progress["ending"] == true, "{progress}");
        Ok(())
    })?;
    engine.shell(&format!("rm {REACHED}"))?;
    eventually(LIMIT, || {
        let volumes = engine.docker(&["pgvol", "ls", "--json"])?;
        ensure!(!volumes.contains("main@s"), "{volumes}");
        Ok(())
    })?;
    drop(removing);
    let trash = engine.docker(&["pgvol", "trash", "--json"])?;
    ensure!(!trash.contains("main@s"), "half a snapshot is in the trash: {trash}");
    // Whoever waits for it sees it done, also where the plugin ends meanwhile.
    let plugin = stage.plugin()?;
    plugin.settle();
    engine.shell(&format!("echo 'snapshot.wal-held kill' >{FAILPOINT}"))?;
    let made = engine.docker(&["pgvol", "snapshot", "create", "main@s"])?;
    ensure!(made == "main@s", "{made}");
    let shown = inspect(engine, "main@s")?;
    ensure!(shown["state"] == "ok" && shown["begun_anew"] == 1, "{shown:#}");
    plugin.started();
    engine.docker(&["volume", "rm", "main@s", "main"])?;
    engine.docker(&["pgvol", "purge", "--all"]).map(drop)
}

fn inspect(engine: &Engine, name: &str) -> Result<Value> {
    let shown: Value =
        serde_json::from_str(&engine.docker(&["pgvol", "inspect", name, "--json"])?)?;
    Ok(shown[0].clone())
}
