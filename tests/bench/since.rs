//! How long `docker logs --since` takes near the end of a big log, with pglog and with `json-file`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Container, Engine};

use crate::lines::{BLOCK, SHARED, prepare};
use crate::ratio::Ratios;
use crate::{Side, interleave, note};

const LIMIT: Duration = Duration::from_mins(30);

/// What one line takes in the log's own count of its size.
const LINE: u32 = 100;

/// Gives milliseconds, of logs of so many `megabytes` of lines.
pub(crate) fn compare(engine: &Arc<Engine>, megabytes: u32, pairs: usize) -> Result<Ratios> {
    prepare(engine)?;
    let ours = Log::write(engine, Side::Ours, megabytes)?;
    let reference = Log::write(engine, Side::Reference, megabytes)?;
    let samples = interleave(pairs, |side| {
        let log = if side == Side::Ours { &ours } else { &reference };
        let took = log.read()?;
        note(&format!("{side:?}: {took:.1} ms"))?;
        Ok(took)
    })?;
    Ok(Ratios::new(samples))
}

/// The log of a container that has ended.
struct Log {
    container: Container,
    /// After nearly all of it.
    since: String,
}

impl Log {
    fn write(engine: &Arc<Engine>, side: Side, megabytes: u32) -> Result<Self> {
        let blocks = (megabytes * 1_000_000 / LINE / BLOCK).max(1);
        let (driver, name, limits): (_, _, &[_]) = match side {
            Side::Ours => ("pglog", "since-ours", &["--log-opt=max-size=1g"]),
            Side::Reference => ("json-file", "since-reference", &[]),
        };
        let script = format!(
            "i=0; while [ $i -lt {blocks} ]; do cat {SHARED}/block; i=$((i+1)); done; \
             sleep 1; date +%s.%N >{SHARED}/since; echo last"
        );
        let mount = format!("{SHARED}:{SHARED}");
        let options = ["--volume", &mount, "--log-driver", driver];
        let options = [&options[..], limits, &["base", "sh", "-c", &script]].concat();
        let container = Container::run(engine, name, &options)?;
        let outcome = engine.client(LIMIT, &["wait", container.name()])?;
        ensure!(outcome.stdout == b"0\n", "docker wait: {outcome:?}");
        Ok(Self { container, since: engine.shell(&format!("cat {SHARED}/since"))? })
    }

    /// Reads from there on, in milliseconds.
    fn read(&self) -> Result<f64> {
        let began = Instant::now();
        let logs = self.container.logs(&["--since", &self.since])?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        ensure!(logs.stdout == b"last\n", "{} bytes instead of the last line", logs.stdout.len());
        Ok(took)
    }
}
