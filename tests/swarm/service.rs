//! A swarm, and a service in it: its tasks are containers that swarm makes, ends and replaces.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Engine, Plugin, Stage, eventually, packages};

/// How long swarm may take to end one task and start the next.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// A swarm of this one engine, with both plugins; left on drop.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) engine: Arc<Engine>,
    pub(crate) pgvol: Plugin,
    #[expect(dead_code, reason = "it is there for the logs of every service")]
    pglog: Plugin,
}

impl Swarm {
    /// Runs `body` in a new swarm, in which nothing must be left.
    pub(crate) fn with(stage: &Stage, body: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let engine = stage.engine();
        packages::on_bare(engine, || {
            let pgvol = Plugin::install(engine, "pgvol", &[packages::POOL])?;
            let pglog = Plugin::install(engine, "pglog", &[])?;
            let here = ["--advertise-addr=127.0.0.1", "--listen-addr=127.0.0.1:2377"];
            engine.docker(&[&["swarm", "init"], &here[..]].concat())?;
            let swarm = Self { engine: Arc::clone(engine), pgvol, pglog };
            body(&swarm)?;
            let left = engine.docker(&["service", "ls", "--quiet"])?;
            ensure!(left.is_empty(), "services are left: {left}");
            Ok(())
        })
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        // Also ends all tasks, where a scenario has failed.
        self.engine.docker(&["swarm", "leave", "--force"]).ok();
    }
}

/// A service of one task.
#[derive(Debug)]
pub(crate) struct Service {
    engine: Arc<Engine>,
    name: String,
}

impl Service {
    /// `docker service create` with `options`, then image and command.
    pub(crate) fn create(swarm: &Swarm, name: &str, options: &[&str]) -> Result<Self> {
        let create = ["service", "create", "--detach", "--quiet", "--name", name];
        swarm.engine.docker(&[&create, options].concat())?;
        Ok(Self::named(swarm, name))
    }

    /// One that is there already.
    pub(crate) fn named(swarm: &Swarm, name: &str) -> Self {
        Self { engine: Arc::clone(&swarm.engine), name: name.to_owned() }
    }

    /// `docker service update` with `options`.
    pub(crate) fn update(&self, options: &[&str]) -> Result<()> {
        let update = [&["service", "update", "--detach", "--quiet"], options, &[&self.name]];
        self.engine.docker(&update.concat()).map(drop)
    }

    /// Containers of its tasks, in any state or only those that run, the newest first.
    pub(crate) fn containers(&self, options: &[&str]) -> Result<Vec<String>> {
        let filter = format!("label=com.docker.swarm.service.name={}", self.name);
        let list = ["ps", "--no-trunc", "--format={{.ID}}", "--filter", &filter];
        let ids = self.engine.docker(&[&list[..], options].concat())?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Waits until exactly one task runs, in another container than `former`.
    pub(crate) fn wait_task(&self, former: &str) -> Result<String> {
        eventually(LIMIT, || {
            let running = self.containers(&[])?;
            ensure!(running.len() == 1 && running[0] != former, "running: {running:?}");
            Ok(running[0].clone())
        })
        .with_context(|| self.states("{{.CurrentState}} {{.Error}}").unwrap_or_default())
    }

    /// Waits until no task runs.
    pub(crate) fn wait_none(&self) -> Result<()> {
        eventually(LIMIT, || {
            let running = self.containers(&[])?;
            ensure!(running.is_empty(), "running: {running:?}");
            Ok(())
        })
    }

    /// What `docker service ps` says of its tasks, by Go template.
    pub(crate) fn states(&self, template: &str) -> Result<String> {
        self.engine.docker(&["service", "ps", "--no-trunc", "--format", template, &self.name])
    }

    /// What all its tasks wrote, by `docker service logs`: both streams, each line with its task.
    pub(crate) fn logs(&self) -> Result<String> {
        let logs = ["service", "logs", "--raw", &self.name];
        let outcome = self.engine.client(LIMIT, &logs)?;
        let stderr = String::from_utf8(outcome.stderr)?;
        ensure!(outcome.success, "docker service logs: {stderr}");
        Ok(String::from_utf8(outcome.stdout)? + &stderr)
    }

    /// Removes it, and with it all containers of its tasks.
    pub(crate) fn remove(self) -> Result<()> {
        self.engine.docker(&["service", "rm", &self.name])?;
        eventually(LIMIT, || {
            let left = self.containers(&["--all"])?;
            ensure!(left.is_empty(), "containers are left: {left:?}");
            Ok(())
        })
    }
}
