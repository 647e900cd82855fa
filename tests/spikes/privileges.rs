//! Each privilege of `config.json`, left out: what fails then, and what still works.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Pg, Scenario, Stage, Volume, eventually};
use serde_json::{Value, json};

use crate::guard::{directory, with_volume};
use crate::pool;
use crate::probe::Probe;

const HOST_FILE: &str = "/opt/privileges";

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("privileges::pgvol_without_sys_admin", pgvol_without_sys_admin),
        Scenario::new("privileges::pgvol_without_sys_ptrace", pgvol_without_sys_ptrace),
        Scenario::new("privileges::pgvol_without_devices", pgvol_without_devices),
        Scenario::new("privileges::pgvol_without_pidhost", pgvol_without_pidhost),
        Scenario::new("privileges::pglog_without_sys_ptrace", |stage| {
            pglog_keeps_streams(stage, without_capability("CAP_SYS_PTRACE"), "Permission denied")
        }),
        Scenario::new("privileges::pglog_without_pidhost", |stage| {
            pglog_keeps_streams(stage, |config| config["pidhost"] = json!(false), "No such file")
        }),
        Scenario::new("privileges::pglog_without_host_network", pglog_without_host_network),
        Scenario::new("privileges::pglog_without_propagated_mount", without_propagated_mount),
    ]
}

fn without_capability(name: &str) -> impl FnOnce(&mut Value) {
    let name = name.to_owned();
    move |config| {
        if let Some(all) = config["linux"]["capabilities"].as_array_mut() {
            all.retain(|capability| *capability != *name);
        }
    }
}

fn host_file(stage: &Stage) -> Result<Value> {
    stage.engine().shell(&format!("echo there >{HOST_FILE}"))?;
    Ok(json!({"path": HOST_FILE}))
}

/// No mount, no file system, no decision about opens, no namespace but its own.
fn pgvol_without_sys_admin(stage: &Stage) -> Result<()> {
    let less = without_capability("CAP_SYS_ADMIN");
    let probe = Probe::without(stage.engine(), "pgvol", less)?;
    let volume = Volume::create(stage.engine(), "pgvol", "unmounted", &[])?;
    let run = ["run", "--rm", "--volume=unmounted:/v", "--entrypoint=true", "postgres:17"];
    let said = stage.engine().refused(&run)?;
    ensure!(said.contains("EPERM"), "a mount: {said}");
    let refused = |what: &str, arguments: Value| probe.refused(what, &arguments, "EPERM");
    refused("guard.start", json!({"data": directory(&volume)}))?;
    refused("host.bring", json!({"path": "/opt", "target": "/mnt/volumes/opt"}))?;
    let pool = pool::make(stage, &probe);
    ensure!(pool.is_err_and(|error| format!("{error:#}").contains("EPERM")), "a pool is mounted");
    probe.ask("host.read", &host_file(stage)?).map(drop)
}

/// Other users' processes are opaque, and so is the host's first one, which has more privileges.
fn pgvol_without_sys_ptrace(stage: &Stage) -> Result<()> {
    let less = without_capability("CAP_SYS_PTRACE");
    let (probe, volume, mount) = with_volume(stage, less, "opaque")?;
    let _server = Pg::start(stage.engine(), "server", &[&mount])?;
    probe.refused("host.read", &host_file(stage)?, "Permission denied")?;
    let bring = json!({"path": "/opt", "target": "/mnt/volumes/opt"});
    probe.refused("host.bring", &bring, "/proc/1/ns/mnt: Permission denied")?;
    let arguments = json!({"directory": directory(&volume), "by": "files", "millis": 1});
    probe.refused("freeze.hold", &arguments, "mount namespace: Permission denied")?;
    // The guard starts, but cannot tell who serves or who opens.
    let begun = probe.ask("guard.start", &json!({"data": directory(&volume)}))?;
    ensure!(begun["servers"] == json!([]), "servers are seen: {begun}");
    drop(Pg::start(stage.engine(), "second", &[&mount])?);
    let events = probe.ask("guard.events", &Value::Null)?;
    let denied =
        |event: &Value| event["namespace"].as_str().unwrap_or_default().starts_with("Perm");
    ensure!(events.as_array().is_some_and(|all| all.iter().all(denied)), "events: {events}");
    pool::make(stage, &probe).map(drop)
}

/// No loop device, hence no image pool; all else works.
fn pgvol_without_devices(stage: &Stage) -> Result<()> {
    let less = |config: &mut Value| config["linux"]["allowAllDevices"] = json!(false);
    let (probe, volume, mount) = with_volume(stage, less, "nodevices")?;
    let pool = pool::make(stage, &probe);
    let said = pool.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(said.contains("Operation not permitted"), "a pool: {said}");
    probe.ask("guard.start", &json!({"data": directory(&volume)}))?;
    let _server = Pg::start(stage.engine(), "server", &[&mount])?;
    let arguments = json!({"directory": directory(&volume), "by": "files", "millis": 1});
    let held = probe.ask("freeze.hold", &arguments)?;
    ensure!(held["all"] == true && held["pids"][0].is_u64(), "{held}");
    Ok(())
}

/// Nobody else is there: nothing to guard, nothing to stop, and the host's root is its own.
fn pgvol_without_pidhost(stage: &Stage) -> Result<()> {
    let less = |config: &mut Value| config["pidhost"] = json!(false);
    let (probe, volume, mount) = with_volume(stage, less, "alone")?;
    let _server = Pg::start(stage.engine(), "server", &[&mount])?;
    probe.refused("host.read", &host_file(stage)?, "No such file")?;
    let arguments = json!({"directory": directory(&volume), "by": "files", "millis": 1});
    let held = probe.ask("freeze.hold", &arguments)?;
    ensure!(held["pids"] == json!([]), "others are seen: {held}");
    probe.ask("guard.start", &json!({"data": directory(&volume)}))?;
    drop(Pg::start(stage.engine(), "second", &[&mount])?);
    let events = probe.ask("guard.events", &Value::Null)?;
    let nobody = |event: &Value| event["pid"] == 0;
    ensure!(events.as_array().is_some_and(|all| all.iter().all(nobody)), "events: {events}");
    pool::make(stage, &probe).map(drop)
}

/// Files of the host are out of reach, streams are not touched by it.
fn pglog_keeps_streams(stage: &Stage, less: impl FnOnce(&mut Value), error: &str) -> Result<()> {
    let probe = Probe::without(stage.engine(), "pglog", less)?;
    probe.refused("host.read", &host_file(stage)?, error)?;
    drop(writer(stage)?);
    Ok(())
}

/// A container whose stream is being stored.
fn writer(stage: &Stage) -> Result<Container> {
    stage.engine().shell("rm -rf /var/lib/pgvol/probe/segments")?;
    let script = "while sleep 0.05; do date; done";
    let command = ["--log-driver=pglog", "--entrypoint=sh", "postgres:17", "-c", script];
    let writer = Container::run(stage.engine(), "writer", &command)?;
    eventually(Duration::from_secs(10), || {
        stage.engine().shell("test -s /var/lib/pgvol/probe/segments/*/000000")
    })?;
    Ok(writer)
}

/// Only a loopback interface is left: no peer can be reached.
fn pglog_without_host_network(stage: &Stage) -> Result<()> {
    let interfaces = |probe: &Probe| -> Result<bool> {
        let table = probe.ask("network", &Value::Null)?;
        Ok(table.as_str().unwrap_or_default().contains("docker0:"))
    };
    let with = Probe::install(stage.engine(), "pglog")?;
    ensure!(interfaces(&with)?, "the host's interfaces are not seen");
    drop(with);
    let less = |config: &mut Value| config["network"]["type"] = json!("");
    let without = Probe::without(stage.engine(), "pglog", less)?;
    ensure!(!interfaces(&without)?, "the host's interfaces are seen");
    drop(writer(stage)?);
    Ok(())
}

/// The FIFOs are then in the plugin's root, which an upgrade replaces.
fn without_propagated_mount(stage: &Stage) -> Result<()> {
    let less = |config: &mut Value| config["propagatedMount"] = json!("");
    let probe = Probe::without(stage.engine(), "pglog", less)?;
    let writer = writer(stage)?;
    let plugins = stage.engine().path("/var/lib/docker/plugins");
    let mut fifos = 0;
    for plugin in fs::read_dir(plugins)?.flatten() {
        let directory = plugin.path().join("rootfs/run/docker/logging");
        fifos += fs::read_dir(directory).map_or(0, Iterator::count);
    }
    ensure!(fifos == 1, "{fifos} FIFOs in the plugins' roots");
    // A kill alone does not lose them.
    probe.kill()?;
    let about = probe.ask("about", &Value::Null)?;
    let again = about["reattached"][0].as_str().unwrap_or_default();
    ensure!(again.ends_with("goes on"), "after a kill: {about}");
    drop(writer);
    Ok(())
}
