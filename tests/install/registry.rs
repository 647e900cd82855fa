//! Push to a registry, and install from it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Engine, LineStream, Scenario, Stage, Volume, eventually};

use crate::state::{PLUGINS, POOL, inspect, on_bare};

/// Where the prompt is shown as it is.
const README: &str = include_str!("../../README.md");

pub(crate) const REGISTRY: &str = "127.0.0.1:5000";

/// For each architecture its own, since Docker chooses none by itself.
const OWN_TAG: &str = "latest-amd64";

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("installed_from_a_registry", installed)]
}

/// A registry on the engine's loopback, until it is dropped.
pub(crate) fn serve(engine: &Engine) -> Result<LineStream> {
    engine.shell(&format!(
        "mkdir -p /tmp/registry && cat >/tmp/registry.yml <<YAML
version: 0.1
storage: {{filesystem: {{rootdirectory: /tmp/registry}}}}
http: {{addr: \"{REGISTRY}\"}}
YAML"
    ))?;
    let registry = engine.in_background("exec docker-registry serve /tmp/registry.yml")?;
    eventually(Duration::from_secs(20), || engine.shell("exec 3<>/dev/tcp/127.0.0.1/5000"))?;
    Ok(registry)
}

/// Both plugins, into the registry.
fn push(engine: &Engine) -> Result<()> {
    for plugin in PLUGINS {
        for tag in ["latest", OWN_TAG] {
            let reference = format!("{REGISTRY}/{plugin}:{tag}");
            engine.docker(&["plugin", "create", &reference, &format!("/srv/{plugin}")])?;
            engine.docker(&["plugin", "push", &reference])?;
            engine.docker(&["plugin", "rm", &reference])?;
        }
    }
    // One that is of another architecture stands beside it and is nobody else's.
    let other = format!("{REGISTRY}/pgvol:latest-arm64");
    engine.shell(&format!(
        "mkdir -p /var/lib/other/rootfs; cp /srv/pgvol/config.json /var/lib/other
        docker plugin create {other} /var/lib/other >/dev/null
        docker plugin push {other}; docker plugin rm {other}; rm -r /var/lib/other"
    ))?;
    Ok(())
}

/// No directory is made on the host before; and whoever does not grant has nothing afterwards.
fn installed(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        let registry = serve(engine)?;
        push(engine)?;
        refused(engine)?;
        for (plugin, settings) in [("pgvol", &[POOL][..]), ("pglog", &[])] {
            let reference = format!("{REGISTRY}/{plugin}:{OWN_TAG}");
            let install = ["plugin", "install", "--grant-all-permissions", "--alias", plugin];
            engine.docker(&[&install[..], &[&reference], settings].concat())?;
            ensure!(inspect(engine, plugin, "{{.Enabled}}")? == "true", "{plugin} is off");
        }
        // What is installed does not need the registry any more.
        drop(registry);
        works(engine)
    })
}

fn refused(engine: &Engine) -> Result<()> {
    for plugin in PLUGINS {
        let said = engine.shell(&format!(
            "! echo n | docker plugin install --alias {plugin} {REGISTRY}/{plugin} 2>&1"
        ))?;
        let asked: Vec<&str> = said.lines().filter(|line| line.starts_with(" - ")).collect();
        let heading = format!("Plugin \"REGISTRY/{plugin}\" is requesting");
        let shown = README.lines().skip_while(|line| !line.starts_with(&heading)).skip(1);
        let shown: Vec<&str> = shown.take_while(|line| line.starts_with(" - ")).collect();
        ensure!(!asked.is_empty() && asked == shown, "README shows {shown:?} instead of:\n{said}");
    }
    let plugins = engine.docker(&["plugin", "ls", "--quiet"])?;
    let state = engine.shell("ls -d /var/lib/pgvol /var/lib/pglog 2>/dev/null || :")?;
    ensure!(plugins.is_empty() && state.is_empty(), "left: {plugins} {state}");
    Ok(())
}

fn works(engine: &Arc<Engine>) -> Result<()> {
    let volume = Volume::create(engine, "pgvol", "installed", &[])?;
    let options = ["--volume=installed:/pg", "--log-driver=pglog", "base"];
    let command = ["sh", "-c", "echo kept >/pg/data/file && cat /pg/data/file"];
    let container = Container::run(engine, "installed", &[&options[..], &command].concat())?;
    ensure!(container.wait(Duration::from_secs(20))? == 0, "the container failed");
    let logs = container.logs(&[])?;
    ensure!(logs.stdout == b"kept\n", "{:?}", String::from_utf8_lossy(&logs.stdout));
    container.remove(Duration::from_secs(20))?;
    volume.remove()
}
