//! Scenarios of the client plugins: `docker pgvol` and `docker pglog` through the real docker command.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use harness::{Engine, Stage, Suite};
use serde_json::Value;

mod completion;
mod engines;
mod hostile;
mod logs;
mod usage;
mod volumes;

const SMOKE: &[&str] = &[
    "docker_lists_both",
    "help_is_shown",
    "a_plugin_that_is_not_there_or_off_is_said",
    "docker_s_own_flags_and_contexts_hold",
    "a_volume_is_inspected",
    "logs_are_listed_those_of_removed_containers_too",
    "a_shell_is_offered_commands_volumes_and_flags",
];

const SUITE: Suite = Suite { plugin: "pgvol", settings: &["POOL_SIZE=1G"], images, smoke: SMOKE };

/// As root of a host would install them.
const INSTALL: &str = "install -D -t /usr/local/lib/docker/cli-plugins /srv/cli-plugins/*";

fn images(engine: &Engine) -> Result<()> {
    engine.shell(INSTALL).context("package the client plugins: run scripts/package.sh")?;
    engine.add_base_image()
}

fn main() -> ExitCode {
    let scenarios = [
        usage::scenarios(),
        engines::scenarios(),
        volumes::scenarios(),
        logs::scenarios(),
        completion::scenarios(),
        hostile::scenarios(),
    ];
    harness::run(&SUITE, scenarios.into_iter().flatten().collect())
}

/// What `docker ARGUMENTS` prints as JSON.
fn json(stage: &Stage, arguments: &[&str]) -> Result<Value> {
    let text = stage.engine().docker(arguments)?;
    serde_json::from_str(&text).with_context(|| format!("docker {}: {text}", arguments.join(" ")))
}

/// Runs `command` in a shell of the engine's host, which must end with `status`; gives what it said.
fn ends_with(stage: &Stage, status: u8, command: &str) -> Result<String> {
    let said = stage
        .engine()
        .shell(&format!("{{ {command}; }} 2>&1 && s=0 || s=$?; echo \"status $s\""))?;
    let expected = format!("status {status}");
    ensure!(said.lines().last() == Some(&expected), "`{command}`, not {expected}: {said}");
    Ok(said)
}

/// That `said` has all of `parts`.
fn says(said: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(said.contains(part), "no `{part}` in: {said}");
    }
    Ok(())
}
