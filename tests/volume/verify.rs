//! Servers that are started on clones of snapshots, to search or to prepare them: `docker pgvol verify --start`
//! and `docker pgvol prepare`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Engine, Pg, Scenario, Stage, Volume, eventually};
use serde_json::Value;

use crate::postgres::{server, volume};
use crate::snapshots::{server_at, status, take};

/// As root of a host would install it. Volumes without a name are what other scenarios have left, those
/// that kill engines.
pub(crate) const BEGIN: &str =
    "install -D -t /usr/local/lib/docker/cli-plugins /srv/cli-plugins/docker-pgvol
    docker volume ls --quiet | { grep -xE '[0-9a-f]{64}' || :; } | xargs -r docker volume rm";

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("snapshot_verified_by_a_server", verified).tolerating(&["Pgvol."]),
        Scenario::new("verify_by_a_server_leaves_nothing_behind", interrupted)
            .tolerating(&["Pgvol."]),
        Scenario::new("snapshot_prepared_by_a_server", prepared).tolerating(&["Pgvol."]),
    ]
}

/// Runs a shell command on the engine's host; gives its status and all that it said.
fn ends(engine: &Engine, command: &str) -> Result<(String, String)> {
    let said = engine.shell(&format!("{{ {command}; }} 2>&1 && s=0 || s=$?; echo $s"))?;
    let (said, status) = said.rsplit_once('\n').unwrap_or(("", &said));
    Ok((status.to_owned(), said.to_owned()))
}

/// What came of these checks of the snapshot, by its Status.
fn outcomes(engine: &Engine, snapshot: &str) -> Result<String> {
    let status = status(engine, snapshot)?;
    let checks = status["snapshot"]["checks"].as_array().context("checks")?;
    let shown = checks.iter().filter(|check| check["at"].is_string()).map(|check| {
        let outcome = check["outcome"].as_str().unwrap_or("passed");
        format!("{} {outcome}", check["name"].as_str().unwrap_or_default())
    });
    Ok(shown.collect::<Vec<_>>().join(", "))
}

/// That no clone and no container is there but these.
fn nothing_else(engine: &Engine, volumes: &str, containers: &str) -> Result<()> {
    let list: Value = serde_json::from_str(&engine.docker(&["pgvol", "ls", "--json"])?)?;
    let list = list["volumes"].as_array().context("volumes")?;
    let names: Vec<_> = list.iter().filter_map(|volume| volume["name"].as_str()).collect();
    ensure!(names.join(" ") == volumes, "{names:?}");
    let all = engine.docker(&["ps", "--all", "--format", "{{.Names}}"])?;
    ensure!(all == containers, "{all}");
    let anonymous = engine.docker(&["volume", "ls", "--quiet", "--filter", "dangling=true"])?;
    let left = anonymous.lines().find(|name| name.len() == 64);
    ensure!(left.is_none(), "{anonymous}");
    Ok(())
}

/// An image like `postgres:17` without these files.
fn image_without(engine: &Engine, name: &str, files: &str) -> Result<()> {
    let script = format!("rm -r {files}");
    engine.docker(&["run", "--name", "made", "--entrypoint=sh", "postgres:17", "-euc", &script])?;
    engine.docker(&["commit", "made", name])?;
    engine.docker(&["rm", "--volumes", "made"]).map(drop)
}

fn verified(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = volume(engine, stage.driver("pgvol")?)?;
    engine.shell(BEGIN)?;
    let pg = server(engine, &["-e", "POSTGRES_USER=owner"])?;
    // The entrypoint's first superuser is not called postgres.
    let sql = |sql: &str| engine.docker(&["exec", "server", "psql", "-U", "owner", "-c", sql]);
    sql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
    sql("CREATE TABLE t (n int PRIMARY KEY USING INDEX TABLESPACE fast, x text)")?;
    sql("INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 20000) AS n")?;
    take(engine, "db@s", &[])?;
    let (status, said) = ends(engine, "docker pgvol verify --pages --start db@s")?;
    ensure!(status == "0", "{said}");
    ensure!(said.contains("pg_amcheck with heapallindexed found nothing in 3 databases"), "{said}");
    ensure!(said.contains("recovered and answered after"), "{said}");
    let all = "control passed, wal passed, tablespaces passed, pages passed, start passed, \
               amcheck passed, log passed";
    ensure!(outcomes(engine, "db@s")? == all, "{}", outcomes(engine, "db@s")?);
    let listed = engine.docker(&["pgvol", "snapshot", "ls", "db"])?;
    ensure!(listed.contains("start, amcheck") && listed.contains("s ago)"), "{listed}");
    // Of a volume as it is now; nothing is noted anywhere.
    let said = engine.docker(&["pgvol", "verify", "--start", "db"])?;
    ensure!(said.contains("amcheck") && !said.contains("tablespaces"), "{said}");
    nothing_else(engine, "db db@s", "server")?;
    // Without pg_amcheck by the extension's functions, without the extension not at all.
    image_without(engine, "functions", "/usr/lib/postgresql/17/bin/pg_amcheck")?;
    image_without(engine, "bare", "/usr/share/postgresql/17/extension/amcheck.control")?;
    let said = engine.docker(&["pgvol", "verify", "--start", "--image=functions", "db@s"])?;
    ensure!(said.contains("bt_index_check with heapallindexed found nothing"), "{said}");
    let (code, said) = ends(engine, "docker pgvol verify --start --image=bare db@s")?;
    ensure!(code == "1" && said.contains("did not pass all: amcheck not possible"), "{said}");
    ensure!(outcomes(engine, "db@s")?.contains("amcheck not-possible"));
    // Neither is the server's image known nor is any other right.
    drop(pg);
    let (code, said) = ends(engine, "docker pgvol verify --start db@s")?;
    ensure!(code == "1" && said.contains("with PostgreSQL 17 by --image"), "{said}");
    let sixteen =
        "printf '#!/bin/sh\necho postgres \\(PostgreSQL\\) 16.4\n' >/usr/local/bin/postgres";
    let other = format!(
        "{sixteen}; chmod +x /usr/local/bin/postgres; rm /usr/lib/postgresql/17/bin/postgres"
    );
    let run = ["run", "--name", "made", "--entrypoint=sh", "postgres:17", "-euc", &other];
    engine.docker(&run)?;
    engine.docker(&["commit", "made", "sixteen"])?;
    engine.docker(&["rm", "--volumes", "made"])?;
    let (code, said) = ends(engine, "docker pgvol verify --start --image=sixteen db@s")?;
    ensure!(code == "1" && said.contains("has PostgreSQL 16, and the cluster is of 17"), "{said}");
    // An index that lies: the page is as it should be, what it says is not.
    let said = damaged(engine)?;
    ensure!(said.contains("failed"), "{said}");
    nothing_else(engine, "db db@bad db@s", "")?;
    original.remove()
}

/// A snapshot whose table lacks what its index has is named, and so it is kept.
fn damaged(engine: &Engine) -> Result<String> {
    let script = r#"
exec setpriv --reuid=postgres --regid=postgres --init-groups bash -euc '
pg_ctl -w -l /tmp/log -D /pg/data -o "-c listen_addresses= -c allow_system_table_mods=on" start >/dev/null
psql -XAtq -U owner -v ON_ERROR_STOP=1 -c "CREATE TABLE liar (n int PRIMARY KEY)"     -c "INSERT INTO liar SELECT generate_series(1, 1000)"     -c "UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = '"'liar_pkey'"'::regclass"     -c "INSERT INTO liar SELECT generate_series(2001, 3000)"     -c "UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = '"'liar_pkey'"'::regclass"
pg_ctl -w -m fast -D /pg/data stop >/dev/null'"#;
    engine.docker(&[
        "run",
        "--rm",
        "-v",
        "db:/pg",
        "--entrypoint=bash",
        "postgres:17",
        "-euc",
        script,
    ])?;
    take(engine, "db@bad", &[])?;
    let (code, said) = ends(engine, "docker pgvol verify --start --image=postgres:17 db@bad")?;
    ensure!(code == "1" && said.contains("did not pass all: amcheck failed"), "{said}");
    outcomes(engine, "db@bad")
}

/// A run that is told to end takes its server and clone along; what a killed one leaves goes with the next.
fn interrupted(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = volume(engine, stage.driver("pgvol")?)?;
    engine.shell(BEGIN)?;
    let pg = server(engine, &[])?;
    take(engine, "db@s", &[])?;
    // A server that never has recovered, as far as the script can see.
    let slow = "printf '#!/bin/sh\ntouch /run/pgvol-trial/slow; exec sleep 1000\n' >/usr/local/bin/pg_controldata";
    let script = format!(
        "{slow}; chmod +x /usr/local/bin/pg_controldata; rm /usr/lib/postgresql/17/bin/pg_controldata"
    );
    let run = ["run", "--name", "made", "--entrypoint=sh", "postgres:17", "-euc", &script];
    engine.docker(&run)?;
    engine.docker(&["commit", "made", "slow"])?;
    engine.docker(&["rm", "--volumes", "made"])?;
    let begin = "setsid docker pgvol verify --start --image=slow db@s >/tmp/said 2>&1 & echo $!";
    let running = || {
        let ids = engine.docker(&["ps", "--quiet", "--filter", "label=pgvol.trial"])?;
        ensure!(!ids.is_empty(), "no container yet");
        engine.docker(&["exec", &ids, "test", "-e", "/run/pgvol-trial/slow"])
    };
    let ended = |pid: &str| {
        engine.shell(&format!("! [ -e /proc/{pid} ] || grep -q '^State:.*Z' /proc/{pid}/status"))
    };
    // As a terminal does it: every process of the foreground.
    let pid = engine.shell(begin)?;
    eventually(Duration::from_mins(1), running)?;
    engine.shell(&format!("kill -INT -- -{pid}"))?;
    eventually(Duration::from_mins(1), || ended(&pid))?;
    ensure!(engine.shell("cat /tmp/said")?.contains("interrupted"), "not interrupted");
    nothing_else(engine, "db db@s", "server")?;
    let pid = engine.shell(begin)?;
    eventually(Duration::from_mins(1), running)?;
    engine.shell(&format!("pkill -KILL -x docker-pgvol; kill -KILL {pid} || :"))?;
    // The container goes by itself, the clone with the next run.
    eventually(Duration::from_mins(1), || {
        let all = engine.docker(&["ps", "--all", "--format", "{{.Names}}"])?;
        ensure!(all == "server", "{all}");
        Ok(())
    })?;
    let list = engine.docker(&["pgvol", "ls"])?;
    ensure!(list.contains("pgvol.trial=db@s"), "{list}");
    engine.docker(&["pgvol", "verify", "--start", "db@s"])?;
    nothing_else(engine, "db db@s", "server")?;
    drop(pg);
    original.remove()
}

/// Clones of a prepared snapshot have nothing to recover, and what was captured stays as it was.
fn prepared(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let original = volume(engine, stage.driver("pgvol")?)?;
    engine.shell(BEGIN)?;
    let pg = server(engine, &[])?;
    pg.psql("ALTER SYSTEM SET track_commit_timestamp = on")?;
    pg.restart()?;
    pg.psql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
    pg.psql("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 10000) AS n")?;
    pg.psql("ALTER SYSTEM SET archive_command = 'cp %p /archive'")?;
    // As where a server's command line has it.
    pg.psql("ALTER SYSTEM RESET track_commit_timestamp")?;
    take(engine, "db@s", &[])?;
    let name = engine.docker(&["pgvol", "prepare", "db@s"])?;
    ensure!(name == "db@s-prepared", "{name}");
    nothing_else(engine, "db db@s db@s-prepared", "server")?;
    let shown = status(engine, &name)?;
    ensure!(shown["snapshot"]["consistency"] == "offline", "{shown:#}");
    for (from, recovers) in [(&["from=db@s"][..], false), (&["from=db@s", "prepared=off"], true)] {
        let copy = Volume::create(engine, "pgvol", "copy", from)?;
        let origin = status(engine, "copy")?["origin"].clone();
        ensure!(origin["from"] == "db@s" && origin["prepared"].is_null() == recovers, "{origin:#}");
        ensure!(origin["sanitised"].to_string().contains("archive_command"), "{origin:#}");
        let on = "echo track_commit_timestamp=on >>/pg/data/postgresql.auto.conf";
        engine.docker(&["run", "--rm", "-v", "copy:/pg", "postgres:17", "sh", "-c", on])?;
        let clone = server_at(engine, "clone", "copy", "/pg")?;
        let known = "SELECT count(*) FROM t WHERE pg_xact_commit_timestamp(xmin) IS NOT NULL";
        ensure!(clone.psql(known)? == "10000");
        ensure!(clone.psql("SHOW cluster_name")? == "copy");
        let said = clone.container().logs(&[])?.stderr;
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(said.contains("not properly shut down") == recovers, "{said}");
        drop(clone);
        copy.remove()?;
    }
    drop::<Pg>(pg);
    original.remove()
}
