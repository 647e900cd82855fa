//! Mounts of a volume by several containers and by docker itself, in any order.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Scenario, Stage, Volume};

const DRIVERS: &[&str] = &["local", "pgvol"];
const LIMIT: Duration = Duration::from_secs(15);

pub(crate) fn scenarios() -> Vec<Scenario> {
    [
        Scenario::for_drivers("docker_cp_keeps_the_mount", DRIVERS, docker_cp),
        Scenario::for_drivers("two_containers_first_leaves_first", DRIVERS, first_leaves),
        Scenario::for_drivers("two_containers_last_leaves_first", DRIVERS, last_leaves),
        Scenario::for_drivers("used_volume_is_not_removed", DRIVERS, used),
        vec![Scenario::new("unmount_is_idempotent", unmount).tolerating(&["VolumeDriver.Mount"])],
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn holder(stage: &Stage, name: &str, volume: &Volume) -> Result<Container> {
    let mount = format!("{}:/pg", volume.name());
    Container::run(stage.engine(), name, &["-v", &mount, "postgres:17", "sleep", "infinity"])
}

/// Writes a file on each role's file system and reads it back.
fn works(container: &Container, word: &str) -> Result<()> {
    let script = format!(
        "for d in /pg /pg/data /pg/wal; do [ -d $d ] || continue
         echo {word} >$d/{word}; sync $d/{word}; cat $d/{word}; done"
    );
    let found = container.shell(&script)?;
    ensure!(found.lines().all(|line| line == word) && !found.is_empty(), "{found:?}");
    Ok(())
}

/// Nothing of the volume is mounted on the engine any more; only the plugin's mounts are seen.
fn check_unmounted(stage: &Stage, driver: &str, name: &str) -> Result<()> {
    if driver == "pgvol" {
        let left = stage.engine().mounts(&format!("/propagated-mount/{name}"))?;
        ensure!(left.is_empty(), "the view is still mounted:\n{}", left.join("\n"));
    }
    Ok(())
}

/// Each `docker cp` mounts and unmounts with the id of the running mount.
fn docker_cp(stage: &Stage, driver: &'static str) -> Result<()> {
    let engine = stage.engine();
    let volume = Volume::create(engine, driver, "copied", &[])?;
    let container = holder(stage, "copier", &volume)?;
    works(&container, "before")?;
    for round in 0..3 {
        engine.docker(&["cp", "/etc/hostname", &format!("copier:/pg/in{round}")])?;
        engine.docker(&["cp", "copier:/pg/before", "/tmp/out"])?;
        works(&container, &format!("round{round}"))?;
    }
    ensure!(engine.shell("cat /tmp/out")? == "before");
    // The next container still finds the same view.
    let second = holder(stage, "second", &volume)?;
    ensure!(second.shell("cat /pg/before")? == "before");
    second.remove(LIMIT)?;
    works(&container, "after")?;
    container.remove(LIMIT)?;
    check_unmounted(stage, driver, "copied")?;
    volume.remove()
}

fn first_leaves(stage: &Stage, driver: &'static str) -> Result<()> {
    let volume = Volume::create(stage.engine(), driver, "shared", &[])?;
    let first = holder(stage, "first", &volume)?;
    let last = holder(stage, "last", &volume)?;
    works(&first, "one")?;
    first.stop(LIMIT)?;
    works(&last, "two")?;
    first.start()?;
    ensure!(first.shell("cat /pg/two")? == "two");
    first.remove(LIMIT)?;
    works(&last, "three")?;
    last.remove(LIMIT)?;
    check_unmounted(stage, driver, "shared")?;
    volume.remove()
}

fn last_leaves(stage: &Stage, driver: &'static str) -> Result<()> {
    let volume = Volume::create(stage.engine(), driver, "shared", &[])?;
    let first = holder(stage, "first", &volume)?;
    let last = holder(stage, "last", &volume)?;
    works(&last, "one")?;
    last.stop(LIMIT)?;
    works(&first, "two")?;
    last.start()?;
    ensure!(last.shell("cat /pg/two")? == "two");
    last.remove(LIMIT)?;
    works(&first, "three")?;
    first.remove(LIMIT)?;
    check_unmounted(stage, driver, "shared")?;
    volume.remove()
}

fn used(stage: &Stage, driver: &'static str) -> Result<()> {
    let volume = Volume::create(stage.engine(), driver, "used", &[])?;
    let container = holder(stage, "user", &volume)?;
    let message = stage.engine().refused(&["volume", "rm", "used"])?;
    ensure!(message.contains("in use"), "{message}");
    if driver == "pgvol" {
        // dockerd would not ask; the plugin looks for itself.
        let (_, answer) = stage.plugin()?.call("/VolumeDriver.Remove", r#"{"Name":"used"}"#)?;
        ensure!(!answer["Err"].as_str().unwrap_or_default().is_empty(), "removed: {answer}");
    }
    works(&container, "still")?;
    container.remove(LIMIT)?;
    volume.remove()
}

/// dockerd unmounts what it is not sure was mounted, and repeats itself.
fn unmount(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let call = |method: &str, name: &str, id: char| {
        let id = id.to_string().repeat(64);
        plugin
            .call(
                &format!("/VolumeDriver.{method}"),
                &format!(r#"{{"Name":"{name}","ID":"{id}"}}"#),
            )
            .map(|(_, answer)| answer)
    };
    let fine = |answer: &serde_json::Value| answer["Err"].as_str().unwrap_or("").is_empty();
    let volume = Volume::create(stage.engine(), "pgvol", "idle", &[])?;
    for (name, id) in [("idle", 'a'), ("unknown", 'a')] {
        let answer = call("Unmount", name, id)?;
        ensure!(fine(&answer), "Unmount of {name}: {answer}");
    }
    let unknown = call("Mount", "unknown", 'a')?;
    ensure!(!fine(&unknown), "an unknown volume is mounted: {unknown}");
    // Twice by the same id: the first Unmount must not take the mount away.
    let mounted = [call("Mount", "idle", 'a')?, call("Mount", "idle", 'a')?];
    ensure!(mounted.iter().all(fine) && mounted[0] == mounted[1], "{mounted:?}");
    for left in [1, 0, 0] {
        ensure!(fine(&call("Unmount", "idle", 'a')?));
        let mounts = stage.engine().mounts("/propagated-mount/idle")?;
        ensure!(mounts.is_empty() == (left == 0), "{left} left:\n{}", mounts.join("\n"));
    }
    volume.remove()
}
