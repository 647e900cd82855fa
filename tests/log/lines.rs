//! What containers print arrives once, in order, byte for byte.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Scenario, Stage};

const DRIVERS: &[&str] = &["json-file", "pglog"];

pub(crate) fn scenarios() -> Vec<Scenario> {
    [Scenario::for_drivers("a_million_lines", DRIVERS, a_million_lines)]
        .into_iter()
        .flatten()
        .collect()
}

fn a_million_lines(stage: &Stage, driver: &'static str) -> Result<()> {
    let container = Container::run(
        stage.engine(),
        "million",
        &["--log-driver", driver, "base", "seq", "1000000"],
    )?;
    ensure!(container.wait(Duration::from_mins(2))? == 0, "seq failed");
    check_numbered(&container.logs(&[])?, 1_000_000)
}

/// Fails unless `bytes` are the lines 1 to `count`.
fn check_numbered(bytes: &[u8], count: usize) -> Result<()> {
    let text = std::str::from_utf8(bytes).context("numbers")?;
    let mut lines = 0;
    for (line, number) in text.lines().zip(1_usize..) {
        ensure!(line == number.to_string(), "line {number} is {line:?}");
        lines = number;
    }
    ensure!(lines == count, "{lines} lines instead of {count}");
    Ok(())
}
