//! Paths of the host that no mount of the plugin leads to.

use anyhow::{Result, ensure};
use harness::{Scenario, Stage};
use serde_json::json;

use crate::probe::Probe;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("host::files_for_pgvol", |stage| files(stage, "pgvol")),
        Scenario::new("host::files_for_pglog", |stage| files(stage, "pglog")),
        Scenario::new("host::directory_becomes_a_mount", directory_becomes_a_mount),
    ]
}

/// Read and written through `/proc/1/root`.
fn files(stage: &Stage, name: &'static str) -> Result<()> {
    let probe = Probe::install(stage.engine(), name)?;
    stage.engine().shell("mkdir -p -m 700 /opt/host && echo by-host >/opt/host/read")?;
    let read = probe.ask("host.read", &json!({"path": "/opt/host/read"}))?;
    ensure!(read == "by-host\n", "read {read}");
    probe.ask("host.write", &json!({"path": "/opt/host/written", "text": name}))?;
    let written = stage.engine().shell("cat /opt/host/written && rm -r /opt/host")?;
    ensure!(written == name, "written: {written:?}");
    Ok(())
}

/// By way of the host's mount namespace; through /proc the kernel refuses.
fn directory_becomes_a_mount(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let probe = Probe::install(engine, "pgvol")?;
    // A mount of its own below, to see that it comes along and that nothing goes back.
    engine.shell("mkdir -p /opt/host/disk && mount -t tmpfs disk /opt/host/disk")?;
    engine.shell("echo on-disk >/opt/host/disk/file")?;

    probe.refused("host.clone", &json!({"path": "/opt/host"}), "EINVAL")?;
    let target = "/mnt/volumes/brought";
    probe.ask("host.bring", &json!({"path": "/opt/host", "target": target}))?;
    let seen = engine.shell("cat /var/lib/docker/plugins/*/propagated-mount/brought/disk/file")?;
    ensure!(seen == "on-disk", "the engine sees {seen:?}");
    let inside = "/mnt/volumes/brought/disk";
    probe.ask("host.bring", &json!({"path": "/usr", "target": inside}))?;
    let back = engine.shell("cat /opt/host/disk/file")?;
    ensure!(back == "on-disk", "a mount of the plugin's reached the host: {back:?}");

    drop(probe);
    let left = engine.mounts("/brought")?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    engine.shell("umount /opt/host/disk && rm -r /opt/host").map(drop)
}
