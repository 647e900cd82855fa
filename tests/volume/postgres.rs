//! PostgreSQL on a volume, with its WAL and a tablespace where they belong.

use std::sync::Arc;

use anyhow::{Result, ensure};
use harness::{Engine, Pg, Scenario, Stage, Version, Volume};

const DRIVERS: &[&str] = &["local", "pgvol"];

/// The whole volume at one place, roles named by their directories.
pub(crate) const WHOLE: &[&str] =
    &["-v", "db:/pg", "-e", "PGDATA=/pg/data", "-e", "POSTGRES_INITDB_WALDIR=/pg/wal"];

/// Each role at a place of its own.
pub(crate) const SUBPATHS: &[&str] = &[
    "--mount",
    "type=volume,src=db,dst=/data,volume-subpath=data",
    "--mount",
    "type=volume,src=db,dst=/wal,volume-subpath=wal",
    "--mount",
    "type=volume,src=db,dst=/fast,volume-subpath=tablespaces/fast",
    "-e",
    "PGDATA=/data",
    "-e",
    "POSTGRES_INITDB_WALDIR=/wal",
];

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut scenarios = Scenario::for_drivers("server_on_the_whole_volume", DRIVERS, whole);
    let on_subpaths = Scenario::for_drivers("server_on_subpaths", DRIVERS, subpaths);
    scenarios.extend(on_subpaths.into_iter().map(|it| it.since(Version::V26_1, "volume-subpath")));
    scenarios.push(Scenario::new("status_shows_the_cluster", cluster_in_status));
    scenarios
}

/// A volume for a cluster with the tablespace `fast`.
pub(crate) fn volume(engine: &Arc<Engine>, driver: &'static str) -> Result<Volume> {
    if driver == "pgvol" {
        return Volume::create(engine, driver, "db", &["tablespaces=fast"]);
    }
    // Docker's own driver knows no roles: they are made by hand.
    let volume = Volume::create(engine, driver, "db", &[])?;
    let script = "install -d -o 999 -g 999 -m 0700 /pg/data /pg/wal /pg/tablespaces/fast";
    engine.docker(&["run", "--rm", "-v", "db:/pg", "postgres:17", "bash", "-euc", script])?;
    Ok(volume)
}

/// A server on the whole volume `db`.
pub(crate) fn server(engine: &Arc<Engine>, options: &[&str]) -> Result<Pg> {
    Pg::start(engine, "server", &[WHOLE, options].concat())
}

fn whole(stage: &Stage, driver: &'static str) -> Result<()> {
    let volume = volume(stage.engine(), driver)?;
    let pg = server(stage.engine(), &[])?;
    exercise(&pg, "/pg/tablespaces/fast")?;
    let wal = pg.container().shell("readlink -f /pg/data/pg_wal; ls /pg/wal")?;
    ensure!(wal.starts_with("/pg/wal\n") && wal.contains("000000010000"), "{wal}");
    drop(pg);
    // Another container, the same cluster.
    let pg = server(stage.engine(), &[])?;
    check(&pg)?;
    drop(pg);
    volume.remove()
}

fn subpaths(stage: &Stage, driver: &'static str) -> Result<()> {
    let volume = volume(stage.engine(), driver)?;
    let pg = Pg::start(stage.engine(), "server", SUBPATHS)?;
    exercise(&pg, "/fast")?;
    drop(pg);
    let pg = Pg::start(stage.engine(), "server", SUBPATHS)?;
    check(&pg)?;
    drop(pg);
    volume.remove()
}

/// A tablespace, pgbench's tables and load, and a restart.
fn exercise(pg: &Pg, tablespace: &str) -> Result<()> {
    pg.psql(&format!("CREATE TABLESPACE fast LOCATION '{tablespace}'"))?;
    pg.pgbench(&["-i", "-q", "-s", "2", "--index-tablespace=fast"])?;
    pg.pgbench(&["-c", "4", "-j", "2", "-T", "3"])?;
    let before = state(pg)?;
    pg.restart()?;
    ensure!(state(pg)? == before, "the restart changed {before}");
    check(pg)
}

/// What a restart must not change.
fn state(pg: &Pg) -> Result<String> {
    pg.psql("SELECT count(*), sum(delta), max(mtime) FROM pgbench_history")
}

fn check(pg: &Pg) -> Result<()> {
    let accounts = pg.psql("SELECT count(*) FROM pgbench_accounts")?;
    ensure!(accounts == "200000", "{accounts} accounts");
    let sums = pg.psql(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) =
                (SELECT coalesce(sum(delta), 0) FROM pgbench_history)",
    )?;
    ensure!(sums == "t", "balances and history do not agree");
    let files = pg.psql(
        "SELECT pg_relation_filepath('pgbench_accounts_pkey') LIKE 'pg_tblspc/%'
            AND pg_relation_size('pgbench_accounts_pkey') > 0",
    )?;
    ensure!(files == "t", "the index is not in the tablespace");
    // Every page of the index and, through it, of the table.
    pg.psql("CREATE EXTENSION IF NOT EXISTS amcheck")?;
    pg.psql("SELECT bt_index_check('pgbench_accounts_pkey', true)").map(drop)
}

fn cluster_in_status(stage: &Stage) -> Result<()> {
    let volume = volume(stage.engine(), stage.driver("pgvol")?)?;
    let pg = server(stage.engine(), &[])?;
    let identifier = pg.psql("SELECT system_identifier FROM pg_control_system()")?;
    pg.psql("CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")?;
    pg.psql("CHECKPOINT")?;
    let shown = volume.inspect()?;
    let cluster = shown["Status"]["postgres"].to_string();
    ensure!(cluster.contains(&identifier), "no {identifier} in {shown:#}");
    ensure!(cluster.contains("17"), "no version 17 in {shown:#}");
    let mounts = shown["Status"]["mounts"].to_string();
    ensure!(mounts != "null" && mounts != "[]" && mounts != "0", "no mounts in {shown:#}");
    drop(pg);
    volume.remove()
}
