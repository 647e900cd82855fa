//! What the plugins cost, compared with what Docker itself would do in their place.
//!
//! Each figure comes from interleaved pairs: ours and the reference, one right after the other, the
//! order changing from pair to pair, so that whatever else the machine does meets both. Judged is
//! the median of the pairwise ratios. Nothing here fails for being slow: people compare figures.

mod checkpoints;
mod containers;
mod lines;
mod machine;
mod ratio;
mod receiver;
mod since;
mod sinks;
mod snapshots;
mod stalls;
mod tps;

use std::env;
use std::fmt::Display;
use std::io::{Write, stderr, stdout};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{Engine, Plugin, Version};

use crate::ratio::Ratios;

/// Fewer pairs than this have no interval of 90 %.
const LEAST_PAIRS: usize = 5;

fn main() -> Result<()> {
    let figures: Vec<String> = env::args().skip(1).collect();
    let known = [
        "tps",
        "checkpoints",
        "lines",
        "sinks",
        "since",
        "snapshots",
        "under-snapshots",
        "containers",
    ];
    if let Some(unknown) = figures.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no figure {unknown:?}: there are {}", known.join(", "));
    }
    let wanted = |name: &str| figures.is_empty() || figures.iter().any(|figure| figure == name);
    let pairs = setting("PAIRS", 10)?;
    ensure!(pairs >= LEAST_PAIRS, "PAIRS={pairs}: at least {LEAST_PAIRS} are needed");
    let load = tps::Load { scale: setting("SCALE", 60)?, seconds: setting("TPS_SECONDS", 15)? };
    let seconds = setting("CHECKPOINT_SECONDS", 5)?;
    let engine = Engine::start(Version::V26_1)?;
    say(&machine::facts(&engine)?)?;
    if wanted("tps") {
        let ratios = tps::compare(&engine, load, pairs)?;
        let title = format!("pgbench tps, pgvol over local volume ({load})");
        report(&title, &ratios, "tps")?;
    }
    if wanted("checkpoints") {
        let (checkpoints, opens) = checkpoints::compare(&engine, seconds, pairs)?;
        let where_to = "pgvol over local volume, both on a directory of the host";
        report(&format!("checkpoints per second, {where_to}"), &checkpoints, "/s")?;
        report(&format!("reads of pg_control per second, {where_to}"), &opens, "/s")?;
    }
    if ["lines", "sinks", "since", "containers"].into_iter().any(wanted) {
        logs(&engine, wanted, pairs)?;
    }
    if wanted("snapshots") {
        for scale in setting("SNAPSHOT_SCALES", "70".to_owned())?.split(',') {
            snapshots(&engine, scale.parse().context("SNAPSHOT_SCALES")?, pairs)?;
        }
    }
    if wanted("under-snapshots") {
        let period = Duration::from_secs(setting("SNAPSHOT_SECONDS", 10)?);
        let behind = setting("SNAPSHOTS_BEHIND", 100)?;
        let how = (period, behind);
        let figures = snapshots::under_snapshots(&engine, load, how, pairs)?;
        let title = "pgbench tps, pgvol over local volume";
        let every = format!("{title}, a snapshot every {period:?}");
        report(&format!("{every} ({load})"), &figures.every, "tps")?;
        let both = format!("{every} over a checkpoint as often ({load})");
        report(&both, &figures.checkpoints, "tps")?;
        report(&format!("{title}, {behind} snapshots behind ({load})"), &figures.behind, "tps")?;
    }
    engine.end()
}

/// The figures of snapshots and clones of a database of this scale.
fn snapshots(engine: &Arc<Engine>, scale: u32, pairs: usize) -> Result<()> {
    let figures = snapshots::compare(engine, scale, pairs)?;
    let (size, stalls) = (figures.size >> 20, &figures.stalls);
    let load = format!("of {size} MiB under load");
    report(&format!("snapshot {load}, at a barrier over in order"), &figures.took, "ms")?;
    let (median, most) = (stalls.get(stalls.len() / 2), stalls.last());
    if let (Some(median), Some(most)) = (median, most) {
        say(&format!("stall at a barrier {load}: {median} ms ({most} at most)"))?;
    }
    for (meanwhile, pause) in &figures.pauses {
        let client = "longest pause of a client that commits each millisecond";
        say(&format!("{client}, {size} MiB under load, beside {meanwhile}: {pause:.1} ms"))?;
    }
    let over = "to first query over start of a stopped server on a local volume";
    report(&format!("clone {load} {over}"), &figures.beside, "ms")?;
    report(&format!("clone of {size} MiB {over}"), &figures.answered, "ms")?;
    report(&format!("clone of a prepared snapshot of {size} MiB {over}"), &figures.prepared, "ms")
}

/// The figures of logs.
fn logs(engine: &Arc<Engine>, wanted: impl Fn(&str) -> bool, pairs: usize) -> Result<()> {
    engine.add_base_image()?;
    let plugin = Plugin::install(engine, "pglog", &[])?;
    if wanted("lines") {
        let lines = setting("LOG_LINES", 3_000_000)?;
        let (rate, cpu) = lines::compare(engine, &plugin, lines, pairs)?;
        report("log lines per second, pglog over json-file", &rate, "lines/s")?;
        report("CPU of dockerd and plugin per line, pglog over json-file", &cpu, "µs")?;
    }
    if wanted("sinks") {
        let lines = setting("SINK_LINES", 1_000_000)?;
        let (fluentd, syslog) = sinks::compare(engine, &plugin, lines, pairs)?;
        let title = "lines per second to a fluentd, pglog with acks over Docker's driver without";
        report(title, &fluentd, "lines/s")?;
        let title = "lines per second to syslog over TCP, pglog over Docker's driver";
        report(title, &syslog, "lines/s")?;
    }
    if wanted("since") {
        let size = setting("SINCE_MEGABYTES", 200)?;
        let title = format!("`docker logs --since` at the end of {size} MB, pglog over json-file");
        report(&title, &since::compare(engine, size, pairs)?, "ms")?;
    }
    // The last: its streams stay.
    if wanted("containers") {
        let streams = setting("STREAMS", 1000)?;
        let figures = containers::compare(engine, &plugin, streams, pairs)?;
        let (most, idle) = (figures.most >> 10, figures.idle >> 10);
        say(&format!("anonymous memory of pglog, {streams} streams: {most} MiB ({idle} without)"))?;
        let beside = format!("beside {streams} streams, pglog over json-file");
        report(&format!("start of a container {beside}"), &figures.started, "ms")?;
        report(&format!("stop of a container {beside}"), &figures.stopped, "ms")?;
    }
    Ok(())
}

/// Installs pgvol, anew where another figure had it with other settings.
fn install_pgvol(engine: &Arc<Engine>, settings: &'static [&'static str]) -> Result<Plugin> {
    let installed = engine.docker(&["plugin", "ls", "--format", "{{.Name}}"])?;
    if installed.lines().any(|name| name == "pgvol:latest") {
        engine.docker(&["plugin", "rm", "--force", "pgvol"])?;
    }
    Plugin::install(engine, "pgvol", settings)
}

/// A number out of the environment.
fn setting<T>(name: &str, default: T) -> Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

fn report(title: &str, ratios: &Ratios, unit: &str) -> Result<()> {
    say(&format!("{title}: {}", ratios.summary(unit)))
}

fn say(line: &impl Display) -> Result<()> {
    Ok(writeln!(stdout(), "{line}")?)
}

/// Progress, for whoever waits.
fn note(line: &impl Display) -> Result<()> {
    Ok(writeln!(stderr(), "  {line}")?)
}

/// Which of the two is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Reference,
}

/// Measures both sides `pairs` times, in changing order.
fn interleave<T>(pairs: usize, mut measure: impl FnMut(Side) -> Result<T>) -> Result<Vec<(T, T)>> {
    let mut samples = Vec::with_capacity(pairs);
    for pair in 0..pairs {
        samples.push(if pair % 2 == 0 {
            let ours = measure(Side::Ours)?;
            (ours, measure(Side::Reference)?)
        } else {
            let reference = measure(Side::Reference)?;
            (measure(Side::Ours)?, reference)
        });
    }
    Ok(samples)
}
