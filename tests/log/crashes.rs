//! The plugin dies at any instant: no line is lost or doubled, and containers can be stopped.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, RestartMode, Scenario, Stage, eventually, numbered, printer};

const KILLS: usize = 10;
const ENDLESS: &str = "1000000000";
/// A container that does not heed SIGTERM gets 2 s; a plugin needs about 1 s to come back.
const STOP_LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut scenarios = vec![
        Scenario::new("killed_ten_times_during_lines", killed_during_lines),
        Scenario::new("killed_while_followed", killed_while_followed),
        Scenario::new("stop_while_the_plugin_restarts", stop_while_restarting),
        Scenario::new("remove_while_the_plugin_restarts", remove_while_restarting),
        Scenario::new("live_restore_keeps_every_line", live_restore),
    ];
    scenarios.extend(Scenario::for_drivers(
        "engine_killed",
        &["json-file", "pglog"],
        engine_killed,
    ));
    scenarios
}

fn printing(stage: &Stage, driver: &'static str, name: &str, lines: &str) -> Result<Container> {
    printer::run(stage.engine(), name, &["--log-driver", driver], &[lines])
}

fn killed_during_lines(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let container = printing(stage, "pglog", "crashes", ENDLESS)?;
    for _ in 0..KILLS {
        plugin.kill()?;
    }
    printer::check_to_the_end(stage.engine(), &container)
}

/// The connection of a follower dies with the plugin; that one sees a gapless beginning, and the
/// next one everything.
fn killed_while_followed(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let container = printing(stage, "pglog", "followed", "200000")?;
    let follower = stage.engine().stream(&["logs", "--follow", container.name()])?;
    ensure!(follower.next(STOP_LIMIT)? == "1", "the follower does not begin with the beginning");
    plugin.kill()?;
    let cut = follower.rest(STOP_LIMIT)?;
    let numbers = (2_usize..).map(|number| number.to_string());
    // The last line may be cut where the connection was.
    let gap = cut.iter().rev().skip(1).rev().zip(numbers).find(|(line, number)| *line != number);
    ensure!(gap.is_none(), "a gap in what was followed: {gap:?}");
    let second = stage.engine().stream(&["logs", "--follow", container.name()])?;
    let lines = second.rest(Duration::from_mins(1))?;
    numbered::check(format!("{}\n", lines.join("\n")).as_bytes(), 200_000)
}

fn stop_while_restarting(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    for round in 0..3 {
        let container = printing(stage, "pglog", &format!("stop{round}"), ENDLESS)?;
        thread::sleep(Duration::from_millis(300));
        plugin.kill_only()?;
        container.stop(STOP_LIMIT)?;
        numbered::range(&container.logs(&[])?.stdout)?;
        let status = container.inspect("{{.State.Status}}")?;
        ensure!(status == "exited", "the container is {status}");
    }
    Ok(())
}

fn remove_while_restarting(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    for round in 0..3 {
        let container = printing(stage, "pglog", &format!("remove{round}"), ENDLESS)?;
        thread::sleep(Duration::from_millis(300));
        plugin.kill_only()?;
        container.remove(STOP_LIMIT)?;
    }
    // Nothing of them is held: the plugin can be disabled without force, which counts streams.
    eventually(STOP_LIMIT, || stage.engine().docker(&["plugin", "disable", "pglog"]))?;
    plugin.enable()
}

/// All that could be read before is there. What dockerd had read and not passed on is lost with any
/// driver: the one that is started again may find the container still printing, before it ends it.
fn engine_killed(stage: &Stage, driver: &'static str) -> Result<()> {
    let engine = stage.engine();
    let container = printing(stage, driver, "killed", ENDLESS)?;
    let (_, seen) = eventually(STOP_LIMIT, || numbered::range(&container.logs(&[])?.stdout))?;
    engine.kill_daemon()?;
    engine.start_daemon(RestartMode::Plain)?;
    let kept = container.logs(&[])?.stdout;
    let before = numbered::lines("", 1..=seen);
    ensure!(kept.starts_with(before.as_bytes()), "not all of the first {seen} lines are there");
    let runs = numbered::runs(&kept)?;
    ensure!(runs.len() == 1 && runs[0].gaps <= 1, "{seen} lines were there, now {runs:?}");
    container.start()?;
    container.stop(STOP_LIMIT)
}

/// With live restore the container prints on without dockerd, then into another FIFO. It holds its
/// breath while dockerd is killed: what dockerd has read and not passed on is lost with any driver.
fn live_restore(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    stage.driver("pglog")?;
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::LiveRestore)?;
    stage.plugin()?.wait_listening()?;
    let container = printing(stage, "pglog", "live", ENDLESS)?;
    let pid = engine.docker(&["inspect", "--format={{.State.Pid}}", container.name()])?;
    engine.shell(&format!("kill -STOP {pid}"))?;
    let length = || Ok::<_, anyhow::Error>(container.logs(&[])?.stdout.len());
    eventually(STOP_LIMIT, || {
        let before = length()?;
        thread::sleep(Duration::from_secs(1));
        let now = length()?;
        ensure!(now == before, "{now} bytes after {before}, although nothing is printed");
        Ok(())
    })?;
    engine.kill_daemon()?;
    engine.shell(&format!("kill -CONT {pid}"))?;
    engine.start_daemon(RestartMode::LiveRestore)?;
    printer::check_to_the_end(stage.engine(), &container)?;
    drop(container);
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::Plain)
}
