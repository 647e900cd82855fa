//! `docker plugin` with the two plugins: what it refuses and what it shows.

use anyhow::{Context, Result, ensure};
use harness::{Scenario, Stage, Volume};
use serde_json::Value;

use crate::rig::Rig;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("plugin_is_named_by_name_and_id", naming),
        Scenario::new("plugin_commands_out_of_place", out_of_place),
        Scenario::new("plugin_settings", settings),
        Scenario::new("plugin_list_by_filters", filters),
        Scenario::new("volume_list_without_its_plugin", list_while_disabled),
    ]
}

fn naming(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    for plugin in ["pgvol", "pglog"] {
        let id = engine.docker(&["plugin", "inspect", "--format", "{{.Id}}", plugin])?;
        for name in [&id, &id[..12], &format!("{plugin}:latest")] {
            let found = engine.docker(&["plugin", "inspect", "--format", "{{.Name}}", name])?;
            ensure!(found == format!("{plugin}:latest"), "{name} is {found}");
        }
    }
    let said = engine.refused(&["plugin", "inspect", "nothing"])?;
    ensure!(said.contains("nothing"), "{said}");
    Ok(())
}

fn out_of_place(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    let refused = |arguments: &[&str], part: &str| {
        let said = engine.refused(&[&["plugin"], arguments].concat())?;
        ensure!(said.contains(part), "plugin {}: {said}", arguments.join(" "));
        anyhow::Ok(())
    };
    refused(&["enable", "pglog"], "already enabled")?;
    refused(&["rm", "pglog"], "is enabled")?;
    refused(&["set", "pglog", "LOG_LEVEL=debug"], "active")?;
    refused(&["create", "pglog", "/srv/pglog"], "already exists")?;
    engine.docker(&["plugin", "disable", "pglog"])?;
    refused(&["disable", "pglog"], "already disabled")?;
    let run = ["run", "--rm", "--log-driver", "pglog", "base", "true"];
    let said = engine.refused(&run)?;
    ensure!(said.contains("disabled"), "{said}");
    // Gone without force, and there again as before.
    engine.docker(&["plugin", "rm", "pglog"])?;
    refused(&["enable", "pglog"], "not found")?;
    rig.pglog.create()?;
    rig.pglog.enable()?;
    engine.docker(&run).map(drop)
}

fn settings(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    let shown = || {
        let text =
            engine.docker(&["plugin", "inspect", "--format", "{{json .Settings}}", "pglog"])?;
        serde_json::from_str::<Value>(&text).context("settings")
    };
    let before = shown()?;
    engine.docker(&["plugin", "disable", "pglog"])?;
    for unknown in ["COLOUR=red", "state.destination=/mnt", "entrypoint=/bin/sh"] {
        let said = engine.refused(&["plugin", "set", "pglog", unknown])?;
        ensure!(!said.is_empty() && shown()? == before, "{unknown}: {said}");
    }
    engine.shell("mkdir -p /var/lib/elsewhere")?;
    let changed = ["LOG_LEVEL=debug", "state.source=/var/lib/elsewhere"];
    engine.docker(&[&["plugin", "set", "pglog"], &changed[..]].concat())?;
    let set = shown()?.to_string();
    ensure!(set.contains("LOG_LEVEL=debug") && set.contains("/var/lib/elsewhere"), "{set}");
    rig.pglog.enable()?;
    rig.pglog.wait_listening()?;
    engine.shell("test -d /var/lib/elsewhere/pglog")?;
    engine.docker(&["plugin", "disable", "pglog"])?;
    let back = ["LOG_LEVEL=info", "state.source=/var/lib"];
    engine.docker(&[&["plugin", "set", "pglog"], &back[..]].concat())?;
    ensure!(shown()? == before, "{} instead of {before}", shown()?);
    rig.pglog.enable()
}

fn filters(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    engine.docker(&["plugin", "disable", "pglog"])?;
    let outcome = [
        ("enabled=true", "pgvol:latest"),
        ("enabled=false", "pglog:latest"),
        ("capability=volumedriver", "pgvol:latest"),
        ("capability=logdriver", "pglog:latest"),
        ("capability=authz", ""),
    ]
    .map(|(filter, expected)| {
        let list = ["plugin", "ls", "--filter", filter, "--format", "{{.Name}}"];
        let found = engine.docker(&list)?;
        ensure!(found == expected, "{filter}: {found:?} instead of {expected:?}");
        Ok(())
    });
    rig.pglog.enable()?;
    outcome.into_iter().collect()
}

/// Volumes of the others are listed all the same.
fn list_while_disabled(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    let other = Volume::create(engine, "local", "other", &[])?;
    engine.docker(&["plugin", "disable", "pgvol"])?;
    let listed = engine.docker(&["volume", "ls", "-q"]);
    rig.pgvol.enable()?;
    let listed = listed?;
    ensure!(listed == "other", "{listed}");
    other.remove()
}
