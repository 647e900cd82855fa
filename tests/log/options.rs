//! Options: Docker's own are taken, everything else is refused by name when a container starts.

use anyhow::{Result, ensure};
use harness::{Container, Scenario, Stage};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("options_of_docker_are_taken", taken),
        Scenario::new("unknown_options_are_refused", unknown).tolerating(REFUSED),
        Scenario::new("malformed_options_are_refused", malformed).tolerating(REFUSED),
        Scenario::new("options_not_yet_built_are_refused", not_yet_built).tolerating(REFUSED),
    ]
}

/// A refusal may be logged as a warning.
const REFUSED: &[&str] = &["LogDriver.StartLogging"];

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
    refused(stage, "max-sise=1m", &["max-sise", "max-size"])?;
    refused(stage, "gelf-address=udp://x", &["gelf-address", "max-size"])
}

fn malformed(stage: &Stage) -> Result<()> {
    refused(stage, "max-size=many", &["max-size", "many"])?;
    refused(stage, "max-size=-1", &["max-size", "-1"])?;
    refused(stage, "max-file=0", &["max-file", "0"])?;
    refused(stage, "max-file=some", &["max-file", "some"])?;
    refused(stage, "labels-regex=(", &["labels-regex", "("])
}

fn not_yet_built(stage: &Stage) -> Result<()> {
    for option in [
        "compress=true",
        "max-age=1h",
        "sync=always",
        "sinks=file",
        "file-path=x",
        "syslog-address=udp://127.0.0.1:514",
        "fluentd-address=127.0.0.1:24224",
        "postgres=on",
        "log-line-prefix=%m",
        "redact=strict",
        "route=audit -> syslog",
    ] {
        let key = option.split('=').next().unwrap_or(option);
        refused(stage, option, &[key, "not built yet"])?;
    }
    Ok(())
}

/// Starts a container with `option`, which must fail with a message that has all `parts`.
fn refused(stage: &Stage, option: &str, parts: &[&str]) -> Result<()> {
    let driver = stage.driver("pglog")?;
    let arguments =
        ["run", "--rm", "--log-driver", driver, "--log-opt", option, "base", "echo", "a"];
    let message = stage.engine().refused(&arguments)?;
    for part in parts {
        ensure!(message.contains(part), "{option}: no {part:?} in {message:?}");
    }
    Ok(())
}
