//! What snapshots of a server under load take, how long it stands still for one at a barrier, and how
//! soon a clone answers, compared with the start of a server that was cleanly stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Engine, Pg, Plugin, Volume};
use serde_json::Value;

use crate::ratio::Ratios;
use crate::{Side, interleave, note};

const INIT_LIMIT: Duration = Duration::from_hours(1);

/// The figures, in milliseconds.
#[derive(Debug)]
pub(crate) struct Figures {
    /// What a snapshot took without the checkpoint before it, at a barrier over in order.
    pub(crate) took: Ratios,
    /// Of those at a barrier.
    pub(crate) stalls: Vec<u64>,
    /// From nothing to the first query, a clone over a `local` volume.
    pub(crate) answered: Ratios,
    /// Of the volume, in bytes.
    pub(crate) size: u64,
}

/// Measures with a database of this scale, `pairs` times.
pub(crate) fn compare(engine: &Arc<Engine>, scale: u32, pairs: usize) -> Result<Figures> {
    engine.add_postgres_image()?;
    let _plugin = Plugin::install(engine, "pgvol", &["TRASH=0"])?;
    let volume = Volume::create(engine, "pgvol", "bench-snapshots", &[])?;
    let whole = ["-v", "bench-snapshots:/pg", "-e", "PGDATA=/pg/data"];
    let wal = ["-e", "POSTGRES_INITDB_WALDIR=/pg/wal", "--shm-size", "1g"];
    let pg = Pg::start(engine, "loaded", &[&whole[..], &wal].concat())?;
    note(&format!("loading scale {scale}"))?;
    let exec = ["exec", "--user", "postgres", "loaded", "pgbench"];
    let scale = scale.to_string();
    let outcome = engine.client(INIT_LIMIT, &[&exec[..], &["-i", "-q", "-s", &scale]].concat())?;
    ensure!(outcome.success, "pgbench -i: {}", String::from_utf8_lossy(&outcome.stderr));
    let size = pg.psql("SELECT sum(pg_database_size(oid)) FROM pg_database")?.parse()?;
    let load = ["-n", "-M", "prepared", "-c", "8", "-j", "2", "-T", "36000"];
    let _load = engine.stream(&[&exec[..], &load].concat())?;
    let reference = Volume::create(engine, "local", "bench-stopped", &[])?;
    drop(serve(engine, "bench-stopped")?);

    let mut stalls = Vec::new();
    let took = interleave(pairs, |side| {
        let level = if side == Side::Ours { "barrier" } else { "ordered" };
        let snapshot = take(engine, level)?;
        let took = snapshot["took_ms"].as_u64().context("a time")?;
        stalls.extend(snapshot["stall_ms"].as_u64());
        note(&format!("{level}: {took} ms, stall {}", snapshot["stall_ms"]))?;
        remove(engine)?;
        u32::try_from(took).map(f64::from).context("a time")
    })?;
    let answered = interleave(pairs, |side| {
        if side == Side::Reference {
            let begun = Instant::now();
            let _server = serve(engine, reference.name())?;
            return Ok(begun.elapsed().as_secs_f64() * 1000.0);
        }
        take(engine, "ordered")?;
        let begun = Instant::now();
        let clone = Volume::create(engine, "pgvol", "bench-clone", &["from=bench-snapshots@s"])?;
        let server = serve(engine, clone.name())?;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        drop(server);
        clone.remove()?;
        remove(engine)?;
        Ok(took)
    })?;
    drop(pg);
    volume.remove()?;
    stalls.sort_unstable();
    Ok(Figures { took: Ratios::new(took), stalls, answered: Ratios::new(answered), size })
}

/// A server on this volume that answers.
fn serve(engine: &Arc<Engine>, volume: &str) -> Result<Pg> {
    Pg::start(engine, "bench-clone", &["-v", &format!("{volume}:/pg"), "-e", "PGDATA=/pg/data"])
}

/// Takes the snapshot at this level and gives what Status says of it.
fn take(engine: &Engine, level: &str) -> Result<Value> {
    let level = format!("consistency={level}");
    let options = ["-d", "pgvol", "-o", "snapshot=now", "-o", &level, "bench-snapshots@s"];
    engine.docker(&[&["volume", "create"][..], &options].concat())?;
    let shown = engine.docker(&["volume", "inspect", "bench-snapshots@s"])?;
    let shown: Value = serde_json::from_str(&shown)?;
    Ok(shown[0]["Status"]["snapshot"].clone())
}

fn remove(engine: &Engine) -> Result<()> {
    engine.docker(&["volume", "rm", "bench-snapshots@s"]).map(drop)
}
