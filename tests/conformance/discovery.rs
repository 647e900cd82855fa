//! Plugins of the old kind, which dockerd finds by files: pgvol answers as one of them too, and a
//! dead one is in nobody's way.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Engine, RestartMode, Scenario, Stage, Volume, eventually};

use crate::rig::Rig;

const LIMIT: Duration = Duration::from_secs(30);
const SPECS: &str = "/etc/docker/plugins";

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("dead_driver_blocks_nobody", dead_driver),
        Scenario::new("plugin_of_the_old_kind", old_kind),
    ]
}

fn dead_driver(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    engine.shell(&format!("mkdir -p {SPECS} && echo tcp://127.0.0.7:9999 >{SPECS}/down.spec"))?;
    let position = engine.log().position()?;
    let waiting = engine.in_background("docker volume create -d down one; echo ended")?;
    wait_for_log(&rig, position, "127.0.0.7:9999")?;
    let volumes = [
        Volume::create(engine, "local", "first", &[])?,
        Volume::create(engine, "pgvol", "second", &[])?,
    ];
    ensure!(waiting.next(Duration::ZERO).is_err(), "what should wait has ended");
    drop(waiting);
    engine.shell(&format!("rm {SPECS}/down.spec"))?;
    forget(engine)?;
    volumes.into_iter().try_for_each(Volume::remove)
}

/// dockerd forgets plugins of the old kind only with its end.
fn forget(engine: &Engine) -> Result<()> {
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::Plain)
}

fn wait_for_log(rig: &Rig<'_>, position: usize, part: &str) -> Result<()> {
    eventually(LIMIT, || {
        let log = rig.engine().log().own_lines(position)?;
        ensure!(log.iter().any(|line| line.contains(part)), "dockerd did not log {part:?}");
        Ok(())
    })
}

/// Found while a container already waits for it, by each of the three ways; asked once what it is
/// and once for its scope.
fn old_kind(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    let id = engine.docker(&["plugin", "inspect", "--format", "{{.Id}}", "pgvol"])?;
    let socket = format!("/run/docker/plugins/{id}/recorder.sock");
    // A plugin of the old kind runs on the host, where its paths are everybody's.
    engine.shell(&format!("ln -s /var/lib/docker/plugins/{id}/propagated-mount /mnt/volumes"))?;
    let recording = rig.record()?;

    let position = engine.log().position()?;
    let run = "docker run --rm -v old:/data --volume-driver spec base sh -euc \
        'echo kept >/data/file; cat /data/file' && echo done";
    let waiting = engine.in_background(run)?;
    wait_for_log(&rig, position, "locate plugin: spec")?;
    engine.shell(&format!("mkdir -p {SPECS} && echo unix://{socket} >{SPECS}/spec.spec"))?;
    let said = waiting.rest(LIMIT)?;
    ensure!(said == ["kept", "done"], "{said:?}");
    engine.docker(&["volume", "rm", "old"])?;
    recording.expect(&[("Create", 1), ("Remove", 1), ("Mount", 1), ("Unmount", 1)])?;
    let asked = |name: &str| recording.calls(name).map(|calls| calls.len());
    ensure!(asked("Plugin.Activate")? == 1, "activated {} times", asked("Plugin.Activate")?);
    for name in ["one", "two", "three"] {
        let volume = Volume::create(engine, "spec", name, &[])?;
        ensure!(volume.inspect()?["Scope"] == "local");
        volume.remove()?;
    }
    let scopes = asked("VolumeDriver.Capabilities")?;
    ensure!(scopes == 1, "asked for its scope {scopes} times");
    // It is no log driver, and says so.
    let said = engine.refused(&["run", "--rm", "--log-driver", "spec", "base", "true"])?;
    ensure!(said.contains("spec"), "{said}");

    let json = format!(r#"{{"Name": "json", "Addr": "unix://{socket}"}}"#);
    engine.shell(&format!("echo '{json}' >{SPECS}/json.json"))?;
    engine.shell(&format!("ln {socket} /run/docker/plugins/sock.sock"))?;
    let activations = asked("Plugin.Activate")?;
    for driver in ["json", "sock"] {
        Volume::create(engine, driver, "found", &[])?.remove()?;
    }
    let activations = asked("Plugin.Activate")? - activations;
    ensure!(activations == 2, "two plugins are activated {activations} times");
    let files = format!("{SPECS}/*.spec {SPECS}/*.json /run/docker/plugins/sock.sock /mnt/volumes");
    engine.shell(&format!("rm {files}"))?;
    forget(engine)
}
