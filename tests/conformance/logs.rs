//! What Docker's tests ask of a log plugin.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, RestartMode, Scenario, Stage, eventually};

use crate::rig::Rig;

const LIMIT: Duration = Duration::from_secs(20);

/// What dockerd is told by its file of settings; there is no other in the engine's root.
const DAEMON_JSON: &str = "/etc/docker/daemon.json";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let drivers = &["json-file", "pglog"];
    let mut scenarios = Scenario::for_drivers("log_of_every_start", drivers, every_start);
    let drivers = &["local", "pglog"];
    scenarios.extend(Scenario::for_drivers("read_whatever_the_cache", drivers, cache));
    scenarios.push(Scenario::new("crash_leaves_the_container_running", crash));
    scenarios.push(Scenario::new("engine_starts_with_log_options", log_options));
    scenarios.push(Scenario::new("log_plugin_is_no_builtin_driver", builtin_drivers));
    scenarios
}

fn every_start(stage: &Stage, driver: &'static str) -> Result<()> {
    let rig = Rig::new(stage)?;
    let arguments = ["--log-driver", driver, "base", "echo", "hello"];
    let container = Container::run(rig.engine(), "hello", &arguments)?;
    container.wait(LIMIT)?;
    let said = || Ok::<_, anyhow::Error>(String::from_utf8(container.logs(&[])?.stdout)?);
    ensure!(said()? == "hello\n", "{:?}", said()?);
    container.start()?;
    container.wait(LIMIT)?;
    ensure!(said()? == "hello\nhello\n", "{:?}", said()?);
    Ok(())
}

/// pglog can be read, so dockerd keeps no copy and its options say nothing.
fn cache(stage: &Stage, driver: &'static str) -> Result<()> {
    let rig = Rig::new(stage)?;
    for option in [None, Some("cache-disabled=true"), Some("cache-disabled=false")] {
        let option = option.filter(|_| driver == "pglog");
        let options = option.map(|option| ["--log-opt", option]);
        let options = options.as_ref().map_or(&[][..], |options| &options[..]);
        let command = ["--log-driver", driver, "base", "echo", "hello world"];
        let container = Container::run(rig.engine(), "cached", &[options, &command].concat())?;
        container.wait(LIMIT)?;
        let logs = container.logs(&[])?;
        ensure!(logs.stdout == b"hello world\n", "{option:?}: {:?}", logs.stdout);
        let id = container.inspect("{{.Id}}")?;
        let find = format!("find /var/lib/docker/containers/{id} -name '*cached*'");
        let copies = rig.engine().shell(&find)?;
        ensure!(copies.is_empty(), "{option:?}: dockerd keeps {copies}");
    }
    Ok(())
}

/// The container prints on, and dockerd does not find its pipe broken.
fn crash(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done";
    let arguments = ["--log-driver", "pglog", "base", "bash", "-c", script];
    let container = Container::run(rig.engine(), "prints", &arguments)?;
    let lines = || anyhow::Ok(container.logs(&[])?.stdout.split(|byte| *byte == b'\n').count());
    eventually(LIMIT, || {
        ensure!(lines()? > 2, "nothing is printed");
        Ok(())
    })?;
    let position = rig.engine().log().position()?;
    rig.pglog.kill()?;
    let before = lines()?;
    eventually(LIMIT, || {
        ensure!(lines()? > before + 20, "nothing more is printed");
        Ok(())
    })?;
    ensure!(container.inspect("{{.State.Running}}")? == "true", "the container has ended");
    let log = rig.engine().log().own_lines(position)?;
    let broken = log.iter().find(|line| line.contains("broken pipe"));
    ensure!(broken.is_none(), "dockerd complains: {broken:?}");
    Ok(())
}

/// With the plugin as the engine's own default, options and all.
fn log_options(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let engine = rig.engine();
    let settings = r#"{"log-driver": "pglog", "log-opts": {"max-size": "1m", "tag": "{{.Name}}"}}"#;
    engine.shell(&format!("mkdir -p /etc/docker && echo '{settings}' >{DAEMON_JSON}"))?;
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::Plain)?;
    let container = Container::run(engine, "plain", &["base", "echo", "hello"])?;
    container.wait(LIMIT)?;
    let driver = container.inspect("{{.HostConfig.LogConfig.Type}}")?;
    ensure!(driver == "pglog", "{driver}");
    ensure!(container.logs(&[])?.stdout == b"hello\n");
    drop(container);
    engine.shell(&format!("rm {DAEMON_JSON}"))?;
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::Plain)
}

/// `docker info` lists the drivers that dockerd brings and no managed plugin.
fn builtin_drivers(stage: &Stage) -> Result<()> {
    let rig = Rig::new(stage)?;
    let listed = rig.engine().docker(&["info", "--format", "{{json .Plugins.Log}}"])?;
    ensure!(listed.contains("json-file") && !listed.contains("pglog"), "{listed}");
    Ok(())
}
