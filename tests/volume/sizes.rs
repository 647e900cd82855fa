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
        Scenario::new("size_under_ten_snapshots", under_snapshots)
            .tolerating(&["the volume fills"]),
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

/// btrfs charges what is overwritten after a snapshot a second time: the trap that a limit at 90 %
/// would be in without following.
fn under_snapshots(stage: &Stage) -> Result<()> {
    let (engine, plugin) = (stage.engine(), stage.plugin()?);
    let (volume, pg) = sized(engine, "512M")?;
    // Half of each page is free: a new version of each row lies beside the old one.
    pg.psql(
        "CREATE TABLE wide (n int, text text) WITH (fillfactor = 45, autovacuum_enabled = off); \
         INSERT INTO wide SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) n; \
         CREATE TABLE rest AS SELECT repeat('y', 1000) FROM generate_series(1, 245000); \
         CHECKPOINT",
    )?;
    let used = || Ok::<_, anyhow::Error>(volume.inspect()?["Status"]["roles"]["data"].clone());
    let least = (512 << 20) * 15 / 16 / 10 * 8;
    ensure!(used()?["used"].as_u64().is_some_and(|bytes| bytes > least), "{}", used()?);
    for number in 0..10 {
        let name = format!("db@s{number}");
        engine.docker(&["volume", "create", "-d", "pgvol", "-o", "snapshot=now", &name])?;
        if number == 7 {
            plugin.kill()?;
        }
    }
    for text in ["first", "second"] {
        // Twice: the old versions of the first make room for those of the second.
        pg.psql(&format!("UPDATE wide SET text = repeat('{}', 1000)", &text[..1]))?;
        pg.psql("CHECKPOINT")?;
        pg.psql("VACUUM wide")?;
    }
    let rows = pg.psql("SELECT count(*), min(text) = repeat('s', 1000) FROM wide")?;
    ensure!(rows == "50000|t", "{rows}");
    pg.restart()?;
    ensure!(pg.psql("SELECT count(*) FROM rest")? == "245000");
    drop(pg);
    for number in 0..10 {
        engine.docker(&["volume", "rm", &format!("db@s{number}")])?;
    }
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
