//! What dockerd knows of a volume, and what it does where it and the plugin do not agree.

use anyhow::{Result, ensure};
use harness::{Container, Scenario, Stage, Version, Volume};
use serde_json::{Map, Value, json};

use crate::rig::Rig;

const DRIVERS: &[&str] = &["local", "pgvol"];

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut scenarios = [
        Scenario::for_drivers("data_stays_between_runs", DRIVERS, data_stays),
        Scenario::for_drivers("container_shows_its_volume", DRIVERS, shown_by_container),
        Scenario::for_drivers("removing_what_is_not_there", DRIVERS, removing_nothing),
        Scenario::for_drivers("volumes_are_found_by_filters", DRIVERS, filters),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    scenarios.extend([
        Scenario::new("empty_answer_of_get_is_no_volume", empty_get),
        Scenario::new("deleted_behind_the_engine", deleted_behind),
        Scenario::new("made_behind_the_engine", made_behind),
        Scenario::new("prune_is_for_local_volumes", prune),
        Scenario::new("failed_create_leaves_nothing", failed_create)
            .tolerating(&["VolumeDriver.Create"]),
        Scenario::new("scope_is_local", scope),
    ]);
    scenarios
}

fn data_stays(stage: &Stage, driver: &'static str) -> Result<()> {
    let engine = stage.engine();
    let volume = Volume::create(engine, driver, "kept", &[])?;
    let run = ["run", "--rm", "-v", "kept:/data", "base", "sh", "-euc"];
    engine.docker(&[&run[..], &["echo one >/data/file"]].concat())?;
    let said = engine.docker(&[&run[..], &["cat /data/file"]].concat())?;
    ensure!(said == "one", "{said}");
    let listed = engine.docker(&["volume", "ls", "-q"])?;
    ensure!(listed == "kept", "{listed}");
    volume.remove()
}

fn shown_by_container(stage: &Stage, driver: &'static str) -> Result<()> {
    let volume = Volume::create(stage.engine(), driver, "shown", &[])?;
    let arguments = ["-v", "shown:/data", "base", "sleep", "infinity"];
    let container = Container::run(stage.engine(), "shows", &arguments)?;
    let mounts: Value = serde_json::from_str(&container.inspect("{{json .Mounts}}")?)?;
    let mounts = mounts.as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(mounts.len() == 1 && mounts[0]["Name"] == "shown", "{mounts:?}");
    let shown = mounts[0]["Driver"].as_str().unwrap_or_default();
    ensure!(shown.trim_end_matches(":latest") == driver, "{mounts:?}");
    drop(container);
    volume.remove()
}

fn removing_nothing(stage: &Stage, driver: &'static str) -> Result<()> {
    let engine = stage.engine();
    let said = engine.refused(&["volume", "rm", "nothing"])?;
    ensure!(said.to_lowercase().contains("no such volume"), "{said}");
    engine.docker(&["volume", "rm", "--force", "nothing"])?;
    // By force too only what nobody uses.
    let volume = Volume::create(engine, driver, "used", &[])?;
    let arguments = ["-v", "used:/data", "base", "true"];
    let container = Container::run(engine, "user", &arguments)?;
    let said = engine.refused(&["volume", "rm", "--force", "used"])?;
    ensure!(said.contains("in use"), "{said}");
    drop(container);
    volume.remove()
}

fn filters(stage: &Stage, driver: &'static str) -> Result<()> {
    let engine = stage.engine();
    // The name by which Docker lists it.
    let listed = if driver == "pgvol" { "pgvol:latest" } else { driver };
    let labelled = ["volume", "create", "--driver", driver, "--label", "team=blue", "found"];
    engine.docker(&labelled)?;
    let other = Volume::create(engine, driver, "other", &[])?;
    let container = Container::run(engine, "user", &["-v", "found:/data", "base", "true"])?;
    let driver = format!("driver={listed}");
    for (filter, expected) in [
        (driver.as_str(), "found\nother"),
        ("driver=nothing", ""),
        ("dangling=true", "other"),
        ("dangling=false", "found"),
        ("label=team", "found"),
        ("label=team=red", ""),
        ("name=oth", "other"),
    ] {
        let found = engine.docker(&["volume", "ls", "-q", "--filter", filter])?;
        ensure!(found == expected, "{filter}: {found:?} instead of {expected:?}");
    }
    drop(container);
    engine.docker(&["volume", "rm", "found"])?;
    other.remove()
}

/// A `{}` names no volume and no error; once it was dockerd's end.
fn empty_get(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let order = json!({"answer": {"status": 200, "body": "{}"}});
    let order = rig.order("pgvol", "VolumeDriver.Get", &order)?;
    let volume = Volume::create(stage.engine(), "pgvol", "empty", &[])?;
    let said = stage.engine().refused(&["volume", "inspect", "empty"])?;
    ensure!(said.to_lowercase().contains("no such volume"), "{said}");
    drop(order);
    ensure!(volume.inspect()?["Status"]["state"] == "ok");
    volume.remove()
}

/// The name is free again, for other options and for another driver.
fn deleted_behind(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let plugin = stage.plugin()?;
    let delete = || {
        let (_, answer) = plugin.call("/VolumeDriver.Remove", r#"{"Name":"behind"}"#)?;
        ensure!(answer["Err"].as_str().unwrap_or_default().is_empty(), "{answer}");
        Ok(())
    };
    let first = Volume::create(engine, "pgvol", "behind", &[])?;
    let said = engine.refused(&["volume", "create", "--driver", "local", "behind"])?;
    ensure!(said.contains("must be unique"), "{said}");
    delete()?;
    let second = Volume::create(engine, "pgvol", "behind", &["uid=1000"])?;
    let shown = second.inspect()?;
    ensure!(shown["Options"] == json!({"uid": "1000"}), "{shown:#}");
    delete()?;
    let third = Volume::create(engine, "local", "behind", &[])?;
    let shown = third.inspect()?;
    let none = shown["Options"].as_object().is_none_or(Map::is_empty);
    ensure!(shown["Driver"] == "local" && none, "{shown:#}");
    third.remove()?;
    drop((first, second));
    Ok(())
}

/// dockerd takes it over: with the labels and options of the command, and without a Create.
fn made_behind(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = stage.engine();
    let body = json!({"Name": "behind", "Opts": {"uid": "1000"}}).to_string();
    rig.pgvol.call("/VolumeDriver.Create", &body)?;
    let recording = rig.record()?;
    let options = ["--label", "team=blue", "--opt", "gid=1001", "behind"];
    engine.docker(&[&["volume", "create", "--driver", "pgvol"], &options[..]].concat())?;
    recording.expect(&[("Get", 1), ("Create", 0)])?;
    let shown: Value = serde_json::from_str(&engine.docker(&["volume", "inspect", "behind"])?)?;
    let shown = &shown[0];
    ensure!(shown["Labels"] == json!({"team": "blue"}), "{shown:#}");
    ensure!(shown["Options"] == json!({"gid": "1001"}), "{shown:#}");
    engine.docker(&["volume", "rm", "behind"]).map(drop)
}

fn prune(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = stage.engine();
    let named = Volume::create(engine, "pgvol", "named", &[])?;
    let unnamed = engine.docker(&["volume", "create", "--driver", "pgvol"])?;
    let local = Volume::create(engine, "local", "pruned", &[])?;
    let recording = rig.record()?;
    // Before 23 named volumes go in any case.
    let named_too: &[&str] = if engine.version() < Version::V26_1 { &[] } else { &["--all"] };
    engine.docker(&[&["volume", "prune", "--force"], named_too].concat())?;
    engine.docker(&["volume", "prune", "--force"])?;
    recording.expect(&[("Remove", 0)])?;
    let left = engine.docker(&["volume", "ls", "-q"])?;
    let mut expected = [unnamed.as_str(), named.name()];
    expected.sort_unstable();
    ensure!(left.lines().eq(expected), "left: {left}");
    drop(local);
    engine.docker(&["volume", "rm", &unnamed])?;
    named.remove()
}

/// The plugin's own words reach the user, and nothing holds the plugin afterwards.
fn failed_create(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = stage.engine();
    let body = r#"{"Name":"failed","Opts":{"colour":"red"}}"#;
    let (_, answer) = rig.pgvol.call("/VolumeDriver.Create", body)?;
    let words = answer["Err"].as_str().unwrap_or_default();
    let create = ["volume", "create", "--driver", "pgvol", "--opt", "colour=red", "failed"];
    let said = engine.refused(&create)?;
    ensure!(!words.is_empty() && said.contains(words), "{words:?} is not in {said:?}");
    engine.docker(&["plugin", "disable", "pgvol"])?;
    rig.pgvol.enable()
}

/// It is display only; whatever the plugin says wrong about it is `local` too.
fn scope(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let volume = Volume::create(stage.engine(), "pgvol", "scoped", &[])?;
    let scope = || Ok::<_, anyhow::Error>(volume.inspect()?["Scope"].clone());
    ensure!(scope()? == "local", "the plugin's own scope is {}", scope()?);
    for (status, body, expected) in [
        (500, r#"{"Err":"not today"}"#, "local"),
        (200, r#"{"Capabilities":{"Scope":"planet"}}"#, "local"),
        (200, r#"{"Capabilities":{"Scope":"GLOBAL"}}"#, "global"),
    ] {
        let order = json!({"answer": {"status": status, "body": body}});
        let _order = rig.order("pgvol", "VolumeDriver.Capabilities", &order)?;
        ensure!(scope()? == expected, "{body} is shown as {}", scope()?);
    }
    volume.remove()
}
