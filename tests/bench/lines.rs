//! Lines per second of one container's log, and the CPU time that they cost, with pglog and with
//! Docker's `json-file`.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Engine, Plugin};

use crate::ratio::Ratios;
use crate::{Side, interleave, note};

/// Lines of the file that the container writes again and again.
pub(crate) const BLOCK: u32 = 100_000;
/// The clock ticks of /proc, the same on every Linux for programs.
const TICKS_PER_SECOND: f64 = 100.0;
const RUN_LIMIT: Duration = Duration::from_mins(10);
/// Where the engine's root and the containers see the block and what the containers note.
pub(crate) const SHARED: &str = "/var/lib/bench";

struct Sample {
    lines_per_second: f64,
    /// CPU per line, dockerd and plugin together.
    cpu_microseconds: f64,
    /// The plugin's part of it.
    plugin_microseconds: f64,
}

/// CPU time in seconds since their start.
struct Cpu {
    dockerd: f64,
    plugin: f64,
}

/// Gives lines per second and microseconds of CPU per line.
pub(crate) fn compare(
    engine: &Arc<Engine>,
    plugin: &Plugin,
    lines: u32,
    pairs: usize,
) -> Result<(Ratios, Ratios)> {
    let blocks = (lines / BLOCK).max(1);
    prepare(engine)?;
    // Not counted: the first container of each driver.
    for side in [Side::Ours, Side::Reference] {
        run(engine, plugin, side, blocks)?;
    }
    let samples = interleave(pairs, |side| {
        let sample = run(engine, plugin, side, blocks)?;
        note(&format!(
            "{side:?}: {:.0} lines/s, {:.2} µs of CPU per line, {:.2} of them the plugin's",
            sample.lines_per_second, sample.cpu_microseconds, sample.plugin_microseconds
        ))?;
        Ok(sample)
    })?;
    let of = |value: fn(&Sample) -> f64| {
        Ratios::new(samples.iter().map(|(ours, reference)| (value(ours), value(reference))))
    };
    Ok((of(|sample| sample.lines_per_second), of(|sample| sample.cpu_microseconds)))
}

/// Makes the block, unless it is there.
pub(crate) fn prepare(engine: &Engine) -> Result<()> {
    engine
        .shell(&format!(
            "mkdir -p {SHARED}; seq -f 'line %012.0f of a log as a busy server writes it, a \
             hundred bytes with all that it says.......' {BLOCK} > {SHARED}/block"
        ))
        .map(drop)
}

/// Writes the block so many times, and notes when that began and ended.
pub(crate) fn script(blocks: u32) -> String {
    format!(
        "date +%s%N >{SHARED}/began; \
         i=0; while [ $i -lt {blocks} ]; do cat {SHARED}/block; i=$((i+1)); done; \
         date +%s%N >{SHARED}/ended"
    )
}

/// A container writes its blocks as fast as it can, and notes itself when it began and ended.
fn run(engine: &Arc<Engine>, plugin: &Plugin, side: Side, blocks: u32) -> Result<Sample> {
    let driver = if side == Side::Ours { "pglog" } else { "json-file" };
    let mount = format!("{SHARED}:{SHARED}");
    let driver = format!("--log-driver={driver}");
    let script = script(blocks);
    let limits = ["--log-opt=max-size=100m", "--log-opt=max-file=2"];
    let options =
        [&["--volume", &mount, &driver][..], &limits, &["base", "sh", "-c", &script]].concat();

    let before = Cpu::now(engine, plugin)?;
    let container = Container::run(engine, "bench-lines", &options)?;
    // It has ended for docker when the driver has closed its log.
    let outcome = engine.client(RUN_LIMIT, &["wait", container.name()])?;
    let after = Cpu::now(engine, plugin)?;
    ensure!(outcome.stdout == b"0\n", "docker wait: {outcome:?}");
    check_last_line(engine, &container)?;

    let lines = f64::from(blocks * BLOCK);
    let seconds = (noted(engine, "ended")? - noted(engine, "began")?) / 1e9;
    let (dockerd, own) = (after.dockerd - before.dockerd, after.plugin - before.plugin);
    Ok(Sample {
        lines_per_second: lines / seconds,
        cpu_microseconds: (dockerd + own) * 1e6 / lines,
        plugin_microseconds: own * 1e6 / lines,
    })
}

/// A driver that throws lines away must not win.
fn check_last_line(engine: &Engine, container: &Container) -> Result<()> {
    let logs = container.logs(&["--tail", "1"])?;
    let last = engine.shell(&format!("tail -n 1 {SHARED}/block"))?;
    let shown = String::from_utf8_lossy(&logs.stdout);
    ensure!(shown.trim_end() == last, "the log ends with {shown:?} instead of {last:?}");
    Ok(())
}

/// A time that a container noted, in nanoseconds since 1970.
pub(crate) fn noted(engine: &Engine, name: &str) -> Result<f64> {
    Ok(engine.shell(&format!("cat {SHARED}/{name}"))?.parse()?)
}

impl Cpu {
    fn now(engine: &Engine, plugin: &Plugin) -> Result<Self> {
        let dockerd = engine.shell("cat /run/docker.pid")?.parse()?;
        let of = |pid: u32| cpu_seconds(engine, pid);
        Ok(Self { dockerd: of(dockerd)?, plugin: of(plugin.pid()?)? })
    }
}

fn cpu_seconds(engine: &Engine, pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(engine.path(&format!("/proc/{pid}/stat")))?;
    // Behind the command's name, which may hold anything: state is field 3, utime 14, stime 15.
    let (_, fields) = stat.rsplit_once(')').context("a command in stat")?;
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks = times.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}
