//! `install.sh` on another machine than the engine's: another host name, another loopback.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Engine, LineStream, RestartMode, Scenario, Stage};

use crate::registry::{REGISTRY, serve};
use crate::state::{check_lines, inspect, next_version, on_bare, printer};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("an_engine_on_another_machine", elsewhere)]
}

/// A machine of a network interface and a name; it ends when this is dropped.
const MACHINE: &str = "
    ip link add engine type veth peer name elsewhere
    ip address add 10.99.0.1/24 dev engine
    ip link set engine up
    unshare --net --uts bash -c 'hostname elsewhere; echo $$ >/tmp/elsewhere; exec sleep infinity' &
    until [ -s /tmp/elsewhere ]; do sleep 0.1; done
    pid=$(cat /tmp/elsewhere)
    ip link set elsewhere netns $pid
    nsenter --target $pid --net ip address add 10.99.0.2/24 dev elsewhere
    nsenter --target $pid --net ip link set elsewhere up
    nsenter --target $pid --net ip link set lo up
    echo ready
    wait";

fn machine(engine: &Engine) -> Result<LineStream> {
    let machine = engine.in_background(MACHINE)?;
    machine.next(Duration::from_secs(20))?;
    Ok(machine)
}

/// Restarts the engine so that it listens where `hosts` says.
fn listen(engine: &Engine, hosts: &str) -> Result<()> {
    engine.stop_daemon()?;
    engine.shell(&format!("mkdir -p /etc/docker; echo '{{{hosts}}}' >/etc/docker/daemon.json"))?;
    engine.start_daemon(RestartMode::Plain)
}

/// `install.sh` there; its success and what it says.
fn install(engine: &Engine, packages: &str, rest: &str) -> Result<(bool, String)> {
    let script = format!(
        "nsenter --target $(cat /tmp/elsewhere) --net --uts \\
            env DOCKER_HOST=tcp://10.99.0.1:2375 PACKAGES={packages} {rest}"
    );
    let outcome = engine.run_shell(Duration::from_mins(5), &script)?;
    Ok((outcome.success, String::from_utf8_lossy(&outcome.stderr).into_owned()))
}

fn elsewhere(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        let machine = machine(engine)?;
        listen(engine, r#""hosts": ["unix:///var/run/docker.sock", "tcp://10.99.0.1:2375"]"#)?;
        let script = "/opt/scripts/install.sh";
        let (done, said) = install(engine, "/srv", script)?;
        ensure!(done && said.contains("the engine is on another machine"), "{said}");
        ensure!(said.contains("pglog is installed\n"), "{said}");
        let clients = engine.shell("ls /usr/local/lib/docker/cli-plugins 2>/dev/null || :")?;
        ensure!(clients.is_empty(), "client plugins beside no engine: {clients}");

        let printer = printer(engine)?;
        let id = inspect(engine, "pglog", "{{.Id}}")?;
        next_version(engine)?;
        // pgvol has no users yet, and is replaced.
        let (done, said) = install(engine, "/var/lib/two", script)?;
        ensure!(!done && said.contains("the engine cannot push to 127.0.0.1:"), "{said}");
        ensure!(said.contains("  printer\n") && said.contains("--restart-containers"), "{said}");
        // With a registry that the engine reaches it is as at home.
        let registry = serve(engine)?;
        let with_registry = format!("REGISTRY={REGISTRY} {script}");
        let (done, said) = install(engine, "/var/lib/two", &with_registry)?;
        ensure!(done && said.contains("pglog is upgraded\n"), "{said}");
        ensure!(inspect(engine, "pglog", "{{.Id}}")? == id, "another id");
        drop(registry);
        check_lines(engine, &printer)?;
        drop(printer);
        listen(engine, "")?;
        drop(machine);
        engine.shell("rm /tmp/elsewhere /etc/docker/daemon.json").map(drop)
    })
}
