//! Snapshots of the level `backup`: of a server without full pages in its WAL, in a pool that copies files.

use anyhow::{Result, ensure};
use harness::{Pg, Scenario, Stage, Volume};
use serde_json::Value;

use crate::postgres::server;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("snapshot_under_a_backup", under_a_backup)
            .tolerating(&["VolumeDriver.Create"]),
    ]
}

fn under_a_backup(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let options = ["tablespaces=fast", "pool=wal", "tablespace.fast.pool=default"];
    let original = Volume::create(engine, stage.driver("pgvol")?, "db", &options)?;
    let take =
        ["volume", "create", "-d", "pgvol", "-o", "snapshot=now", "-o", "consistency=backup"];
    let pg = server(engine, &[])?;
    pg.psql("ALTER SYSTEM SET full_page_writes = off")?;
    pg.psql("SELECT pg_reload_conf()")?;
    pg.psql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
    let mut writer = pg.writer()?;
    writer.advance(200)?;
    pg.psql("CREATE TABLE far TABLESPACE fast AS SELECT generate_series(1, 1000) AS n")?;
    let before = pg.psql("SELECT max(n) FROM numbers")?.parse()?;
    engine.docker(&[&take[..], &["db@s"]].concat())?;
    let shown: Value = serde_json::from_str(&engine.docker(&["volume", "inspect", "db@s"])?)?;
    let snapshot = &shown[0]["Status"]["snapshot"];
    let label = snapshot["backup"]["label"].as_str().unwrap_or_default();
    ensure!(snapshot["consistency"] == "backup" && label.contains("LABEL: pgvol"), "{snapshot:#}");
    let checks = snapshot["checks"].to_string();
    ensure!(checks.contains("the WAL kept for it"), "{checks}");
    // The session is over, and with it what it made the server keep.
    ensure!(pg.psql("SELECT count(*) FROM pg_replication_slots")? == "0");
    let looked = engine.docker(&[
        "run",
        "--rm",
        "-v",
        "db@s:/pg:ro",
        "postgres:17",
        "bash",
        "-c",
        "ls /pg/data",
    ])?;
    ensure!(!looked.contains("backup_label") && looked.contains("PG_VERSION"), "{looked}");
    writer.advance(200)?;
    let copy = Volume::create(engine, "pgvol", "copy", &["from=db@s"])?;
    let read = ["run", "--rm", "-v", "copy:/pg", "postgres:17", "cat", "/pg/data/backup_label"];
    ensure!(engine.docker(&read)? == label.trim_end(), "another label than {label}");
    let clone = Pg::start(engine, "clone", &["-v", "copy:/pg", "-e", "PGDATA=/pg/data"])?;
    clone.check_numbers(before)?;
    ensure!(clone.psql("SELECT count(*), sum(n) FROM far")? == "1000|500500");
    drop(clone);
    copy.remove()?;
    let last = writer.finish()?;
    for setting in ["wal_level = minimal", "max_wal_senders = 0"] {
        pg.psql(&format!("ALTER SYSTEM SET {setting}"))?;
    }
    pg.restart()?;
    let said = engine.refused(&[&take[..], &["db@no"]].concat())?;
    ensure!(
        said.contains("`backup` cannot be had: a server runs with wal_level=minimal"),
        "{said}"
    );
    pg.check_numbers(last)?;
    drop(pg);
    let said = engine.refused(&[&take[..], &["db@no"]].concat())?;
    ensure!(said.contains("`backup` cannot be had: no server runs on it"), "{said}");
    original.remove()
}
