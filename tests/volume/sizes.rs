//! What a volume may hold: a server that fills it goes on once it has room, and none of it is lost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Engine, Pg, Plugin, Scenario, Stage, Volume, eventually};
use serde_json::{Value, json};

use crate::postgres::server;
use crate::trash::call;

const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("size_is_held_under_a_server", held)
            .tolerating(&["the volume fills", "Pgvol.Set"]),
        Scenario::new("size_is_refused_by_name", refused).tolerating(&["VolumeDriver.Create"]),
    ]
}

/// A volume of `size` with a server on it.
fn sized(engine: &Arc<Engine>, size: &str) -> Result<(Volume, Pg)> {
    let volume = Volume::create(engine, "pgvol", "db", &[&format!("size={size}")])?;
    Ok((volume, server(engine, &[])?))
}

/// Inserts into the table `filler` until the server says that it cannot.
fn fill(pg: &Pg) -> Result<()> {
    pg.psql("CREATE TABLE IF NOT EXISTS filler (n int, text text)")?;
    let insert = "INSERT INTO filler SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n";
    for _ in 0..100 {
        if let Err(error) = pg.psql(insert) {
            let said = format!("{error:#}");
            ensure!(said.contains("Disk quota exceeded"), "{said}");
            return Ok(());
        }
    }
    anyhow::bail!("2 GB fit");
}

fn resize(plugin: &Plugin, size: &str) -> Result<Value> {
    call(plugin, "Set", &json!({"name": "db", "set": {"size": size}}))
}

fn held(stage: &Stage) -> Result<()> {
    let (engine, plugin) = (stage.engine(), stage.plugin()?);
    let (volume, pg) = sized(engine, "256M")?;
    pg.pgbench(&["-i", "-q", "-s", "2"])?;
    let postmaster = "SELECT pg_postmaster_start_time()";
    let started = pg.psql(postmaster)?;
    fill(&pg)?;
    // Until there is room even reading may fail, where it needs the place of a page that waits to
    // be written; but the server is there.
    let role = || Ok::<_, anyhow::Error>(volume.inspect()?["Status"]["roles"]["data"].clone());
    ensure!(
        role()?["limit"] == 256 << 20 && role()?["reserve"]["released"] == false,
        "{}",
        role()?
    );
    eventually(LIMIT, || {
        let alarms = volume.inspect()?["Status"]["alarms"].to_string();
        ensure!(alarms.contains("of its size is in use"), "{alarms}");
        Ok(())
    })?;
    // More room, and it goes on where it was.
    resize(plugin, "384M")?;
    pg.psql("CHECKPOINT")?;
    pg.pgbench(&["-n", "-c", "2", "-t", "50"])?;
    plugin.kill()?;
    fill(&pg)?;
    // No room to be had but what is held back: enough to clear away.
    call(plugin, "ReleaseReserve", &json!({"name": "db"}))?;
    pg.psql("DROP TABLE filler")?;
    pg.psql("CHECKPOINT")?;
    pg.pgbench(&["-n", "-c", "2", "-t", "50"])?;
    eventually(LIMIT, || {
        ensure!(role()?["reserve"]["released"] == false, "{}", role()?);
        Ok(())
    })?;
    ensure!(pg.psql(postmaster)? == started, "the server was restarted");
    let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = \
                (SELECT sum(delta) FROM pgbench_history), count(*) FROM pgbench_history";
    pg.restart()?;
    ensure!(pg.psql(sums)? == "t|200", "{}", pg.psql(sums)?);
    drop(pg);
    volume.remove()
}

fn refused(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let engine = stage.engine();
    for (options, words) in [
        (
            &["size=1"][..],
            "option `size`: `1` is not allowed: allowed are none and sizes from 128M",
        ),
        (&["size=1G", "pool=wal"], "option `size`: pool wal: it knows no limits"),
        (&["wal.size=1G"], "option `wal.size` is not built yet"),
    ] {
        let options: Vec<_> = options.iter().flat_map(|option| ["-o", option]).collect();
        let said = engine
            .refused(&[&["volume", "create", "-d", "pgvol"], &options[..], &["db"]].concat())?;
        ensure!(said.contains(words), "{said}");
    }
    ensure!(engine.docker(&["volume", "ls", "--quiet"])?.is_empty(), "something was made");
    Ok(())
}
