//! One server for each cluster, in whatever order containers, servers, plugin and engine come.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Engine, Pg, RestartMode, Scenario, Stage, Version, Volume, eventually};
use serde_json::Value;

use crate::postgres::{SUBPATHS, WHOLE, server, volume};

/// What a server says that is refused.
const DENIED: &str = "pg_control\": Operation not permitted";

const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("guard::beside_a_running_server", beside_a_running_server),
        Scenario::new("guard::on_subpaths", on_subpaths).since(Version::V26_1, "volume-subpath"),
        Scenario::new("guard::during_initdb", during_initdb),
        Scenario::new("guard::at_the_same_instant", at_the_same_instant),
        Scenario::new("guard::restarted_and_killed_servers", restarted_and_killed),
        Scenario::new("guard::two_clusters_in_one_container", two_clusters),
        Scenario::new("guard::plugin_killed", plugin_killed),
        Scenario::new("guard::engine_killed", engine_killed),
        Scenario::new("guard::plugin_disabled", plugin_disabled)
            .tolerating(&["several servers run"]),
    ]
}

/// A container that has the volume `db` and in which servers are started by hand.
struct Host(Container);

impl Host {
    fn run(engine: &Arc<Engine>, name: &str) -> Result<Self> {
        // A first process that takes up the ended ones of others.
        let idle = ["postgres:17", "bash", "-c", "while :; do sleep 1; done"];
        let command = [WHOLE, &idle].concat();
        Container::run(engine, name, &command).map(Self)
    }

    /// Runs a script as the user of the server.
    fn shell(&self, script: &str) -> Result<String> {
        self.0.shell(&format!("exec su postgres -s /bin/bash -c '{script}'"))
    }

    /// Starts a server on the cluster in `data` and leaves it to itself.
    fn begin(&self, data: &str) -> Result<()> {
        let port = if data == "data" { 5432 } else { 5433 };
        self.shell(&format!("postgres -D /pg/{data} -p {port} >>/tmp/log 2>&1 </dev/null &"))
            .map(drop)
    }

    /// Starts a server and waits until it answers.
    fn serve(&self, data: &str) -> Result<()> {
        self.begin(data)?;
        eventually(LIMIT, || self.psql(data, "SELECT 1")).map(drop)
    }

    fn psql(&self, data: &str, sql: &str) -> Result<String> {
        let port = if data == "data" { 5432 } else { 5433 };
        self.shell(&format!("psql -p {port} -XAtqc \"{sql}\""))
    }

    /// Waits until a server that was begun is refused.
    fn wait_refused(&self) -> Result<()> {
        eventually(LIMIT, || {
            let log = self.shell("cat /tmp/log")?;
            ensure!(log.contains(DENIED), "the server says: {log}");
            Ok(())
        })?;
        ensure!(!self.runs()?, "a server runs all the same");
        self.shell("rm /tmp/log").map(drop)
    }

    fn runs(&self) -> Result<bool> {
        Ok(!self.shell("pgrep -x postgres || :")?.is_empty())
    }

    fn stop(&self) -> Result<()> {
        self.shell("pg_ctl -D /pg/data -m fast -w stop").map(drop)
    }
}

fn expect_refused(engine: &Arc<Engine>, name: &str, options: &[&str]) -> Result<()> {
    let second = Pg::run(engine, name, options)?;
    ensure!(second.container().wait(LIMIT)? != 0, "the second server ended well");
    let logs = second.container().logs(&[])?;
    let said = String::from_utf8_lossy(&[logs.stdout, logs.stderr].concat()).into_owned();
    ensure!(said.contains(DENIED), "the second server says: {said}");
    Ok(())
}

fn running(volume: &Volume) -> Result<Value> {
    Ok(volume.inspect()?["Status"]["postgres"]["running"].clone())
}

/// Refused; readers are not, and Status tells who serves.
fn beside_a_running_server(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    stage.plugin()?;
    let volume = volume(engine, "pgvol")?;
    let first = server(engine, &[])?;
    let mut writer = first.writer()?;
    expect_refused(engine, "second", WHOLE)?;
    first.psql("CHECKPOINT")?;
    writer.advance(100)?;

    let look = "pg_controldata -D /pg/data | grep production; tar c /pg/data | wc -c;
        cat /pg/data/postmaster.pid /pg/data/pg_wal/0* >/dev/null";
    let sidecar = [&["run", "--rm"], WHOLE, &["postgres:17", "bash", "-euc", look]].concat();
    ensure!(engine.docker(&sidecar)?.contains("in production"));
    let single = ["run", "--rm", "--user=postgres"];
    let command = ["postgres:17", "postgres", "--single", "postgres"];
    let said = engine.refused(&[&single, WHOLE, &command].concat())?;
    ensure!(said.contains("Operation not permitted"), "a single-user server says: {said}");

    let last = writer.finish()?;
    intact(&first, last)?;
    let status = volume.inspect()?["Status"].clone();
    let server = &status["postgres"]["running"][0];
    let id = first.container().inspect("{{.Id}}")?;
    let pid = first.container().inspect("{{.State.Pid}}")?;
    ensure!(status["access"] == "guarded" && status["state"] == "ok", "{status:#}");
    ensure!(server["container"] == id.as_str() && server["directory"] == "data", "{status:#}");
    ensure!(
        pid_inside(engine, &server["pid"])? == pid_inside(engine, &pid.parse()?)?,
        "{status:#}"
    );
    ensure!(server["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{status:#}");
    ensure!(status["guard"]["refused"].as_u64() >= Some(2), "{status:#}");
    ensure!(status["guard"]["unjudged"] == 0, "{status:#}");
    drop(first);
    eventually(LIMIT, || {
        let running = running(&volume)?;
        ensure!(running.is_null(), "still shown: {running}");
        Ok(())
    })?;
    // Whoever comes next has it.
    let next = Pg::start(engine, "next", WHOLE)?;
    intact(&next, last)?;
    drop(next);
    volume.remove()
}

/// Whichever of the two mounts the data alone.
fn on_subpaths(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    stage.plugin()?;
    let volume = volume(engine, "pgvol")?;
    for (first, second) in [(WHOLE, SUBPATHS), (SUBPATHS, WHOLE), (SUBPATHS, SUBPATHS)] {
        let first = Pg::start(engine, "first", first)?;
        expect_refused(engine, "second", second)?;
        first.psql("CHECKPOINT")?;
        // The cluster has the path of its WAL in it, which differs between the two.
        drop(first);
        let clear = "rm -rf /pg/data/* /pg/wal/*";
        engine
            .docker(&[&["run", "--rm"], WHOLE, &["postgres:17", "bash", "-euc", clear]].concat())?;
    }
    volume.remove()
}

/// Every number that was acknowledged is there, and the index agrees with its table.
fn intact(pg: &Pg, last: u64) -> Result<()> {
    pg.check_numbers(last)?;
    pg.psql("CREATE EXTENSION IF NOT EXISTS amcheck")?;
    pg.psql("SELECT bt_index_check('numbers_pkey', true)").map(drop)
}

/// A process, whatever it is called by.
fn pid_inside(engine: &Engine, pid: &Value) -> Result<String> {
    engine.shell(&format!("readlink /proc/{pid}/ns/pid"))
}

/// The cluster is not there when both have the volume, and being made when the second starts.
fn during_initdb(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    stage.plugin()?;
    // In the image, and in a plain directory of the host.
    for (data, pool) in [("data", "pool=default"), ("data/17/main", "pool=wal")] {
        let volume = Volume::create(engine, "pgvol", "db", &[pool])?;
        let (first, second) = (Host::run(engine, "first")?, Host::run(engine, "second")?);
        second.shell(&format!(
            "(until [ -s /pg/{data}/global/pg_control ]; do sleep 0.01; done
              postgres -D /pg/{data} >>/tmp/log 2>&1) </dev/null >/dev/null 2>&1 &"
        ))?;
        first.shell(&format!("initdb -A trust -D /pg/{data}"))?;
        second.wait_refused()?;
        first.serve(data)?;
        second.begin(data)?;
        second.wait_refused()?;
        first.psql(data, "CHECKPOINT")?;
        first.psql(data, "CREATE TABLE t AS SELECT 1")?;
        drop((first, second));
        volume.remove()?;
    }
    Ok(())
}

/// Exactly one of two runs.
fn at_the_same_instant(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    stage.plugin()?;
    let volume = volume(engine, "pgvol")?;
    let (left, right) = (Host::run(engine, "left")?, Host::run(engine, "right")?);
    left.shell("initdb -A trust -D /pg/data")?;
    for _ in 0..3 {
        let begin = |name: &str| {
            format!(
                "docker exec --user=postgres {name} bash -c 'postgres >>/tmp/log 2>&1 </dev/null &' & "
            )
        };
        engine.shell(&format!("{}{}wait", begin("left"), begin("right")))?;
        let (winner, loser) = eventually(LIMIT, || {
            for (one, other) in [(&left, &right), (&right, &left)] {
                if one.psql("data", "SELECT 1").is_ok() && !other.runs()? {
                    return Ok((one, other));
                }
            }
            anyhow::bail!("left runs: {}, right runs: {}", left.runs()?, right.runs()?)
        })?;
        loser.wait_refused()?;
        winner.psql("data", "CHECKPOINT")?;
        winner.stop()?;
    }
    drop((left, right));
    volume.remove()
}

/// Servers come and go inside containers that stay; the one that is dead keeps nobody off.
fn restarted_and_killed(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    stage.plugin()?;
    let volume = volume(engine, "pgvol")?;
    let (first, second) = (Host::run(engine, "first")?, Host::run(engine, "second")?);
    first.shell("initdb -A trust -D /pg/data")?;
    for _ in 0..2 {
        first.serve("data")?;
        second.begin("data")?;
        second.wait_refused()?;
        first.stop()?;
    }
    first.serve("data")?;
    first.psql("data", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")?;
    // Its lock file stays.
    first.shell("kill -9 $(head -1 /pg/data/postmaster.pid)")?;
    eventually(LIMIT, || {
        ensure!(!first.runs()?, "the killed server's processes are there");
        Ok(())
    })?;
    second.serve("data")?;
    ensure!(second.psql("data", "SELECT count(*) FROM t")? == "1000", "rows are gone");
    first.begin("data")?;
    first.wait_refused()?;
    second.psql("data", "CHECKPOINT")?;
    drop((first, second));
    volume.remove()
}

/// As `pg_upgrade` has them: two servers in one container, on two clusters of one volume.
fn two_clusters(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    stage.plugin()?;
    let volume = volume(engine, "pgvol")?;
    let host = Host::run(engine, "upgrade")?;
    for data in ["data/old", "data/new"] {
        host.shell(&format!("initdb -A trust -D /pg/{data}"))?;
    }
    host.begin("data/new")?;
    host.shell("postgres -D /pg/data/old -p 5432 >>/tmp/log 2>&1 </dev/null &")?;
    for data in ["data", "data/new"] {
        eventually(LIMIT, || host.psql(data, "CHECKPOINT"))?;
    }
    let shown = running(&volume)?;
    ensure!(shown.as_array().is_some_and(|servers| servers.len() == 2), "{shown:#}");
    // Beside it each of the two is guarded.
    let other = Host::run(engine, "other")?;
    for data in ["data/old", "data/new"] {
        other.begin(data)?;
        other.wait_refused()?;
    }
    drop((host, other));
    volume.remove()
}

fn wait_known(volume: &Volume) -> Result<()> {
    eventually(LIMIT, || {
        let running = running(volume)?;
        ensure!(running[0]["pid"].is_u64(), "the server is not known: {running}");
        Ok(())
    })
}

fn plugin_killed(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let plugin = stage.plugin()?;
    let volume = volume(engine, "pgvol")?;
    let first = server(engine, &[])?;
    let second = Host::run(engine, "second")?;
    let mut writer = first.writer()?;
    for _ in 0..2 {
        plugin.kill()?;
        wait_known(&volume)?;
        second.begin("data")?;
        second.wait_refused()?;
        expect_refused(engine, "third", WHOLE)?;
        writer.advance(100)?;
    }
    let last = writer.finish()?;
    first.psql("CHECKPOINT")?;
    first.check_numbers(last)?;
    drop((first, second));
    volume.remove()
}

/// Containers and plugin live on without dockerd.
fn engine_killed(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    stage.plugin()?;
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::LiveRestore)?;
    let volume = volume(engine, "pgvol")?;
    let first = server(engine, &[])?;
    let second = Host::run(engine, "second")?;
    engine.kill_daemon()?;
    engine.start_daemon(RestartMode::LiveRestore)?;
    wait_known(&volume)?;
    second.begin("data")?;
    second.wait_refused()?;
    first.psql("CHECKPOINT")?;
    first.container().stop(LIMIT)?;
    second.serve("data")?;
    drop((first, second));
    volume.remove()?;
    engine.stop_daemon()?;
    engine.start_daemon(RestartMode::Plain)
}

/// While there is no plugin nobody guards. The next one tells what it finds, and guards those
/// that have kept the volume.
fn plugin_disabled(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let plugin = stage.plugin()?;
    let volume = volume(engine, "pgvol")?;
    let (first, second) = (Host::run(engine, "first")?, Host::run(engine, "second")?);
    first.shell("initdb -A trust -D /pg/data")?;
    first.serve("data")?;
    plugin.disable()?;
    plugin.enable()?;
    wait_known(&volume)?;
    second.begin("data")?;
    second.wait_refused()?;
    plugin.disable()?;
    second.serve("data")?;
    plugin.enable()?;
    let status = eventually(LIMIT, || {
        let status = volume.inspect()?["Status"].clone();
        ensure!(status["state"] == "degraded", "{status:#}");
        Ok(status)
    })?;
    let reason = status["reason"].as_str().unwrap_or_default();
    for host in [&first, &second] {
        let id = host.0.inspect("{{.Id}}")?;
        ensure!(
            reason.contains("several servers run on data") && reason.contains(&id[..12]),
            "{reason}"
        );
    }
    drop(second);
    eventually(LIMIT, || {
        let status = volume.inspect()?["Status"].clone();
        ensure!(status["state"] == "ok", "{status:#}");
        Ok(())
    })?;
    drop(first);
    volume.remove()
}
