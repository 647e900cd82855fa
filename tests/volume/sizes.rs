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
        Scenario::new("size_of_the_wal_stops_the_server_and_lets_it_go_on", wal)
            .tolerating(&["the volume fills"]),
        Scenario::new("size_of_a_tablespace_is_its_own", tablespace)
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

/// What the WAL's share has left, in MiB.
fn left(pg: &Pg, directory: &str) -> Result<u64> {
    let free = pg.container().shell(&format!("df --output=avail -m {directory} | tail -n 1"))?;
    Ok(free.trim().parse()?)
}

/// A server whose WAL nobody takes away stops when its place is full, with all that it acknowledged,
/// and starts once there is room: what is held back, or more.
fn wal(stage: &Stage) -> Result<()> {
    let (engine, plugin) = (stage.engine(), stage.plugin()?);
    let volume = Volume::create(engine, "pgvol", "db", &["wal.size=256M", "label.a=b"])?;
    let pg = server(engine, &[])?;
    pg.psql("ALTER SYSTEM SET archive_mode = on")?;
    pg.psql("ALTER SYSTEM SET archive_command = 'false'")?;
    pg.restart()?;
    // The image is larger: that is not the server's.
    let first = left(&pg, "/pg/wal")?;
    ensure!((180..=245).contains(&first), "{first} MiB are free");
    let writer = pg.writer()?;
    pg.psql("CREATE TABLE filler (text text)")?;
    let insert =
        "INSERT INTO filler SELECT repeat(md5(n::text), 30) FROM generate_series(1, 20000) n";
    let ended = || pg.container().inspect("{{.State.Running}}").map(|running| running == "false");
    for _ in 0..40 {
        if pg.psql(insert).is_err() {
            break;
        }
    }
    eventually(LIMIT, || {
        ensure!(ended()?, "the server runs on a WAL that is full");
        Ok(())
    })?;
    let last = writer.finish()?;
    let said = engine.docker(&["logs", "--tail=40", "server"])?;
    let role = || Ok::<_, anyhow::Error>(volume.inspect()?["Status"]["roles"]["wal"].clone());
    ensure!(role()?["limit"] == 256 << 20, "{said} {}", role()?);
    // A snapshot of what has stopped, with its WAL.
    engine.docker(&["volume", "create", "-d", "pgvol", "-o", "snapshot=now", "db@full"])?;
    call(plugin, "ReleaseReserve", &json!({"name": "db"}))?;
    engine.docker(&["start", "server"])?;
    pg.wait_ready()?;
    pg.check_numbers(last)?;
    // More, while it runs; and a kill of the plugin changes nothing.
    let before = left(&pg, "/pg/wal")?;
    call(plugin, "Set", &json!({"name": "db", "set": {"wal.size": "1G"}}))?;
    let after = left(&pg, "/pg/wal")?;
    ensure!(after > before + 700, "{before} MiB, then {after}");
    plugin.kill()?;
    for _ in 0..10 {
        pg.psql(insert)?;
    }
    pg.restart()?;
    pg.check_numbers(last)?;
    clone(stage, "db@full", last)?;
    drop(pg);
    engine.docker(&["volume", "rm", "db@full"])?;
    volume.remove()
}

/// A clone has the same sizes, so that it is as full, and all that was acknowledged.
fn clone(stage: &Stage, of: &str, last: u64) -> Result<()> {
    let engine = stage.engine();
    let from = format!("from={of}");
    let clone = Volume::create(engine, "pgvol", "copy", &[&from])?;
    let role = clone.inspect()?["Status"]["roles"]["wal"].clone();
    ensure!(role["limit"] == 256 << 20, "{role}");
    call(stage.plugin()?, "Set", &json!({"name": "copy", "set": {"wal.size": "512M"}}))?;
    let mount = ["--volume=copy:/pg", "--env=PGDATA=/pg/data"];
    let pg = Pg::start(engine, "copy", &mount)?;
    pg.check_numbers(last)?;
    drop(pg);
    clone.remove()
}

/// Filled, it fails what writes there, and nothing else.
fn tablespace(stage: &Stage) -> Result<()> {
    let (engine, plugin) = (stage.engine(), stage.plugin()?);
    let options = [
        "tablespaces=t,u",
        "tablespace.t.size=160M",
        "tablespace.u.pool=wal",
        "tablespace.u.size=160M",
    ];
    let volume = Volume::create(engine, "pgvol", "db", &options)?;
    let pg = server(engine, &[])?;
    let insert = |name: &str| {
        format!(
            "INSERT INTO in_{name} SELECT repeat(md5(n::text), 30) FROM generate_series(1, 20000) n"
        )
    };
    let fill = |name: &str| {
        let filled = (0..20).find_map(|_| pg.psql(&insert(name)).err());
        let said = filled.map(|error| format!("{error:#}")).unwrap_or_default();
        let is_full = said.contains("quota exceeded") || said.contains("No space left");
        ensure!(is_full, "{name}: {said}");
        Ok(())
    };
    for name in ["t", "u"] {
        pg.psql(&format!("CREATE TABLESPACE {name} LOCATION '/pg/tablespaces/{name}'"))?;
        pg.psql(&format!("CREATE TABLE in_{name} (text text) TABLESPACE {name}"))?;
    }
    fill("u")?;
    // With what was lent it is as full, and so are its copies; and it stays lent when another is resized.
    call(plugin, "ReleaseReserve", &json!({"name": "db"}))?;
    fill("u")?;
    engine.docker(&["volume", "create", "-d", "pgvol", "-o", "snapshot=now", "db@lent"])?;
    Volume::create(engine, "pgvol", "lent", &["from=db@lent"])?.remove()?;
    engine.docker(&["volume", "rm", "db@lent"])?;
    call(plugin, "Set", &json!({"name": "db", "set": {"tablespace.t.size": "192M"}}))?;
    fill("t")?;
    for name in ["t", "u"] {
        let insert = insert(name);
        let key = format!("tablespace.{name}.size");
        call(plugin, "Set", &json!({"name": "db", "set": {key: "512M"}}))?;
        pg.psql(&insert)?;
        pg.psql("CHECKPOINT")?;
        pg.pgbench(&["-i", "-q", "-s", "2"])?;
    }
    engine.docker(&["volume", "create", "-d", "pgvol", "-o", "snapshot=now", "db@s"])?;
    let level = volume.inspect()?["Status"]["snapshots"][0]["consistency"].clone();
    ensure!(level == "ordered", "{level}");
    let rows = "SELECT count(*) > 20000 FROM in_t UNION ALL SELECT count(*) > 20000 FROM in_u";
    ensure!(pg.psql(rows)? == "t\nt");
    let clone = Volume::create(engine, "pgvol", "copy", &["from=db@s"])?;
    let copy = Pg::start(engine, "copy", &["--volume=copy:/pg", "--env=PGDATA=/pg/data"])?;
    ensure!(copy.psql(rows)? == "t\nt");
    drop((copy, pg));
    clone.remove()?;
    engine.docker(&["volume", "rm", "db@s"])?;
    volume.remove()
}

fn refused(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let engine = stage.engine();
    for (options, words) in [
        (
            &["size=1"][..],
            "option `size`: `1` is not allowed: allowed are none and whole numbers of M, G or T from 128M",
        ),
        (
            &["wal.size=1"],
            "option `wal.size`: `1` is not allowed: allowed are none and whole numbers of M, G or T from 128M",
        ),
        (&["tablespace.t.size=1G"], "`tablespaces` names no tablespace `t`"),
        (&["wal.size=900T"], "MiB of the host's disk are wanted, and "),
    ] {
        let options: Vec<_> = options.iter().flat_map(|option| ["-o", option]).collect();
        let said = engine
            .refused(&[&["volume", "create", "-d", "pgvol"], &options[..], &["db"]].concat())?;
        ensure!(said.contains(words), "{said}");
    }
    ensure!(engine.docker(&["volume", "ls", "--quiet"])?.is_empty(), "something was made");
    Ok(())
}
