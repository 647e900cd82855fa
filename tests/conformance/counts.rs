//! How often the volume plugin is called for what a user does: no more than that, in pairs.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Scenario, Stage, Volume, eventually};
use serde_json::json;

use crate::rig::Rig;

const LIMIT: Duration = Duration::from_secs(20);

const DRIVERS: &[&str] = &["local", "pgvol"];

/// One volume, one container, nothing left of either.
const ONE_OF_EACH: &[(&str, usize)] = &[("Create", 1), ("Remove", 1), ("Mount", 1), ("Unmount", 1)];

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut scenarios = [
        Scenario::for_drivers("named_volume", DRIVERS, named),
        Scenario::for_drivers("unnamed_volume", DRIVERS, unnamed),
        Scenario::for_drivers("volumes_from", DRIVERS, volumes_from),
        Scenario::for_drivers("container_goes_with_its_volume", DRIVERS, goes_with_its_volume),
        Scenario::for_drivers("same_volume_twice_in_a_container", DRIVERS, twice),
        Scenario::for_drivers("copying_counts", DRIVERS, copying),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    scenarios.push(Scenario::new("listing_and_showing", listing));
    scenarios.push(Scenario::new("failed_mount_is_not_unmounted", failed_mount));
    scenarios
}

/// Does something with a driver and, where that is a plugin, counts its calls.
fn counted(
    stage: &Stage,
    driver: &str,
    counts: &[(&str, usize)],
    act: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let rig = Rig::new(stage)?;
    let recording = rig.record()?;
    act()?;
    if driver != "pgvol" {
        return Ok(());
    }
    recording.expect(counts)?;
    // Ids are there, and what is unmounted is what was mounted.
    let ids = |call: &str| {
        let calls = recording.calls(call)?;
        let ids = calls.iter().map(|call| call.field("ID").as_str().unwrap_or("").to_owned());
        anyhow::Ok(ids.collect::<Vec<_>>())
    };
    let (mut mounted, mut unmounted) = (ids("VolumeDriver.Mount")?, ids("VolumeDriver.Unmount")?);
    ensure!(mounted.iter().all(|id| id.len() == 64), "ids of mounts: {mounted:?}");
    mounted.sort();
    unmounted.sort();
    ensure!(mounted == unmounted, "{mounted:?} were mounted, {unmounted:?} unmounted");
    Ok(())
}

/// `docker run` of a shell command with `options`.
fn run(stage: &Stage, options: &[&str], command: &str) -> Result<String> {
    stage.engine().docker(&[&["run"], options, &["base", "sh", "-euc", command]].concat())
}

fn named(stage: &Stage, driver: &'static str) -> Result<()> {
    counted(stage, driver, ONE_OF_EACH, || {
        let options = ["--rm", "-v", "named:/data", "--volume-driver", driver];
        let said = run(stage, &options, "echo kept >/data/file; cat /data/file")?;
        ensure!(said == "kept", "{said}");
        stage.engine().docker(&["volume", "rm", "named"])?;
        let places = "/var/lib/docker/volumes /var/lib/docker/plugins/*/propagated-mount \
            /var/lib/pgvol";
        eventually(LIMIT, || {
            let left = stage.engine().shell(&format!("find {places} -name 'named*'"))?;
            ensure!(left.is_empty(), "left on the host: {left}");
            Ok(())
        })
    })
}

fn unnamed(stage: &Stage, driver: &'static str) -> Result<()> {
    counted(stage, driver, ONE_OF_EACH, || {
        let options = ["--rm", "-v", "/data", "--volume-driver", driver];
        let said = run(stage, &options, "echo kept >/data/file; cat /data/file")?;
        ensure!(said == "kept", "{said}");
        Ok(())
    })
}

fn volumes_from(stage: &Stage, driver: &'static str) -> Result<()> {
    let counts = [("Create", 1), ("Remove", 1), ("Mount", 2), ("Unmount", 2)];
    counted(stage, driver, &counts, || {
        let options = ["--name", "first", "-v", "/data", "--volume-driver", driver];
        run(stage, &options, "echo kept >/data/file")?;
        let said = run(stage, &["--rm", "--volumes-from", "first"], "cat /data/file")?;
        ensure!(said == "kept", "{said}");
        stage.engine().docker(&["rm", "-fv", "first"]).map(drop)
    })
}

fn goes_with_its_volume(stage: &Stage, driver: &'static str) -> Result<()> {
    counted(stage, driver, ONE_OF_EACH, || {
        let options = ["--name", "first", "-v", "/data", "--volume-driver", driver];
        run(stage, &options, "echo kept >/data/file")?;
        stage.engine().docker(&["rm", "-fv", "first"]).map(drop)
    })
}

/// Each place is a mount of its own, and the volume is free when the container has gone.
fn twice(stage: &Stage, driver: &'static str) -> Result<()> {
    let counts = [("Create", 1), ("Remove", 1), ("Mount", 2), ("Unmount", 2)];
    counted(stage, driver, &counts, || {
        let volume = Volume::create(stage.engine(), driver, "twice", &[])?;
        let options = ["--rm", "-v", "twice:/one", "-v", "twice:/two"];
        let said = run(stage, &options, "echo kept >/one/file; cat /two/file")?;
        ensure!(said == "kept", "{said}");
        volume.remove()
    })
}

/// Copying out of a running container mounts its volumes once more, with the id they have.
fn copying(stage: &Stage, driver: &'static str) -> Result<()> {
    let rig = Rig::new(stage)?;
    let volume = Volume::create(stage.engine(), driver, "copied", &[])?;
    let recording = rig.record()?;
    let expect = |mounts: usize, unmounts: usize| match driver {
        "pgvol" => recording.expect(&[("Mount", mounts), ("Unmount", unmounts)]),
        _ => Ok(()),
    };
    let command = ["-v", "copied:/data", "base", "sh", "-c", "touch /file; exec sleep infinity"];
    let container = Container::run(stage.engine(), "copier", &command)?;
    expect(1, 0)?;
    stage.engine().docker(&["cp", "copier:/file", "/tmp/file"])?;
    expect(2, 1)?;
    stage.engine().docker(&["kill", container.name()])?;
    expect(2, 2)?;
    let mut ids = recording.calls("VolumeDriver.Mount")?;
    ids.extend(recording.calls("VolumeDriver.Unmount")?);
    let same = ids.windows(2).all(|pair| pair[0].field("ID") == pair[1].field("ID"));
    ensure!(same, "another id: {ids:?}");
    drop(container);
    volume.remove()
}

/// One List for a list, one Get for a look at what is not there, never a Path.
fn listing(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = stage.engine();
    let recording = rig.record()?;
    let said = engine.refused(&["volume", "inspect", "nothing"])?;
    ensure!(said.to_lowercase().contains("no such volume"), "{said}");
    recording.expect(&[("Get", 1), ("Path", 0)])?;
    let volume = Volume::create(engine, "pgvol", "listed", &[])?;
    let listed = engine.docker(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"])?;
    ensure!(listed == "pgvol:latest listed", "{listed}");
    recording.expect(&[("List", 1), ("Create", 1), ("Path", 0)])?;
    let shown = volume.inspect()?;
    ensure!(shown["Status"]["state"] == "ok", "{shown:#}");
    let said = run(stage, &["--rm", "-v", "listed:/data"], "mountpoint /data")?;
    ensure!(said.contains("is a mountpoint"), "{said}");
    volume.remove()?;
    recording.expect(&[("List", 1), ("Path", 0)])
}

/// Neither the mount of a start nor the one that looks for the working directory.
fn failed_mount(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let volume = Volume::create(stage.engine(), "pgvol", "failing", &[])?;
    let recording = rig.record()?;
    let body = json!({"Err": "not today"}).to_string();
    let order = json!({"answer": {"status": 200, "body": body}});
    let order = rig.order("pgvol", "VolumeDriver.Mount", &order)?;
    for options in [&["-v", "failing:/data"][..], &["-w", "/data", "-v", "failing:/data"]] {
        let command = [&["run", "--rm"], options, &["base", "true"]].concat();
        let said = stage.engine().refused(&command)?;
        ensure!(said.contains("not today"), "{said}");
        recording.expect(&[("Unmount", 0)])?;
    }
    ensure!(!recording.calls("VolumeDriver.Mount")?.is_empty(), "nothing was mounted");
    drop(order);
    let said = run(stage, &["--rm", "-v", "failing:/data"], "echo fine")?;
    ensure!(said == "fine", "{said}");
    volume.remove()
}
