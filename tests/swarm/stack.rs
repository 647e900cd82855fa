//! A stack out of a compose file.

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, eventually};

use crate::service::{LIMIT, Service, Swarm};

const COMPOSE: &str = r#"
version: "3.8"
services:
  db:
    image: postgres:17
    environment:
      PGDATA: /pg/data
      POSTGRES_INITDB_WALDIR: /pg/wal
      POSTGRES_PASSWORD: secret
    volumes: ["data:/pg"]
    logging: {driver: pglog, options: {max-size: 50m}}
    deploy: {update_config: {order: stop-first}}
volumes:
  data:
    driver: pgvol
    driver_opts: {label.team: blue, tablespaces: fast+slow}
"#;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("a_stack_is_deployed_twice_on_its_volume", deployed)]
}

fn deployed(stage: &Stage) -> Result<()> {
    Swarm::with(stage, |swarm| {
        let engine = &swarm.engine;
        engine.shell(&format!("cat >/tmp/compose.yml <<'YAML'{COMPOSE}YAML"))?;
        for sql in ["CREATE TABLE kept AS SELECT 17 AS n", "SELECT n FROM kept"] {
            engine.docker(&["stack", "deploy", "--compose-file=/tmp/compose.yml", "demo"])?;
            let service = Service::named(swarm, "demo_db");
            let task = service.wait_task("")?;
            let ready = ["exec", &task, "pg_isready", "--quiet", "--host=127.0.0.1"];
            eventually(LIMIT, || engine.docker(&ready))?;
            let answer = ["exec", "--user=postgres", &task, "psql", "-XAtqc", sql];
            let answer = engine.docker(&answer)?;
            ensure!(answer == if sql.starts_with("SELECT") { "17" } else { "" }, "{answer:?}");
            ensure!(service.logs()?.contains("ready to accept connections"), "no log");
            engine.docker(&["stack", "rm", "demo"])?;
            eventually(LIMIT, || {
                let left = service.containers(&["--all"])?;
                let networks = engine.docker(&["network", "ls", "-qf", "name=demo_default"])?;
                ensure!(left.is_empty() && networks.is_empty(), "left: {left:?} {networks}");
                Ok(())
            })?;
        }
        let status = ["volume", "inspect", "--format={{json .Status}}", "demo_data"];
        let status = engine.docker(&status)?;
        ensure!(status.contains("blue") && status.contains("tablespace.slow"), "{status}");
        engine.docker(&["volume", "rm", "demo_data"]).map(drop)
    })
}
