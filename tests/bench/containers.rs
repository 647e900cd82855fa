//! What many containers cost: the memory of pglog with a stream for each, and how long one more takes to
//! start and to stop beside them, with pglog and with `json-file`.
//!
//! The many are streams on real FIFOs that a script opens through the plugin's socket as dockerd does: what
//! a thousand containers take of a machine by themselves would be measured otherwise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Container, Engine, LineStream, Plugin};

use crate::ratio::Ratios;
use crate::{Side, interleave, note};

const LIMIT: Duration = Duration::from_mins(10);

/// So many containers are started and stopped for one sample.
const EACH: u32 = 3;

const STREAMS: &str = include_str!("streams.pl");

pub(crate) struct Figures {
    /// Anonymous memory of the plugin in KiB: without a stream, and the most that was seen with all.
    pub(crate) idle: u64,
    pub(crate) most: u64,
    /// Milliseconds of `docker run --detach`.
    pub(crate) started: Ratios,
    /// Milliseconds of `docker stop`.
    pub(crate) stopped: Ratios,
}

pub(crate) fn compare(
    engine: &Arc<Engine>,
    plugin: &Plugin,
    streams: u32,
    pairs: usize,
) -> Result<Figures> {
    let idle = memory(engine, plugin)?;
    let writing = open(engine, plugin, streams)?;
    let mut most = 0;
    // They have written when they say so again.
    for _ in 0..5 {
        writing.next(LIMIT)?;
        most = most.max(memory(engine, plugin)?);
    }
    // Not counted: the first container of each driver.
    for side in [Side::Ours, Side::Reference] {
        cycle(engine, side)?;
    }
    let samples = interleave(pairs, |side| {
        let sample = cycle(engine, side)?;
        note(&format!("{side:?}: started in {:.0} ms, stopped in {:.0} ms", sample.0, sample.1))?;
        most = most.max(memory(engine, plugin)?);
        Ok(sample)
    })?;
    writing.next(LIMIT)?;
    drop(writing);
    let of = |value: fn(&(f64, f64)) -> f64| {
        Ratios::new(samples.iter().map(|(ours, reference)| (value(ours), value(reference))))
    };
    Ok(Figures { idle, most, started: of(|sample| sample.0), stopped: of(|sample| sample.1) })
}

/// Opens the streams, each of which gets ten lines a second from then on.
fn open(engine: &Engine, plugin: &Plugin, streams: u32) -> Result<LineStream> {
    let id = engine.docker(&["plugin", "inspect", "--format", "{{.Id}}", "pglog"])?;
    let socket = format!("/run/docker/plugins/{id}/pglog.sock");
    let directory = format!("/proc/{}/root/run/docker/logging", plugin.pid()?);
    let script =
        format!("ulimit -n 65536; exec perl -e '{STREAMS}' {socket} {directory} {streams}");
    let writing = engine.in_background(&script)?;
    ensure!(writing.next(LIMIT)? == "open", "the streams are not open");
    Ok(writing)
}

/// Milliseconds that a container takes to start and to stop.
fn cycle(engine: &Arc<Engine>, side: Side) -> Result<(f64, f64)> {
    let driver = if side == Side::Ours { "--log-driver=pglog" } else { "--log-driver=json-file" };
    let (mut started, mut stopped) = (0.0, 0.0);
    for _ in 0..EACH {
        let begun = Instant::now();
        let options = [driver, "--stop-signal=KILL", "base", "sleep", "1000"];
        let container = Container::run(engine, "bench-cycle", &options)?;
        started += begun.elapsed().as_secs_f64() * 1e3;
        let begun = Instant::now();
        container.stop(LIMIT)?;
        stopped += begun.elapsed().as_secs_f64() * 1e3;
    }
    Ok((started / f64::from(EACH), stopped / f64::from(EACH)))
}

/// What the plugin's process has of its own in memory, in KiB.
fn memory(engine: &Engine, plugin: &Plugin) -> Result<u64> {
    let line = engine.shell(&format!("grep RssAnon /proc/{}/status", plugin.pid()?))?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}
