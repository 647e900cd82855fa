//! Containers and volumes that are removed when a scenario lets go of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::wait::{eventually, within};
use crate::{Engine, Outcome};

/// A container; removed on drop, by force.
#[derive(Debug)]
pub struct Container {
    engine: Arc<Engine>,
    name: String,
}

impl Container {
    /// How long it gets to end by itself.
    pub const GRACE: Duration = Duration::from_secs(2);

    /// `docker run --detach --name NAME` with `options`, then image and command.
    pub fn run(engine: &Arc<Engine>, name: &str, arguments: &[&str]) -> Result<Self> {
        // Made first: a container whose start fails is there all the same.
        let container = Self { engine: Arc::clone(engine), name: name.to_owned() };
        engine.docker(&[&["run", "--detach", "--name", name], arguments].concat())?;
        Ok(container)
    }

    /// One that runs already.
    pub fn running(engine: &Arc<Engine>, name: &str) -> Result<Self> {
        let container = Self { engine: Arc::clone(engine), name: name.to_owned() };
        let state = container.inspect("{{.State.Status}}")?;
        ensure!(state == "running", "{name} is {state}");
        Ok(container)
    }

    /// Those called `names`, all of which run already, with their ids.
    pub fn all_running(engine: &Arc<Engine>, names: &[String]) -> Result<Vec<(Self, String)>> {
        let mut arguments = vec!["inspect", "--format", "{{.State.Status}} {{.Id}}"];
        arguments.extend(names.iter().map(String::as_str));
        let states = engine.docker(&arguments)?;
        let known = |(name, state): (&String, &str)| {
            let id =
                state.strip_prefix("running ").with_context(|| format!("{name} is {state}"))?;
            Ok((Self { engine: Arc::clone(engine), name: name.clone() }, id.to_owned()))
        };
        let all: Vec<_> = names.iter().zip(states.lines()).map(known).collect::<Result<_>>()?;
        ensure!(all.len() == names.len(), "{} of {} are there", all.len(), names.len());
        Ok(all)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a shell command inside and gives its output.
    pub fn shell(&self, script: &str) -> Result<String> {
        self.engine.docker(&["exec", &self.name, "sh", "-euc", script])
    }

    /// A field of `docker inspect`, by Go template.
    pub fn inspect(&self, template: &str) -> Result<String> {
        self.engine.docker(&["inspect", "--format", template, &self.name])
    }

    /// Waits until it has ended and gives its exit status.
    pub fn wait(&self, limit: Duration) -> Result<i32> {
        eventually(limit, || {
            ensure!(self.inspect("{{.State.Status}}")? == "exited", "{} still runs", self.name);
            Ok(())
        })?;
        Ok(self.inspect("{{.State.ExitCode}}")?.parse()?)
    }

    /// `docker logs` with `options`: what the container wrote to stdout and to stderr.
    pub fn logs(&self, options: &[&str]) -> Result<Outcome> {
        let arguments = [&["logs"], options, &[self.name.as_str()]].concat();
        let outcome = self.engine.client(Duration::from_mins(3), &arguments)?;
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        ensure!(outcome.success, "docker {}: {stderr}", arguments.join(" "));
        Ok(outcome)
    }

    /// Stops it within `limit`, which includes the time it gets to end by itself.
    pub fn stop(&self, limit: Duration) -> Result<()> {
        let grace = Self::GRACE.as_secs().to_string();
        let stop = || self.engine.docker(&["stop", "--time", &grace, &self.name]).map(drop);
        within(limit, "docker stop", stop)
    }

    /// Starts it again.
    pub fn start(&self) -> Result<()> {
        self.engine.docker(&["start", &self.name]).map(drop)
    }

    /// Removes it by force within `limit`.
    pub fn remove(self, limit: Duration) -> Result<()> {
        let remove = || self.engine.docker(&["rm", "--force", "--volumes", &self.name]).map(drop);
        within(limit, "docker rm --force", remove)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A scenario that fails may have broken the engine; that failure is the one to show.
        self.engine.docker(&["rm", "--force", "--volumes", &self.name]).ok();
    }
}

/// A named volume; removed on drop.
#[derive(Debug)]
pub struct Volume {
    engine: Arc<Engine>,
    name: String,
}

impl Volume {
    /// `docker volume create --driver DRIVER` with `key=value` options.
    pub fn create(
        engine: &Arc<Engine>,
        driver: &str,
        name: &str,
        options: &[&str],
    ) -> Result<Self> {
        let mut arguments = vec!["volume", "create", "--driver", driver];
        for option in options {
            arguments.extend(["--opt", option]);
        }
        arguments.push(name);
        engine.docker(&arguments)?;
        Ok(Self { engine: Arc::clone(engine), name: name.to_owned() })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `docker volume inspect` shows.
    pub fn inspect(&self) -> Result<Value> {
        let text = self.engine.docker(&["volume", "inspect", &self.name])?;
        let list: Value = serde_json::from_str(&text)?;
        list.get(0).cloned().context("one volume")
    }

    /// Removes it and reports when that does not work.
    pub fn remove(self) -> Result<()> {
        self.engine.docker(&["volume", "rm", &self.name]).map(drop)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Removed already by `remove`, or in use by what a failed scenario has left.
        self.engine.docker(&["volume", "rm", "--force", &self.name]).ok();
    }
}
