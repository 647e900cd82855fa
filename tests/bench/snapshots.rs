//! What snapshots of a server under load take, how long it stands still for one at a barrier, how soon a
//! clone answers, compared with the start of a server that was cleanly stopped, and what snapshots cost the
//! server that they are taken of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::{Engine, Pg, Volume};
use serde_json::Value;

use crate::ratio::Ratios;
use crate::stalls::{self, Meanwhile};
use crate::tps::{Load, rate};
use crate::{Side, install_pgvol, interleave, note};

const INIT_LIMIT: Duration = Duration::from_hours(1);

/// The client plugin, as root of a host would install it.
const INSTALL: &str =
    "install -D -t /usr/local/lib/docker/cli-plugins /srv/cli-plugins/docker-pgvol";

/// What pgbench is told.
const LOAD: [&str; 7] = ["-n", "-M", "prepared", "-c", "8", "-j", "2"];

/// Ends it; the client in the container goes on when that of Docker is gone.
const END_LOAD: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'";

/// The figures of one size, in milliseconds.
#[derive(Debug)]
pub(crate) struct Figures {
    /// What a snapshot took without the checkpoint before it, at a barrier over in order.
    pub(crate) took: Ratios,
    /// Of those at a barrier.
    pub(crate) stalls: Vec<u64>,
    /// What the clients notice.
    pub(crate) pauses: Vec<(Meanwhile, f64)>,
    /// From nothing to the first query beside the load, a clone over a `local` volume.
    pub(crate) beside: Ratios,
    /// The same where nothing else is done.
    pub(crate) answered: Ratios,
    /// That of a clone of a prepared snapshot.
    pub(crate) prepared: Ratios,
    /// Of the volume, in bytes.
    pub(crate) size: u64,
}

/// Measures with a database of this scale, `pairs` times.
pub(crate) fn compare(engine: &Arc<Engine>, scale: u32, pairs: usize) -> Result<Figures> {
    engine.add_postgres_image()?;
    engine.shell(INSTALL)?;
    let _plugin = install_pgvol(engine, &["TRASH=0"])?;
    let volume = Volume::create(engine, "pgvol", "bench-snapshots", &[])?;
    let pg = loaded(engine, "bench-snapshots", scale)?;
    let size = pg.psql("SELECT sum(pg_database_size(oid)) FROM pg_database")?.parse()?;
    let mut load = LOAD.to_vec();
    load.extend(["-T", "36000"]);
    let exec = ["exec", "--user", "postgres", pg.container().name(), "pgbench"];
    let running = engine.stream(&[&exec[..], &load].concat())?;
    let reference = Volume::create(engine, "local", "bench-stopped", &[])?;
    drop(serve(engine, "bench-stopped")?);

    let mut stalls = Vec::new();
    let took = interleave(pairs, |side| {
        let level = if side == Side::Ours { "barrier" } else { "ordered" };
        let snapshot = take(engine, level)?;
        let took = snapshot["took_ms"].as_u64().context("a time")?;
        stalls.extend(snapshot["stall_ms"].as_u64());
        note(&format!("{level}: {took} ms, stall {} {}", snapshot["stall_ms"], snapshot["stall"]))?;
        remove(engine)?;
        u32::try_from(took).map(f64::from).context("a time")
    })?;
    let pauses = stalls::longest(engine, &pg, pairs)?;
    let ordered = || take(engine, "ordered").map(drop);
    let beside = answers(engine, pairs, reference.name(), ordered)?;
    pg.psql(END_LOAD)?;
    let answered = answers(engine, pairs, reference.name(), ordered)?;
    let prepared = answers(engine, pairs, reference.name(), || {
        take(engine, "ordered")?;
        let prepared = engine.client(INIT_LIMIT, &["pgvol", "prepare", "bench-snapshots@s"])?;
        ensure!(prepared.success, "prepare: {}", String::from_utf8_lossy(&prepared.stderr));
        Ok(())
    })?;
    drop((running, pg));
    reference.remove()?;
    volume.remove()?;
    stalls.sort_unstable();
    let [took, beside, answered, prepared] = [took, beside, answered, prepared].map(Ratios::new);
    Ok(Figures { took, stalls, pauses, beside, answered, prepared, size })
}

/// From nothing to the first query: a clone of the snapshot that `ready` takes, and a `local` volume.
fn answers(
    engine: &Arc<Engine>,
    pairs: usize,
    reference: &str,
    ready: impl Fn() -> Result<()>,
) -> Result<Vec<(f64, f64)>> {
    interleave(pairs, |side| {
        if side == Side::Reference {
            let begun = Instant::now();
            let _server = serve(engine, reference)?;
            return Ok(begun.elapsed().as_secs_f64() * 1000.0);
        }
        ready()?;
        let begun = Instant::now();
        let clone = Volume::create(engine, "pgvol", "bench-clone", &["from=bench-snapshots@s"])?;
        let made = begun.elapsed();
        let server = serve(engine, clone.name())?;
        let took = begun.elapsed();
        note(&format!("clone made after {made:?}, answered after {took:?}"))?;
        drop(server);
        clone.remove()?;
        remove(engine)?;
        Ok(took.as_secs_f64() * 1000.0)
    })
}

/// Transactions per second beside snapshots, over a `local` volume.
#[derive(Debug)]
pub(crate) struct Under {
    /// One every so often.
    pub(crate) every: Ratios,
    /// The same, where the server on the `local` volume writes a checkpoint as often, as it does for each
    /// snapshot.
    pub(crate) checkpoints: Ratios,
    /// So many that were taken before.
    pub(crate) behind: Ratios,
}

/// Measures with a snapshot every `period`, and with so many behind.
pub(crate) fn under_snapshots(
    engine: &Arc<Engine>,
    load: Load,
    (period, behind): (Duration, usize),
    pairs: usize,
) -> Result<Under> {
    engine.add_postgres_image()?;
    engine.shell(INSTALL)?;
    let _plugin = install_pgvol(engine, &["TRASH=0"])?;
    let volume = Volume::create(engine, "pgvol", "bench-snapshots", &[])?;
    let reference = Volume::create(engine, "local", "bench-local", &[])?;
    let ours = loaded(engine, volume.name(), load.scale)?;
    let other = loaded(engine, reference.name(), load.scale)?;
    let seconds = load.seconds.to_string();
    let mut options = LOAD.to_vec();
    options.extend(["-T", &seconds]);
    let run = |side: Side| {
        for server in [&ours, &other] {
            server.psql("CHECKPOINT")?;
        }
        rate(if side == Side::Ours { &ours } else { &other }, &options)
    };
    // Not counted: the first run after the load finds hint bits to set and WAL files to make.
    run(Side::Ours)?;
    run(Side::Reference)?;
    let mut every = Vec::new();
    let mut checkpoints = Vec::new();
    let snapshots = || beside(|| run(Side::Ours), |number| snapshot(engine, "e", number), period);
    let nothing = || run(Side::Reference);
    let checkpoint = |_| other.psql("CHECKPOINT").map(drop);
    let written = || beside(|| run(Side::Reference), checkpoint, period);
    let ways: [&dyn Fn() -> Result<f64>; 3] = [&snapshots, &nothing, &written];
    for round in 0..pairs {
        let mut tps = [0.0; 3];
        for turn in 0..tps.len() {
            let which = (round + turn) % tps.len();
            tps[which] = ways[which]()?;
        }
        let [ours, plain, written] = tps;
        note(&format!(
            "every {period:?} a snapshot: {ours:.0} tps, nothing: {plain:.0}, a checkpoint: {written:.0}"
        ))?;
        every.push((ours, plain));
        checkpoints.push((ours, written));
    }
    for number in 0..behind {
        snapshot(engine, "b", number)?;
        // So that each has something of its own.
        rate(&ours, &[&LOAD[..], &["-t", "100"]].concat())?;
    }
    let after = interleave(pairs, |side| {
        let tps = run(side)?;
        note(&format!("{side:?}, {behind} snapshots behind: {tps:.0} tps"))?;
        Ok(tps)
    })?;
    drop((ours, other));
    reference.remove()?;
    volume.remove()?;
    let [every, checkpoints, behind] = [every, checkpoints, after].map(Ratios::new);
    Ok(Under { every, checkpoints, behind })
}

/// Does `work`, and beside it `again` with a number every `period`; what fails there fails.
fn beside<T>(
    work: impl FnOnce() -> Result<T>,
    again: impl Fn(usize) -> Result<()> + Sync,
    period: Duration,
) -> Result<T> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let snapshots = scope.spawn(|| {
            let mut number = 0;
            let mut next = Instant::now() + period / 2;
            while !over.load(Ordering::Relaxed) {
                if Instant::now() >= next {
                    again(number)?;
                    number += 1;
                    next += period;
                }
                thread::sleep(Duration::from_millis(50));
            }
            Ok(number)
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let taken: Result<usize> = snapshots.join().unwrap_or_else(|_| bail!("snapshots panicked"));
        ensure!(taken? > 0, "no snapshot was taken: a run is shorter than half of {period:?}");
        done
    })
}

/// Takes one more snapshot; the last five of a series are kept where that is `e`.
fn snapshot(engine: &Engine, series: &str, number: usize) -> Result<()> {
    let name = |number: usize| format!("bench-snapshots@{series}{number}");
    if series == "e" && number >= 5 {
        engine.docker(&["volume", "rm", &name(number - 5)])?;
    }
    // Those of an earlier run.
    engine.docker(&["volume", "rm", "--force", &name(number)])?;
    let create = ["volume", "create", "-d", "pgvol", "-o", "snapshot=now"];
    engine.docker(&[&create[..], &[&name(number)]].concat()).map(drop)
}

/// A server on this volume with pgbench's tables.
fn loaded(engine: &Arc<Engine>, volume: &str, scale: u32) -> Result<Pg> {
    let mount = format!("{volume}:/pg");
    let whole = ["-v", &mount, "-e", "PGDATA=/pg/data", "-e", "POSTGRES_INITDB_WALDIR=/pg/wal"];
    let name = format!("{volume}-server");
    let pg = Pg::start(engine, &name, &[&whole[..], &["--shm-size", "1g"]].concat())?;
    note(&format!("loading scale {scale} on {volume}"))?;
    let scale = scale.to_string();
    let init = ["exec", "--user", "postgres", &name, "pgbench", "-i", "-q", "-s", &scale];
    let outcome = engine.client(INIT_LIMIT, &init)?;
    ensure!(outcome.success, "pgbench -i: {}", String::from_utf8_lossy(&outcome.stderr));
    Ok(pg)
}

/// A server on this volume that answers.
fn serve(engine: &Arc<Engine>, volume: &str) -> Result<Pg> {
    Pg::start(engine, "bench-clone", &["-v", &format!("{volume}:/pg"), "-e", "PGDATA=/pg/data"])
}

/// Takes the snapshot at this level and gives what Status says of it.
pub(crate) fn take(engine: &Engine, level: &str) -> Result<Value> {
    let level = format!("consistency={level}");
    let options = ["-d", "pgvol", "-o", "snapshot=now", "-o", &level, "bench-snapshots@s"];
    engine.docker(&[&["volume", "create"][..], &options].concat())?;
    let shown = engine.docker(&["volume", "inspect", "bench-snapshots@s"])?;
    let shown: Value = serde_json::from_str(&shown)?;
    Ok(shown[0]["Status"]["snapshot"].clone())
}

/// Removes it, and what was prepared of it.
pub(crate) fn remove(engine: &Engine) -> Result<()> {
    engine.docker(&["volume", "rm", "--force", "bench-snapshots@s-prepared"])?;
    engine.docker(&["volume", "rm", "bench-snapshots@s"]).map(drop)
}
