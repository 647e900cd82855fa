//! What is kept: the newest lines, within `max-size` times `max-file`.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Scenario, Stage, numbered};

pub(crate) fn scenarios() -> Vec<Scenario> {
    Scenario::for_drivers("retention", &["json-file", "pglog"], retention)
}

fn retention(stage: &Stage, driver: &'static str) -> Result<()> {
    const KEPT: u64 = 3 << 20;
    let options = ["--log-driver", driver, "--log-opt", "max-size=1m", "--log-opt", "max-file=3"];
    let command = ["base", "seq", "600000"];
    let container = Container::run(stage.engine(), "kept", &[&options[..], &command].concat())?;
    ensure!(container.wait(Duration::from_mins(1))? == 0, "seq failed");
    let (first, last) = numbered::range(&container.logs(&[])?.stdout)?;
    ensure!(last == 600_000, "the newest lines are gone: the last one is {last}");
    ensure!(first > 1, "nothing was dropped");
    // A frame or a JSON object has some 50 bytes around a number.
    ensure!(last - first > 20_000, "only {} lines are kept", last - first);
    if driver == "pglog" {
        let id = container.inspect("{{.Id}}")?;
        let used = stage
            .engine()
            .shell(&format!("du --bytes --summarize /var/lib/pglog/journals/{id} | cut -f1"))?;
        let used: u64 = used.parse()?;
        ensure!(used > 0 && used <= KEPT, "{used} bytes are kept, at most {KEPT} are allowed");
    }
    Ok(())
}
