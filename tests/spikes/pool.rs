//! A pool in a btrfs image, found again by its loop device.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Scenario, Stage, Volume, eventually};
use serde_json::{Value, json};

use crate::probe::Probe;

const IMAGE: &str = "/host/state/pgvol/pool.img";
const KILLS: usize = 3;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("pool::is_found_again_and_leaves_nothing", is_found_again)]
}

/// Makes an image below the state directory and mounts it.
pub(crate) fn make(stage: &Stage, probe: &Probe) -> Result<Value> {
    stage.engine().shell("mkdir -p /var/lib/pgvol")?;
    let made = probe.ask("pool.image", &json!({"image": IMAGE, "megabytes": 256}))?;
    ensure!(made["blocks"].as_u64() >= Some(256 << 11), "space is not reserved: {made}");
    probe.ask("pool.open", &json!({"image": IMAGE}))
}

fn is_found_again(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let probe = Probe::install(engine, "pgvol")?;
    let first = make(stage, &probe)?;
    ensure!(first["found"] == false && first["autoclear"] == "1", "new: {first}");
    ensure!(first["direct_io"] == "1", "not past the cache: {first}");
    probe.refused("pool.again", &json!({"image": IMAGE}), "EAGAIN")?;

    let volume = Volume::create(engine, "pgvol", "pooled", &["pool=image"])?;
    let script = "while sleep 0.05; do date >>/v/file; sync /v/file; done";
    let holder = ["--volume=pooled:/v", "--entrypoint=sh", "postgres:17", "-c", script];
    let holder = Container::run(engine, "holder", &holder)?;
    let seen = holder.shell("stat -c '%d %i' /v")?;
    for _ in 0..KILLS {
        probe.kill()?;
        let again = probe.ask("pool.open", &json!({"image": IMAGE}))?;
        ensure!(again["found"] == true, "not found: {again}");
        for what in ["loop", "st_dev"] {
            ensure!(again[what] == first[what], "another {what}: {first}, {again}");
        }
        let path = |opened: &Value| opened["backing_file"].as_str().unwrap_or_default().to_owned();
        ensure!(path(&again) != path(&first), "paths can be compared after all: {again}");
    }
    // A volume that is mounted now is on the same file system as the one mounted before.
    let look = ["--volume=pooled:/v", "--entrypoint=stat", "postgres:17", "-c", "%d %i", "/v"];
    let now = engine.docker(&[&["run", "--rm"], &look[..]].concat())?;
    ensure!(now == seen, "before the kills {seen}, now {now}");
    ensure!(engine.loop_devices()?.len() == 1, "loops: {:?}", engine.loop_devices()?);

    probe.plugin().remove()?;
    holder.shell("date >>/v/file && sync /v/file")?;
    ensure!(engine.loop_devices()?.len() == 1, "the loop is gone under the container");
    holder.remove(Duration::from_mins(1))?;
    eventually(Duration::from_secs(10), || {
        let left = engine.loop_devices()?;
        ensure!(left.is_empty(), "loop devices stay: {left:?}");
        Ok(())
    })?;
    // dockerd would look for its driver for 15 seconds; the engine is told nothing of its end.
    std::mem::forget(volume);
    Ok(())
}
