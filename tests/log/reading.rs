//! `docker logs` with its options, while a container runs and after it has ended.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Scenario, Stage, eventually, numbered};

const DRIVERS: &[&str] = &["json-file", "pglog"];
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn scenarios() -> Vec<Scenario> {
    [
        Scenario::for_drivers("tail", DRIVERS, tail),
        Scenario::for_drivers("timestamps", DRIVERS, timestamps),
        Scenario::for_drivers("since_and_until", DRIVERS, since_and_until),
        Scenario::for_drivers("follow", DRIVERS, follow),
        Scenario::for_drivers("follow_from_a_tail", DRIVERS, follow_from_a_tail),
        Scenario::for_drivers("several_runs_of_a_container", DRIVERS, several_runs),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn run(stage: &Stage, driver: &'static str, script: &str) -> Result<Container> {
    let arguments = ["--log-driver", driver, "base", "bash", "-euc", script];
    Container::run(stage.engine(), "reading", &arguments)
}

fn text(container: &Container, options: &[&str]) -> Result<String> {
    Ok(String::from_utf8(container.logs(options)?.stdout)?)
}

/// Waits until the log contains `line`.
fn wait_for(container: &Container, line: &str) -> Result<()> {
    eventually(LIMIT, || {
        ensure!(text(container, &[])?.lines().any(|found| found == line), "no line {line}");
        Ok(())
    })
}

fn tail(stage: &Stage, driver: &'static str) -> Result<()> {
    let container = run(stage, driver, "seq 1000; sleep 1000")?;
    wait_for(&container, "1000")?;
    let check = |state: &str| {
        for (count, first) in [("1", 1000), ("10", 991), ("1000", 1), ("5000", 1), ("all", 1)] {
            let expected = numbered::lines("", first..=1000);
            let found = text(&container, &["--tail", count])?;
            ensure!(found == expected, "{state}, tail {count}: {found:?}");
        }
        let none = text(&container, &["--tail", "0"])?;
        ensure!(none.is_empty(), "{state}, tail 0: {none:?}");
        Ok(())
    };
    check("running")?;
    container.stop(LIMIT)?;
    check("stopped")
}

fn timestamps(stage: &Stage, driver: &'static str) -> Result<()> {
    let container = run(stage, driver, "echo a; sleep 0.2; echo b")?;
    container.wait(LIMIT)?;
    let found = text(&container, &["--timestamps"])?;
    let stamps: Vec<&str> = found
        .lines()
        .zip(["a", "b"])
        .map(|(line, word)| line.strip_suffix(&format!(" {word}")).context("no stamp and word"))
        .collect::<Result<_>>()?;
    ensure!(stamps.len() == 2 && stamps[0] < stamps[1], "{found:?}");
    ensure!(stamps.iter().all(|stamp| stamp.len() == "2026-01-02T03:04:05.000000000Z".len()));
    Ok(())
}

fn since_and_until(stage: &Stage, driver: &'static str) -> Result<()> {
    let container = run(stage, driver, "for n in $(seq 10); do echo $n; sleep 0.1; done")?;
    container.wait(LIMIT)?;
    let stamped = text(&container, &["--timestamps"])?;
    let stamp = |number: usize| {
        let line = stamped.lines().nth(number - 1).context("ten lines")?;
        line.split(' ').next().context("a stamp")
    };
    let (fourth, seventh) = (stamp(4)?, stamp(7)?);
    for (options, expected) in [
        (vec!["--since", fourth], 4..=10),
        (vec!["--until", seventh], 1..=7),
        (vec!["--since", fourth, "--until", seventh], 4..=7),
        (vec!["--since", fourth, "--tail", "2"], 9..=10),
        (vec!["--since", "1h"], 1..=10),
    ] {
        let expected = numbered::lines("", expected);
        let found = text(&container, &options)?;
        ensure!(found == expected, "{options:?}: {found:?} instead of {expected:?}");
    }
    // Far ahead of everything, in both notations.
    for since in ["2100-01-01T00:00:00Z", "4102444800"] {
        let none = text(&container, &["--since", since])?;
        ensure!(none.is_empty(), "since {since}: {none:?}");
    }
    Ok(())
}

/// A follower gets what was there, what comes, and ends with the container.
fn follow(stage: &Stage, driver: &'static str) -> Result<()> {
    let container = run(stage, driver, "echo first; mkfifo /tmp/go; read line </tmp/go; seq 5000")?;
    let follower = stage.engine().stream(&["logs", "--follow", container.name()])?;
    ensure!(follower.next(LIMIT)? == "first", "the follower does not begin with the beginning");
    release(&container)?;
    let lines = follower.rest(LIMIT)?;
    ensure!(lines.iter().eq((1..=5000).map(|n| n.to_string()).collect::<Vec<_>>().iter()));
    ensure!(container.wait(LIMIT)? == 0, "the script failed");
    // On a stopped container there is nothing to follow.
    let again = stage.engine().stream(&["logs", "--follow", container.name()])?.rest(LIMIT)?;
    ensure!(again.len() == 5001, "{} lines after the end", again.len());
    Ok(())
}

fn follow_from_a_tail(stage: &Stage, driver: &'static str) -> Result<()> {
    let container = run(stage, driver, "seq 100; mkfifo /tmp/go; read line </tmp/go; seq 101 200")?;
    wait_for(&container, "100")?;
    let options = ["logs", "--follow", "--tail", "3", container.name()];
    let follower = stage.engine().stream(&options)?;
    for expected in ["98", "99", "100"] {
        let found = follower.next(LIMIT)?;
        ensure!(found == expected, "{found} instead of {expected}");
    }
    release(&container)?;
    let lines = follower.rest(LIMIT)?;
    ensure!(lines.first().is_some_and(|line| line == "101"), "there is a gap: {:?}", lines.first());
    ensure!(lines.len() == 100, "{} lines instead of 100", lines.len());
    Ok(())
}

/// Lets a script that waits at `mkfifo /tmp/go; read line </tmp/go` go on.
fn release(container: &Container) -> Result<()> {
    container.shell("echo >/tmp/go").map(drop)
}

fn several_runs(stage: &Stage, driver: &'static str) -> Result<()> {
    let container = run(stage, driver, "echo run; echo end")?;
    container.wait(LIMIT)?;
    for _ in 0..3 {
        container.start()?;
        container.wait(LIMIT)?;
    }
    let found = text(&container, &[])?;
    ensure!(found == "run\nend\n".repeat(4), "{found:?}");
    let last = text(&container, &["--tail", "3"])?;
    ensure!(last == "end\nrun\nend\n", "{last:?}");
    Ok(())
}
