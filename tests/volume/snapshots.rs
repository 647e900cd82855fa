//! Snapshots and clones of a server that works, by the plain docker client.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Engine, Pg, Scenario, Stage, Volume, eventually};
use serde_json::{Value, json};

use crate::postgres::{SUBPATHS, server, volume};

/// Creates that are refused on purpose.
const REFUSED: &[&str] = &["VolumeDriver.Create", "VolumeDriver.Remove"];

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("snapshot_under_load_and_its_clone", under_load),
        Scenario::new("snapshots_are_volumes", are_volumes).tolerating(REFUSED),
        Scenario::new("snapshot_levels", levels).tolerating(REFUSED),
        Scenario::new("snapshot_at_a_barrier", at_a_barrier).tolerating(REFUSED),
        Scenario::new("volume_restored_in_place", restored).tolerating(&["Pgvol.Restore"]),
        Scenario::new("snapshots_by_schedule", by_schedule),
        Scenario::new("clone_elsewhere_and_beside", elsewhere),
        Scenario::new("snapshots_of_a_standby", of_a_standby),
        Scenario::new("clone_of_a_server_on_subpaths", on_subpaths)
            .since(harness::Version::V26_1, "volume-subpath"),
    ]
}

pub(crate) fn take(engine: &Engine, name: &str, options: &[&str]) -> Result<()> {
    let mut arguments = vec!["volume", "create", "--driver", "pgvol", "--opt", "snapshot=now"];
    for option in options {
        arguments.extend(["--opt", option]);
    }
    arguments.push(name);
    engine.docker(&arguments).map(drop)
}

fn clone(engine: &Arc<Engine>, name: &'static str, from: &str) -> Result<Volume> {
    Volume::create(engine, "pgvol", name, &[&format!("from={from}")])
}

pub(crate) fn status(engine: &Engine, name: &str) -> Result<Value> {
    let shown = engine.docker(&["volume", "inspect", name])?;
    let shown: Value = serde_json::from_str(&shown)?;
    Ok(shown[0]["Status"].clone())
}

fn consistency(engine: &Engine, name: &str) -> Result<String> {
    let status = status(engine, name)?;
    let level = status["snapshot"]["consistency"].as_str();
    level.map(str::to_owned).with_context(|| format!("{status:#}"))
}

/// A server on all of `volume`, mounted at `at`.
pub(crate) fn server_at(engine: &Arc<Engine>, name: &str, volume: &str, at: &str) -> Result<Pg> {
    let (mount, data) = (format!("{volume}:{at}"), format!("PGDATA={at}/data"));
    Pg::start(engine, name, &["-v", &mount, "-e", &data])
}

/// One is there after a minute at most, of a server that works; it is not listed and can be cloned.
fn by_schedule(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let options = ["snapshot.schedule=* * * * *", "snapshot.keep=hourly=1"];
    let original = Volume::create(engine, stage.driver("pgvol")?, "db", &options)?;
    let pg = server(engine, &[])?;
    pg.psql("CREATE TABLE kept AS SELECT 17 AS n")?;
    let name = eventually(Duration::from_mins(3), || {
        let status = status(engine, original.name())?;
        let snapshot = &status["snapshots"][0];
        ensure!(snapshot["scheduled"] == true, "{status:#}");
        Ok(format!("{}@{}", original.name(), snapshot["name"].as_str().context("a name")?))
    })?;
    ensure!(!engine.docker(&["volume", "ls", "--quiet"])?.contains('@'), "it is listed");
    let copy = clone(engine, "copy", &name)?;
    let clone = server_at(engine, "clone", "copy", "/pg")?;
    ensure!(clone.psql("SELECT n FROM kept")? == "17");
    drop((clone, pg));
    copy.remove()?;
    original.remove()
}

/// A snapshot has all that was acknowledged before, and the original goes on.
fn under_load(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = volume(engine, stage.driver("pgvol")?)?;
    let pg = server(engine, &[])?;
    pg.psql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
    pg.psql("CREATE TABLE elsewhere (n int PRIMARY KEY) TABLESPACE fast")?;
    let mut writer = pg.writer()?;
    writer.advance(300)?;
    pg.psql("INSERT INTO elsewhere SELECT generate_series(1, 1000)")?;
    let before = pg.psql("SELECT max(n) FROM numbers")?.parse()?;
    take(engine, "db@first", &[])?;
    writer.advance(300)?;
    let shown = status(engine, "db@first")?;
    ensure!(shown["snapshot"]["consistency"] == "ordered", "{shown:#}");
    ensure!(shown["snapshot"]["checkpoint"]["took_ms"].is_u64(), "{shown:#}");
    // Whoever has to give a password gets no checkpoint, but a snapshot.
    pg.container().shell("sed -i '1i local all all scram-sha-256' /pg/data/pg_hba.conf")?;
    pg.container().shell("kill -HUP 1")?;
    take(engine, "db@second", &[])?;
    let shown = status(engine, "db@second")?;
    let why = shown["snapshot"]["checkpoint"]["not_made"].as_str().unwrap_or_default();
    ensure!(why.contains("it asks for a password"), "{shown:#}");
    pg.container().shell("sed -i 1d /pg/data/pg_hba.conf; kill -HUP 1")?;
    let copy = clone(engine, "copy", "db@first")?;
    let clone = server_at(engine, "clone", "copy", "/pg")?;
    clone.check_numbers(before)?;
    ensure!(clone.psql("SELECT count(*) FROM elsewhere")? == "1000");
    ensure!(clone.psql("SHOW cluster_name")? == "copy");
    clone.psql("INSERT INTO elsewhere VALUES (0); DELETE FROM numbers")?;
    ensure!(pg.psql("SELECT count(*) FROM elsewhere WHERE n = 0")? == "0", "one is the other");
    let last = writer.finish()?;
    pg.check_numbers(last)?;
    drop((clone, pg));
    copy.remove()?;
    // With its snapshot.
    original.remove()?;
    ensure!(engine.docker(&["volume", "ls", "--quiet"])?.is_empty(), "a snapshot is left");
    Ok(())
}

fn are_volumes(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = volume(engine, stage.driver("pgvol")?)?;
    let pg = server(engine, &[])?;
    pg.psql("CREATE TABLE t AS SELECT 7 AS n")?;
    let said = engine.refused(&["run", "--rm", "-v", "db@typo:/v:ro", "postgres:17", "true"])?;
    // Docker 20.10 asks whether there is one before it asks the driver to make it.
    ensure!(said.contains("typo"), "{said}");
    take(engine, "db@before-upgrade", &[])?;
    // One that the image asks for is beside.
    let listed = engine.docker(&["volume", "ls", "--quiet", "--filter", "name=db"])?;
    ensure!(listed.lines().any(|line| line == "db@before-upgrade"), "{listed}");
    let shown = status(engine, "db")?;
    ensure!(shown["snapshots"][0]["name"] == "before-upgrade", "{shown:#}");
    let look = "cat /v/data/PG_VERSION; ls /v/wal; ! touch /v/x /v/data/x /v/wal/x";
    let mount = "db@before-upgrade:/v:ro";
    let seen = engine.docker(&["run", "--rm", "-v", mount, "postgres:17", "sh", "-euc", look])?;
    ensure!(seen.starts_with("17\n000000010000000"), "{seen}");
    // Also where nobody asked for a mount that is read-only.
    let mount = "db@before-upgrade:/v";
    let keep = ["run", "-d", "--name", "reader", "-v", mount, "postgres:17", "sleep", "600"];
    engine.docker(&keep)?;
    engine.docker(&["exec", "reader", "sh", "-euc", look])?;
    drop(pg);
    let said = engine.refused(&["volume", "rm", "db"])?;
    ensure!(said.contains("db@before-upgrade is mounted"), "{said}");
    let said = engine.refused(&["volume", "rm", "db@before-upgrade"])?;
    ensure!(said.contains("in use"), "{said}");
    engine.docker(&["rm", "--force", "reader"])?;
    stage.plugin()?.kill()?;
    ensure!(consistency(engine, "db@before-upgrade")? == "ordered");
    engine.docker(&["volume", "rm", "db@before-upgrade"])?;
    original.remove()
}

fn levels(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = volume(engine, stage.driver("pgvol")?)?;
    let pg = server(engine, &[])?;
    let refuse = |level: &str, why: &str| -> Result<()> {
        let option = format!("consistency={level}");
        let create =
            ["volume", "create", "-d", "pgvol", "-o", "snapshot=now", "-o", &option, "db@no"];
        let said = engine.refused(&create)?;
        ensure!(said.contains(&format!("`{level}`")) && said.contains(why), "{said}");
        Ok(())
    };
    refuse("offline", "a server runs on it")?;
    refuse("atomic", "default and wal")?;
    pg.psql("ALTER SYSTEM SET full_page_writes = off")?;
    pg.psql("SELECT pg_reload_conf()")?;
    pg.psql("CHECKPOINT")?;
    refuse("ordered", "full_page_writes=off")?;
    pg.container().shell("kill -KILL 1 || :; kill -INT 1")?;
    drop(pg);
    take(engine, "db@unclean-or-not", &[])?;
    let level = consistency(engine, "db@unclean-or-not")?;
    ensure!(level.starts_with("offline"), "{level}");
    original.remove()?;
    // All in one pool.
    let one = Volume::create(engine, "pgvol", "db", &["wal.pool=default", "tablespaces=fast"])?;
    let pg = server(engine, &[])?;
    let mut writer = pg.writer()?;
    writer.advance(200)?;
    take(engine, "db@s", &["consistency=atomic"])?;
    ensure!(consistency(engine, "db@s")? == "atomic");
    drop((writer.finish()?, pg));
    take(engine, "db@t", &["consistency=ordered"])?;
    let copy = clone(engine, "copy", "db@s")?;
    let pg = server_at(engine, "clone", "copy", "/pg")?;
    pg.check_numbers(200)?;
    drop(pg);
    copy.remove()?;
    one.remove()
}

/// Everything is stopped for a moment and goes on; of a server that no other way is for, too.
fn at_a_barrier(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = volume(engine, stage.driver("pgvol")?)?;
    let pg = server(engine, &[])?;
    for setting in ["wal_level = minimal", "max_wal_senders = 0", "full_page_writes = off"] {
        pg.psql(&format!("ALTER SYSTEM SET {setting}"))?;
    }
    pg.restart()?;
    pg.psql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
    let mut writer = pg.writer()?;
    writer.advance(200)?;
    // Of which there is no WAL at this level.
    pg.psql("CREATE TABLE bare TABLESPACE fast AS SELECT generate_series(1, 100000) AS n")?;
    let before = pg.psql("SELECT max(n) FROM numbers")?.parse()?;
    take(engine, "db@auto", &[])?;
    ensure!(consistency(engine, "db@auto")? == "barrier");
    take(engine, "db@asked", &["consistency=barrier"])?;
    let shown = status(engine, "db@asked")?;
    ensure!(shown["snapshot"]["checkpoint"]["took_ms"].is_u64(), "{shown:#}");
    ensure!(shown["snapshot"]["stall_ms"].as_u64().is_some_and(|ms| ms < 2000), "{shown:#}");
    writer.advance(200)?;
    for snapshot in ["db@auto", "db@asked"] {
        let copy = clone(engine, "copy", snapshot)?;
        let clone = server_at(engine, "clone", "copy", "/pg")?;
        clone.check_numbers(before)?;
        ensure!(clone.psql("SELECT count(*), sum(n) FROM bare")? == "100000|5000050000");
        drop(clone);
        copy.remove()?;
    }
    // Whoever has it on the host itself cannot be stopped.
    engine.shell(
        "there=$(awk '$5 ~ \"/propagated-mount/db$\" { print $5; exit }' /proc/1/mountinfo)
        mkdir -p /mnt/there; mount --bind \"$there\" /mnt/there",
    )?;
    let said = engine.refused(&[
        "volume",
        "create",
        "-d",
        "pgvol",
        "-o",
        "snapshot=now",
        "-o",
        "consistency=barrier",
        "db@no",
    ]);
    engine.shell("umount /mnt/there")?;
    let said = said?;
    ensure!(said.contains("`barrier`") && said.contains("which is in no container"), "{said}");
    let last = writer.finish()?;
    pg.check_numbers(last)?;
    drop(pg);
    original.remove()
}

/// A volume gets the content of its snapshot, and what it was before can be had, too.
fn restored(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let plugin = stage.plugin()?;
    let original = volume(engine, stage.driver("pgvol")?)?;
    let pg = server(engine, &[])?;
    pg.psql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
    pg.psql("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 1000) AS n")?;
    take(engine, "db@s", &[])?;
    pg.psql("DROP TABLE t; CREATE TABLE later AS SELECT 7 AS n")?;
    let restore = json!({"name": "db@s", "keep": "kept"}).to_string();
    let (_, said) = plugin.call("/Pgvol.Restore", &restore)?;
    ensure!(said.to_string().contains("in use"), "{said}");
    engine.docker(&["stop", "server"])?;
    let (_, said) = plugin.call("/Pgvol.Restore", &restore)?;
    ensure!(said["kept"] == "db@kept", "{said}");
    plugin.kill()?;
    engine.docker(&["start", "server"])?;
    pg.wait_ready()?;
    ensure!(pg.psql("SELECT count(*), sum(n) FROM t")? == "1000|500500");
    ensure!(pg.psql("SELECT to_regclass('later') IS NULL")? == "t");
    pg.psql("UPDATE t SET n = n + 1")?;
    ensure!(consistency(engine, "db@kept")? == "offline");
    let copy = clone(engine, "copy", "db@kept")?;
    let clone = server_at(engine, "clone", "copy", "/pg")?;
    ensure!(clone.psql("SELECT n FROM later")? == "7");
    drop((clone, pg));
    copy.remove()?;
    original.remove()
}

/// A clone's links are right at another place, and never lead to the original's files.
fn elsewhere(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = volume(engine, stage.driver("pgvol")?)?;
    let pg = server(engine, &[])?;
    pg.psql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
    pg.psql("CREATE TABLE t (n int) TABLESPACE fast")?;
    pg.psql("ALTER SYSTEM SET archive_mode = on")?;
    pg.psql("ALTER SYSTEM SET archive_command = 'echo %p >>/pg/archived'")?;
    pg.psql("SELECT pg_create_physical_replication_slot('standby', true)")?;
    pg.psql("CHECKPOINT")?;
    let copy = clone(engine, "copy", "db")?;
    let shown = status(engine, "copy")?;
    let disarmed = shown["origin"]["sanitised"].to_string();
    ensure!(disarmed.contains("archive_command") && disarmed.contains("slot standby"), "{shown:#}");
    // Both volumes in one container, the original where its own links lead.
    let options = ["-v", "db:/pg", "-v", "copy:/clone", "-e", "PGDATA=/clone/data"];
    let beside = Pg::start(engine, "beside", &options)?;
    beside.psql("INSERT INTO t SELECT generate_series(1, 100000)")?;
    beside.psql("CHECKPOINT")?;
    ensure!(beside.psql("SELECT count(*) FROM pg_replication_slots")? == "0");
    ensure!(beside.psql("SHOW archive_mode")? == "off");
    let place =
        beside.container().shell("readlink -f /clone/data/pg_wal /clone/data/pg_tblspc/*")?;
    ensure!(place == "/clone/wal\n/clone/tablespaces/fast", "{place}");
    ensure!(pg.psql("SELECT count(*) FROM t")? == "0");
    beside.restart()?;
    ensure!(beside.psql("SELECT count(*) FROM t")? == "100000");
    drop((beside, pg));
    copy.remove()?;
    original.remove()
}

/// A standby's control file tells how far its WAL has to reach, to the byte.
fn of_a_standby(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = volume(engine, stage.driver("pgvol")?)?;
    let pg = server(engine, &[])?;
    pg.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")?;
    let options = ["from=db", "sanitize=off"];
    let replica = Volume::create(engine, "pgvol", "replica", &options)?;
    drop(pg);
    // One that has no primary to ask waits at the end of its WAL.
    let signal = "touch /pg/data/standby.signal";
    engine.docker(&["run", "--rm", "-v", "replica:/pg", "postgres:17", "sh", "-c", signal])?;
    let standby = server_at(engine, "standby", "replica", "/pg")?;
    ensure!(standby.psql("SELECT pg_is_in_recovery()")? == "t");
    take(engine, "replica@running", &[])?;
    engine.docker(&["stop", "standby"])?;
    take(engine, "replica@stopped", &[])?;
    ensure!(consistency(engine, "replica@running")? == "ordered");
    ensure!(consistency(engine, "replica@stopped")? == "offline");
    drop(standby);
    for snapshot in ["replica@running", "replica@stopped"] {
        let copy = clone(engine, "copy", snapshot)?;
        let clone = server_at(engine, "clone", "copy", "/pg")?;
        ensure!(clone.psql("SELECT count(*), sum(n) FROM t")? == "1000|500500");
        ensure!(clone.psql("SELECT pg_is_in_recovery()")? == "f");
        drop(clone);
        copy.remove()?;
    }
    replica.remove()?;
    original.remove()
}

fn on_subpaths(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = volume(engine, stage.driver("pgvol")?)?;
    let pg = Pg::start(engine, "server", SUBPATHS)?;
    pg.psql("CREATE TABLESPACE fast LOCATION '/fast'")?;
    pg.psql("CREATE TABLE t TABLESPACE fast AS SELECT 7 AS n")?;
    let copy = clone(engine, "copy", "db")?;
    let mounts: Vec<_> = SUBPATHS.iter().map(|word| word.replace("src=db", "src=copy")).collect();
    let mounts: Vec<_> = mounts.iter().map(String::as_str).collect();
    let clone = Pg::start(engine, "clone", &mounts)?;
    ensure!(clone.psql("SELECT n FROM t")? == "7");
    ensure!(clone.container().shell("readlink -f /data/pg_tblspc/*")? == "/fast");
    drop((clone, pg));
    copy.remove()?;
    original.remove()
}
