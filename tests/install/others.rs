//! `install.sh` beside others: another run of it, a plugin of another name, another user, an environment
//! that somebody has set for themselves.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Scenario, Stage};

use crate::interrupted::with_docker;
use crate::state::{PLUGINS, POOL, create, inspect, install, installed, next_version, on_bare};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("two_runs_at_once_are_one_after_the_other", twice),
        Scenario::new("a_plugin_of_another_name_is_not_installed_beside", named),
        Scenario::new("root_is_asked_for_the_engine_that_is_meant_only", user),
        Scenario::new("what_cannot_be_is_said_at_once", unfit),
    ]
}

/// Both begin with the version before, of which one leaves nothing to be done.
fn twice(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        engine.shell("mkdir /var/lib/elsewhere")?;
        create(engine, "pgvol", &[POOL])?;
        create(engine, "pglog", &["state.source=/var/lib/elsewhere"])?;
        next_version(engine)?;
        let script = "
            for run in 1 2; do PACKAGES=/var/lib/two /opt/scripts/install.sh >&2 & runs+=($!); done
            for run in ${runs[@]}; do wait $run; done";
        // A user's own signatures and architectures concern what is fetched, not what is made here.
        let environment =
            "export DOCKER_CONTENT_TRUST=1 DOCKER_DEFAULT_PLATFORM=linux/s390x CDPATH=.:/opt";
        let outcome =
            engine.run_shell(Duration::from_mins(5), &format!("{environment}{script}"))?;
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        ensure!(outcome.success, "one failed: {said}");
        for plugin in PLUGINS {
            for done in [format!("{plugin} is upgraded\n"), format!("{plugin} is up to date\n")] {
                ensure!(said.matches(&done).count() == 1, "not once {done:?}: {said}");
            }
        }
        let source = inspect(engine, "pglog", "{{range .Config.Mounts}}{{.Source}}{{end}}")?;
        ensure!(source == "/var/lib/elsewhere", "{source}: {said}");
        engine.shell("rm -r /usr/local/lib/docker/cli-plugins").map(drop)
    })
}

/// Both would want the same state.
fn named(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pglog", &[])?;
        engine.docker(&["plugin", "create", "team/volumes:1", "/srv/pgvol"])?;
        let outcome = install(engine, "/srv", "")?;
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        ensure!(!outcome.success && said.contains("has pgvol as team/volumes:1"), "{said}");
        // With its own state it is another one.
        engine.shell("mkdir /var/lib/elsewhere")?;
        engine.docker(&["plugin", "set", "team/volumes:1", "state.source=/var/lib/elsewhere"])?;
        next_version(engine)?;
        let said = installed(engine, "/var/lib/two", "")?;
        ensure!(said.contains("pgvol is installed\n"), "{said}");
        engine.docker(&["plugin", "rm", "team/volumes:1"]).map(drop)
    })
}

/// A user who may not talk to the local engine and has another one in mind, which is not there.
fn user(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    engine.shell(
        "mkdir -p /tmp/user/bin; chmod 777 /tmp/user
        printf '#!/bin/sh\\necho \"$@\" >>/tmp/user/asked; exit 1\\n' >/tmp/user/bin/sudo
        chmod 755 /tmp/user/bin/sudo",
    )?;
    let asked = |environment: &str| {
        engine.shell("rm -f /tmp/user/asked")?;
        let script = format!(
            "env HOME=/tmp/user PATH=/tmp/user/bin:$PATH PACKAGES=/srv {environment} \\
                setpriv --reuid 65534 --regid 65534 --clear-groups /opt/scripts/install.sh"
        );
        let outcome = engine.run_shell(Duration::from_mins(1), &script)?;
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        ensure!(!outcome.success && said.contains("no engine answers"), "{said}");
        engine.shell("cat /tmp/user/asked 2>/dev/null || :")
    };
    let nothing = asked("DOCKER_HOST=tcp://127.0.0.1:9")?;
    ensure!(nothing.is_empty(), "root was asked for: {nothing}");
    let local = asked("")?;
    ensure!(local.contains("docker --host unix:///var/run/docker.sock version"), "{local}");
    engine.shell("rm -r /tmp/user").map(drop)
}

fn unfit(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let rootless =
        r#"case "$*" in *SecurityOptions*) echo "[name=seccomp name=rootless]"; exit ;; esac"#;
    let (done, said) = with_docker(engine, rootless, "", "")?;
    ensure!(!done && said.contains("the engine is a rootless one"), "{said}");
    let outcome = install(engine, "/nowhere", "")?;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    ensure!(!outcome.success && said.contains("PACKAGES=/nowhere: nothing"), "{said}");
    Ok(())
}
