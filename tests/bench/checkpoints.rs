//! What the guard against second servers costs: each open of `pg_control` waits for an answer of
//! the plugin. Both volumes lie in plain directories of one file system, so that nothing else
//! differs.

use std::sync::Arc;

use anyhow::Result;
use harness::{Engine, Pg, Volume};

use crate::ratio::Ratios;
use crate::tps::rate;
use crate::{Side, install_pgvol, interleave, note};

/// A checkpoint of a server that has nothing to write: opens the file once, and makes it durable.
const CHECKPOINT: &str = "CHECKPOINT;";

/// Reads the file and does nothing else.
const READ: &str = "SELECT pg_control_checkpoint();";

/// Checkpoints, and reads of the control file, per second.
pub(crate) fn compare(
    engine: &Arc<Engine>,
    seconds: u32,
    pairs: usize,
) -> Result<(Ratios, Ratios)> {
    engine.add_postgres_image()?;
    let _plugin = install_pgvol(engine, &[])?;
    let (ours, _volume) = serve(engine, "pgvol", &["pool=wal"])?;
    let (reference, _other) = serve(engine, "local", &[])?;
    let samples = interleave(pairs, |side| {
        let pg = if side == Side::Ours { &ours } else { &reference };
        let (checkpoints, reads) = (run(pg, "checkpoint", seconds)?, run(pg, "read", seconds)?);
        note(&format!("{side:?}: {checkpoints:.0} checkpoints/s, {reads:.0} reads/s"))?;
        Ok((checkpoints, reads))
    })?;
    let of = |pick: fn((f64, f64)) -> f64| {
        Ratios::new(samples.iter().map(|(ours, reference)| (pick(*ours), pick(*reference))))
    };
    Ok((of(|sample| sample.0), of(|sample| sample.1)))
}

fn serve(engine: &Arc<Engine>, driver: &str, options: &[&str]) -> Result<(Pg, Volume)> {
    let name = format!("bench-{driver}");
    let volume = Volume::create(engine, driver, &name, options)?;
    let pg = Pg::start(engine, &name, &["-v", &format!("{name}:/pg"), "-e", "PGDATA=/pg/data"])?;
    for (name, script) in [("checkpoint", CHECKPOINT), ("read", READ)] {
        pg.container().shell(&format!("echo \"{script}\" >/tmp/{name}"))?;
        // Not counted.
        run(&pg, name, 1)?;
    }
    Ok((pg, volume))
}

fn run(pg: &Pg, script: &str, seconds: u32) -> Result<f64> {
    rate(pg, &["-n", "-f", &format!("/tmp/{script}"), "-T", &seconds.to_string()])
}
