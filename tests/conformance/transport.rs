//! What becomes of a call whose answer is an error, is lost, or comes when nobody waits any more.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, Volume, eventually};
use serde_json::{Value, json};

use crate::rig::Rig;

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("errors_reach_the_user", errors),
        Scenario::new("lost_answer_is_asked_for_again", lost_answer)
            .tolerating(&["VolumeDriver.Create"]),
        Scenario::new("mount_that_nobody_waited_for", late_mount)
            .tolerating(&["VolumeDriver.Mount"]),
    ]
}

fn error_of(words: &str) -> Value {
    json!({"answer": {"status": 200, "body": json!({"Err": words}).to_string()}})
}

/// Word for word, with status 200 as with another one; one of Unmount is only logged.
fn errors(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    let volume = Volume::create(engine, "pgvol", "erring", &[])?;
    let run = ["run", "--rm", "-v", "erring:/data", "base", "true"];
    for (call, command) in [
        ("Create", &["volume", "create", "-d", "pgvol", "new"][..]),
        ("Mount", &run),
        ("Remove", &["volume", "rm", "erring"]),
    ] {
        let words = format!("no {call} \"today\"");
        let as_error = json!({"Err": words}).to_string();
        for order in [
            error_of(&words),
            json!({"answer": {"status": 500, "body": as_error}}),
            json!({"answer": {"status": 404, "body": words}}),
        ] {
            let _order = rig.order("pgvol", &format!("VolumeDriver.{call}"), &order)?;
            let said = engine.refused(command)?;
            ensure!(said.contains(&words), "{order}: no {words:?} in {said:?}");
        }
    }
    let position = engine.log().position()?;
    let order = rig.order("pgvol", "VolumeDriver.Unmount", &error_of("no Unmount today"))?;
    engine.docker(&run)?;
    drop(order);
    eventually(LIMIT, || {
        let log = engine.log().own_lines(position)?;
        ensure!(log.iter().any(|line| line.contains("no Unmount today")), "nothing is logged");
        Ok(())
    })?;
    let order = rig.order("pgvol", "VolumeDriver.List", &error_of("no List today"))?;
    let listed = engine.docker(&["volume", "ls", "-q"])?;
    ensure!(listed == "erring", "what dockerd knows by itself: {listed}");
    drop(order);
    // The plugin still has a mount of which dockerd believes that it may be there.
    engine.docker(&run)?;
    volume.remove()
}

/// dockerd repeats a call whose connection broke, but without its body: the plugin must not take
/// that for a call about a volume without a name.
fn lost_answer(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    let once = json!({"hang_up": "after", "times": 1});

    let recording = rig.record()?;
    let order = rig.order("pgvol", "VolumeDriver.Create", &once)?;
    let said = engine.refused(&["volume", "create", "-d", "pgvol", "lost"])?;
    ensure!(said.contains("names no volume"), "{said}");
    drop(order);
    let creates = recording.calls("VolumeDriver.Create")?;
    let bodies: Vec<_> = creates.iter().map(|call| call.body.is_empty()).collect();
    ensure!(bodies == [false, true], "the calls are {creates:?}");
    ensure!(creates[1].outcome() == "refused", "the repetition is {creates:?}");
    // It was made all the same, and the same command finds it.
    let volume = Volume::create(engine, "pgvol", "lost", &[])?;
    recording.expect(&[("Create", 2)])?;
    let listed = engine.docker(&["volume", "ls", "-q"])?;
    ensure!(listed == "lost", "{listed}");

    // Where a call has nothing to say its repetition is as good.
    let recording = rig.record()?;
    let order = rig.order("pgvol", "VolumeDriver.List", &once)?;
    let listed = engine.docker(&["volume", "ls", "-q"])?;
    drop(order);
    ensure!(listed == "lost", "{listed}");
    recording.expect(&[("List", 2)])?;

    // An Unmount is repeated in vain; the next start has the id again and nothing is left over.
    let order = rig.order("pgvol", "VolumeDriver.Mount", &once)?;
    let run = ["run", "--rm", "-v", "lost:/data", "base", "true"];
    engine.refused(&run)?;
    drop(order);
    engine.docker(&run)?;
    volume.remove()
}

/// dockerd gave up on the mount and will never unmount it.
fn late_mount(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    engine.docker(&["plugin", "disable", "pgvol"])?;
    engine.docker(&["plugin", "enable", "--timeout", "2", "pgvol"])?;
    let volume = Volume::create(engine, "pgvol", "late", &[])?;
    let recording = rig.record()?;
    let hold = json!({"hold_ms": 4000, "times": 1});
    let order = rig.order("pgvol", "VolumeDriver.Mount", &hold)?;
    engine.refused(&["run", "--rm", "-v", "late:/data", "base", "true"])?;
    drop(order);
    eventually(LIMIT, || {
        let mounts = recording.calls("VolumeDriver.Mount")?;
        ensure!(mounts.iter().all(|call| call.answer.is_some()), "no answer yet: {mounts:?}");
        Ok(())
    })?;
    recording.expect(&[("Unmount", 0)])?;
    eventually(LIMIT, || {
        let left = engine.mounts("/propagated-mount/late")?;
        ensure!(left.is_empty(), "still mounted:\n{}", left.join("\n"));
        Ok(())
    })?;
    volume.remove()?;
    engine.docker(&["plugin", "disable", "pgvol"])?;
    rig.pgvol.enable()
}
