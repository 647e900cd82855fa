//! A server in a service: its task is replaced in every way that swarm has, its data and its logs
//! stay.

use std::sync::Arc;

use anyhow::{Result, ensure};
use harness::{Engine, RestartMode, Scenario, Stage, Writer, eventually};

use crate::service::{LIMIT, Service, Swarm};

/// Acknowledged to a client before each change.
const COMMITS: u64 = 50;

const READY: &str = "database system is ready to accept connections";

const SERVER: &[&str] = &[
    "--mount=type=volume,src=appdb,dst=/pg,volume-driver=pgvol,volume-opt=label.team=blue,\
     volume-opt=tablespaces=fast",
    "--log-driver=pglog",
    "--env=PGDATA=/pg/data",
    "--env=POSTGRES_INITDB_WALDIR=/pg/wal",
    "--env=POSTGRES_PASSWORD=secret",
    // A task that was killed is not to wait for long.
    "--restart-delay=0s",
    "postgres:17",
];

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("a_server_in_a_service_is_updated_and_restarted", server)]
}

/// One way in which a task comes to its end and another takes its place.
type Change = (&'static str, fn(&Swarm, &Service, &str) -> Result<()>);

const CHANGES: [Change; 7] = [
    ("update --force", |_, service, _| service.update(&["--force"])),
    ("another environment", |_, service, _| service.update(&["--env-add=NEW=1"])),
    ("another image", |swarm, service, _| {
        swarm.engine.docker(&["tag", "postgres:17", "postgres:next"])?;
        service.update(&["--image=postgres:next", "--no-resolve-image"])
    }),
    ("update, the next task first", |_, service, _| {
        service.update(&["--force", "--update-order=start-first"])
    }),
    ("the server killed", |swarm, _, task| {
        swarm.engine.docker(&["kill", "--signal=KILL", task]).map(drop)
    }),
    ("scaled to none and back", |_, service, _| {
        service.update(&["--replicas=0"])?;
        service.wait_none()?;
        service.update(&["--replicas=1"])
    }),
    ("engine restarted", |swarm, _, _| {
        swarm.engine.stop_daemon()?;
        swarm.engine.start_daemon(RestartMode::Plain)
    }),
];

fn server(stage: &Stage) -> Result<()> {
    Swarm::with(stage, |swarm| {
        let service = Service::create(swarm, "app", SERVER)?;
        let mut task = service.wait_task("")?;
        let mut most = 0;
        for (number, (what, change)) in CHANGES.into_iter().enumerate() {
            let context = |error: anyhow::Error| error.context(what);
            task = replace(swarm, &service, &task, number, change).map_err(context)?;
            most = check_logs(&swarm.engine, &service).map_err(context)?.max(most);
        }
        ensure!(most >= 4, "the logs of {most} tasks at once");
        // Volumes outlive a service: another one goes on with the same data.
        service.remove()?;
        let service = Service::create(swarm, "again", SERVER)?;
        let task = service.wait_task("")?;
        ready(&swarm.engine, &task)?;
        let tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'commits_'";
        let tables = psql(&swarm.engine, &task, tables)?;
        ensure!(tables == CHANGES.len().to_string(), "{tables} tables");
        service.remove()?;
        let volume = ["volume", "inspect", "--format={{json .Status}}", "appdb"];
        let status = swarm.engine.docker(&volume)?;
        ensure!(status.contains(r#""team":"blue""#), "{status}");
        swarm.engine.docker(&["volume", "rm", "appdb"]).map(drop)
    })
}

/// Makes the change under a client that writes; gives the next task, which has all that was
/// acknowledged.
fn replace(
    swarm: &Swarm,
    service: &Service,
    task: &str,
    number: usize,
    change: fn(&Swarm, &Service, &str) -> Result<()>,
) -> Result<String> {
    let engine = &swarm.engine;
    ready(engine, task)?;
    let table = format!("commits{number}");
    psql(engine, task, &format!("CREATE TABLE {table} (n bigint PRIMARY KEY)"))?;
    let mut writer = Writer::start(engine, task, &table)?;
    writer.advance(COMMITS)?;
    change(swarm, service, task)?;
    // A task whose server was refused, since the former one still ran, is replaced as well.
    let next = eventually(LIMIT, || {
        let next = service.wait_task(task)?;
        engine.docker(&["exec", &next, "pg_isready", "--quiet", "--host=127.0.0.1"])?;
        Ok(next)
    })?;
    let acknowledged = writer.finish()?;
    let count = format!("SELECT count(*) FROM {table} WHERE n <= {acknowledged}");
    let found = psql(engine, &next, &count)?;
    ensure!(found == acknowledged.to_string(), "{acknowledged} were acknowledged, {found} there");
    Ok(next)
}

/// The logs of all tasks that swarm remembers can be read, of the service and one by one; gives
/// how many these are: up to five of the past, until it is scaled or the engine restarted.
fn check_logs(engine: &Arc<Engine>, service: &Service) -> Result<usize> {
    eventually(LIMIT, || {
        let containers = service.containers(&["--all"])?;
        let mut starts = 0;
        for container in &containers {
            let logs = engine.client(LIMIT, &["logs", container])?;
            let said = String::from_utf8([logs.stdout, logs.stderr].concat())?;
            ensure!(logs.success && !said.is_empty(), "docker logs {container}: {said:?}");
            starts += said.matches(READY).count();
        }
        let found = service.logs()?.matches(READY).count();
        ensure!(starts > 0 && found == starts, "{starts} starts, {found} in the service's logs");
        Ok(containers.len())
    })
}

/// Waits until the server itself answers, not the one that initialises.
fn ready(engine: &Engine, task: &str) -> Result<()> {
    let ready = ["exec", task, "pg_isready", "--quiet", "--host=127.0.0.1"];
    eventually(LIMIT, || engine.docker(&ready)).map(drop)
}

fn psql(engine: &Engine, task: &str, sql: &str) -> Result<String> {
    engine.docker(&["exec", "--user=postgres", task, "psql", "-XAtqc", sql])
}
