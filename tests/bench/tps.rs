//! Transactions per second of PostgreSQL on a pgvol volume and on one of Docker's `local` driver.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Engine, Pg, Volume};

use crate::ratio::Ratios;
use crate::{Side, install_pgvol, interleave, note};

const INIT_LIMIT: Duration = Duration::from_mins(20);

/// What pgbench is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// 100,000 accounts each.
    pub(crate) scale: u32,
    /// Of one run.
    pub(crate) seconds: u32,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scale {}, 8 clients, prepared, {} s a run", self.scale, self.seconds)
    }
}

/// A server with its volume; fields drop in this order.
struct Server {
    pg: Pg,
    _volume: Volume,
}

pub(crate) fn compare(engine: &Arc<Engine>, load: Load, pairs: usize) -> Result<Ratios> {
    engine.add_postgres_image()?;
    let _plugin = install_pgvol(engine, &[])?;
    let ours = serve(engine, "pgvol", load)?;
    let reference = serve(engine, "local", load)?;
    let samples = interleave(pairs, |side| {
        // A checkpoint of one that still runs would cost the other one.
        for server in [&ours, &reference] {
            server.pg.psql("CHECKPOINT")?;
        }
        let server = if side == Side::Ours { &ours } else { &reference };
        let tps = run(server, load)?;
        note(&format!("{side:?}: {tps:.0} tps"))?;
        Ok(tps)
    })?;
    Ok(Ratios::new(samples))
}

fn serve(engine: &Arc<Engine>, driver: &str, load: Load) -> Result<Server> {
    let name = format!("bench-{driver}");
    let volume = Volume::create(engine, driver, &name, &[])?;
    let mount = format!("{name}:/pg");
    let options = [
        ["--volume", &mount],
        ["--env", "PGDATA=/pg/data"],
        ["--env", "POSTGRES_INITDB_WALDIR=/pg/wal"],
        ["--shm-size", "1g"],
    ];
    let pg = Pg::start(engine, &name, &options.concat())?;
    // So that no run sees a checkpoint by size, and that what is measured is not the cache.
    for setting in ["shared_buffers = '512MB'", "max_wal_size = '8GB'"] {
        pg.psql(&format!("ALTER SYSTEM SET {setting}"))?;
    }
    pg.restart()?;
    note(&format!("loading scale {} on {driver}", load.scale))?;
    let scale = load.scale.to_string();
    let init = ["exec", "--user", "postgres", &name, "pgbench", "-i", "-q", "-s", &scale];
    let outcome = engine.client(INIT_LIMIT, &init)?;
    ensure!(outcome.success, "pgbench -i: {}", String::from_utf8_lossy(&outcome.stderr));
    let server = Server { pg, _volume: volume };
    // Not counted: the first run after the load finds hint bits to set and WAL files to make.
    run(&server, load)?;
    Ok(server)
}

fn run(server: &Server, load: Load) -> Result<f64> {
    let seconds = load.seconds.to_string();
    let options = ["-n", "-M", "prepared", "-c", "8", "-j", "2", "-T", &seconds];
    rate(&server.pg, &options)
}

/// Runs pgbench and gives its transactions per second.
pub(crate) fn rate(pg: &Pg, options: &[&str]) -> Result<f64> {
    let said = pg.pgbench(options)?;
    said.lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("no tps in what pgbench said: {said}"))
}
