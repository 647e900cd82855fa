//! Options: Docker's own are taken, everything else is refused by name when a container starts.

use anyhow::{Result, ensure};
use harness::{Container, Scenario, Stage};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut scenarios =
        Scenario::for_drivers("malformed_options_are_refused", &["json-file", "pglog"], malformed);
    scenarios.extend([
        Scenario::new("options_of_docker_are_taken", taken),
        Scenario::new("unknown_options_are_refused", unknown),
        Scenario::new("options_not_yet_built_are_refused", not_yet_built),
    ]);
    // A refusal may be logged as a warning.
    scenarios.into_iter().map(|scenario| scenario.tolerating(&["LogDriver.StartLogging"])).collect()
}

fn taken(stage: &Stage) -> Result<()> {
    let options = [
        "max-size=1m",
        "max-file=3",
        "mode=non-blocking",
        "max-buffer-size=2m",
        "cache-disabled=true",
        "tag={{.Name}}",
        "labels=team",
        "labels-regex=^t",
        "env=PATH",
        "env-regex=^P",
        "compress=false",
    ];
    let mut arguments = vec!["--log-driver", stage.driver("pglog")?];
    for option in options {
        arguments.extend(["--log-opt", option]);
    }
    let container = Container::run(
        stage.engine(),
        "taken",
        &[&arguments[..], &["base", "echo", "a"]].concat(),
    )?;
    container.wait(std::time::Duration::from_secs(10))?;
    let logs = container.logs(&[])?;
    ensure!(logs.stdout == b"a\n", "{:?}", logs.stdout);
    Ok(())
}

fn unknown(stage: &Stage) -> Result<()> {
    // What is allowed is named, so that a slip can be put right.
    refused(stage, "pglog", "max-sise=1m", &["max-sise", "max-size"])?;
    refused(stage, "pglog", "gelf-address=udp://x", &["gelf-address", "max-size"])
}

/// What Docker's own driver refuses as well, if not always by the key and the value.
fn malformed(stage: &Stage, driver: &'static str) -> Result<()> {
    for option in [
        "max-size=many",
        "max-size=1x",
        "max-size=0",
        "max-size=-1",
        "max-file=0",
        "max-file=some",
        "compress=perhaps",
        "labels-regex=(",
        "env-regex=[",
        "tag={{.Name",
        "tag={{.Nickname}}",
    ] {
        let (key, value) = option.split_once('=').unwrap_or_default();
        let parts = [key, value];
        refused(stage, driver, option, if driver == "pglog" { &parts } else { &[] })?;
    }
    Ok(())
}

fn not_yet_built(stage: &Stage) -> Result<()> {
    for option in ["postgres=on", "log-line-prefix=%m", "redact=strict", "route=audit -> syslog"] {
        let key = option.split('=').next().unwrap_or(option);
        refused(stage, "pglog", option, &[key, "not built yet"])?;
    }
    Ok(())
}

/// Starts a container with `option`, which must fail with a message that has all `parts`.
fn refused(stage: &Stage, driver: &'static str, option: &str, parts: &[&str]) -> Result<()> {
    stage.driver(driver)?;
    // Docker 28 looks at env-regex only where a container has an environment.
    let options = ["--env", "TEAM=blue", "--log-driver", driver, "--log-opt", option];
    let arguments = [&["run", "--rm"], &options[..], &["base", "echo", "a"]].concat();
    let message = stage.engine().refused(&arguments)?;
    for part in parts {
        ensure!(message.contains(part), "{option}: no {part:?} in {message:?}");
    }
    Ok(())
}
