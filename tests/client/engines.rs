//! Which engine and which plugin are meant, and clear words where there is none.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, eventually};

use crate::{ends_with, json, says};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("a_plugin_that_is_not_there_or_off_is_said", absent_and_off),
        Scenario::new("a_plugin_is_found_under_any_name", alias),
        Scenario::new("an_engine_elsewhere_is_said", elsewhere),
        Scenario::new("docker_s_own_flags_and_contexts_hold", contexts),
        Scenario::new("only_root_may", not_root),
        Scenario::new("a_state_that_cannot_be_used_is_shown", unusable)
            .tolerating(&["the state cannot be used"]),
    ]
}

fn absent_and_off(stage: &Stage) -> Result<()> {
    let said = ends_with(stage, 1, "docker pglog ls")?;
    says(&said, &["docker pglog: the plugin pglog is not installed", "unix://", "install.sh"])?;
    let plugin = stage.plugin()?;
    plugin.disable()?;
    for command in ["ls", "status", "inspect x"] {
        let said = ends_with(stage, 1, &format!("docker pgvol {command}"))?;
        says(
            &said,
            &["pgvol:latest is installed, but disabled", "docker plugin enable --timeout 0 pgvol"],
        )?;
    }
    plugin.enable()?;
    ends_with(stage, 0, "docker pgvol ls").map(drop)
}

/// A second one of another name: each is found by its socket, and one has to be chosen.
fn alias(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let engine = stage.engine();
    // An engine takes the same layer only once.
    engine.shell(
        "cp -a /srv/pgvol /var/lib/other; touch /var/lib/other/rootfs/other; mkdir /var/lib/other-state
         docker plugin create team/volumes:1 /var/lib/other >/dev/null
         docker plugin set team/volumes:1 state.source=/var/lib/other-state
         docker plugin enable team/volumes:1 >/dev/null",
    )?;
    let said = ends_with(stage, 1, "docker pgvol status")?;
    says(&said, &["more than once", "--plugin pgvol:latest", "--plugin team/volumes:1"])?;
    for (name, directory) in
        [("pgvol", "/var/lib/pgvol"), ("team/volumes:1", "/var/lib/other-state/pgvol")]
    {
        let status = json(stage, &["pgvol", "status", "--plugin", name, "--json"])?;
        ensure!(status["state_directory"] == directory, "{name}: {status}");
    }
    says(&ends_with(stage, 1, "docker pgvol ls --plugin nobody")?, &["nobody"])?;
    says(&ends_with(stage, 1, "docker pglog ls --plugin pgvol")?, &["pgvol:latest is not pglog"])?;
    engine
        .shell("docker plugin rm -f team/volumes:1; rm -r /var/lib/other /var/lib/other-state")?;
    ends_with(stage, 0, "docker pgvol status").map(drop)
}

fn elsewhere(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    for (command, endpoint) in [
        ("DOCKER_HOST=tcp://192.0.2.1:2375 docker pgvol ls", "tcp://192.0.2.1:2375"),
        ("docker -H ssh://nobody@192.0.2.1 pgvol ls", "ssh://nobody@192.0.2.1"),
        ("docker --host=tcp://192.0.2.1:2375 pglog status", "tcp://192.0.2.1:2375"),
    ] {
        let said = ends_with(stage, 1, command)?;
        says(&said, &["the engine's own host", endpoint, "run it there"])?;
    }
    // A socket that leads to an engine with another view of the host.
    stage.engine().shell("mkdir /run/apart && touch /run/apart/here")?;
    let said = ends_with(
        stage,
        1,
        "unshare --mount bash -c 'mount --bind /run/apart /run/docker/plugins; docker pgvol ls'",
    )?;
    stage.engine().shell("rm -r /run/apart")?;
    says(&said, &["is not on this machine", "pgvol.sock"])
}

fn contexts(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    stage.engine().docker(&[
        "context",
        "create",
        "far",
        "--docker",
        "host=ssh://nobody@192.0.2.1",
    ])?;
    stage.engine().docker(&[
        "context",
        "create",
        "near",
        "--docker",
        "host=unix:///var/run/docker.sock",
    ])?;
    let said = ends_with(stage, 1, "docker --context far pgvol ls")?;
    says(&said, &["ssh://nobody@192.0.2.1"])?;
    says(&ends_with(stage, 1, "DOCKER_CONTEXT=far docker pgvol ls")?, &["ssh://"])?;
    ends_with(stage, 0, "docker --context near pgvol ls")?;
    ends_with(stage, 0, "docker -D -H unix:///var/run/docker.sock --log-level error pgvol ls")?;
    let said = ends_with(stage, 1, "docker --host unix:///nowhere.sock pgvol ls")?;
    says(&said, &["docker pgvol: ", "unix:///nowhere.sock"])?;
    stage.engine().docker(&["context", "rm", "far", "near"]).map(drop)
}

fn not_root(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let said =
        ends_with(stage, 1, "HOME=/tmp setpriv --reuid 65534 --clear-groups docker pgvol ls")?;
    says(&said, &["only root can reach the plugin", "sudo docker pgvol"])?;
    // One of the group docker may talk to the engine, and still not to the plugin.
    let group = "$(stat -c %g /var/run/docker.sock)";
    let command = format!("HOME=/tmp setpriv --reuid 65534 --groups {group} docker pglog status");
    says(&ends_with(stage, 1, &command)?, &["only root", "sudo docker pglog"])
}

fn unusable(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    plugin.disable()?;
    // Held by somebody else while it starts.
    let holder = stage
        .engine()
        .in_background("exec 9>>/var/lib/pgvol/lock; flock 9; echo held; exec sleep 1000")?;
    holder.next(Duration::from_secs(10))?;
    plugin.enable()?;
    let status = json(stage, &["pgvol", "status", "--json"])?;
    let error = status["error"].as_str().unwrap_or_default();
    ensure!(error.contains("another pgvol is using"), "{status}");
    says(
        &ends_with(stage, 0, "docker pgvol status")?,
        &["another pgvol is using", "POOL_SIZE=1G"],
    )?;
    says(&ends_with(stage, 1, "docker pgvol ls")?, &["another pgvol is using"])?;
    drop(holder);
    eventually(Duration::from_mins(1), || {
        let status = json(stage, &["pgvol", "status", "--json"])?;
        ensure!(status.get("error").is_none(), "{status}");
        Ok(())
    })
}
