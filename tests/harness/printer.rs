//! A container that prints numbered lines until it is told to end, and says how far it came.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{Container, Engine, numbered};

/// Runs [`numbered::SLOWLY`] with `options` of `docker run` and the program's own `arguments`;
/// there is room for all of its lines, however slow the machine.
pub fn run(
    engine: &Arc<Engine>,
    name: &str,
    options: &[&str],
    arguments: &[&str],
) -> Result<Container> {
    let room = ["--log-opt", "max-size=200m", "--log-opt", "max-file=5"];
    let command = ["base", "perl", "-e", numbered::SLOWLY];
    Container::run(engine, name, &[options, &room, &command, arguments].concat())
}

/// Tells it to end by SIGUSR1 and compares what it printed with what is in the log.
pub fn check_to_the_end(engine: &Engine, container: &Container) -> Result<()> {
    // Not by `docker exec`, which can hang for ever when the container ends at the same time.
    engine.docker(&["kill", "--signal", "USR1", container.name()])?;
    ensure!(container.wait(Duration::from_mins(1))? == 0, "the container failed");
    let logs = container.logs(&[])?;
    let printed = String::from_utf8(logs.stderr)?.trim().parse()?;
    numbered::check(&logs.stdout, printed)
}
