//! A packaged plugin on an engine: installed, configured, killed, removed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Engine;
use crate::wait::eventually;

const BACK_LIMIT: Duration = Duration::from_secs(20);

/// dockerd disables a plugin that dies again before it was first probed, half a second after its
/// start; no process is killed when it is younger than this.
const KILL_PAUSE: Duration = Duration::from_millis(1200);

/// `pgvol` or `pglog`, enabled on an engine.
#[derive(Debug)]
pub struct Plugin {
    engine: Arc<Engine>,
    name: &'static str,
    settings: &'static [&'static str],
    last_start: Mutex<Instant>,
}

impl Plugin {
    /// Creates the plugin from its packaged directory, with `KEY=VALUE` settings, and enables it.
    pub fn install(
        engine: &Arc<Engine>,
        name: &'static str,
        settings: &'static [&'static str],
    ) -> Result<Self> {
        let plugin = Self {
            engine: Arc::clone(engine),
            name,
            settings,
            last_start: Mutex::new(Instant::now()),
        };
        plugin.create()?;
        plugin.enable()?;
        Ok(plugin)
    }

    /// One that is installed and enabled already; [`Plugin::create`] would give it no settings.
    pub fn installed(engine: &Arc<Engine>, name: &'static str) -> Self {
        let engine = Arc::clone(engine);
        Self { engine, name, settings: &[], last_start: Mutex::new(Instant::now()) }
    }

    /// Creates it again after [`Plugin::remove`].
    pub fn create(&self) -> Result<()> {
        let source = format!("/srv/{}", self.name);
        ensure!(
            self.engine.path(&source).join("config.json").exists(),
            "{} is not packaged: run scripts/package.sh and name its directory in E2E_PLUGINS",
            self.name
        );
        self.engine.docker(&["plugin", "create", self.name, &source])?;
        if !self.settings.is_empty() {
            self.engine.docker(&[&["plugin", "set", self.name], self.settings].concat())?;
        }
        Ok(())
    }

    /// Enables it without a limit on its answers, as an engine's restart does.
    pub fn enable(&self) -> Result<()> {
        self.engine.docker(&["plugin", "enable", "--timeout", "0", self.name])?;
        self.started();
        Ok(())
    }

    /// Disables it, also while volumes or streams exist.
    pub fn disable(&self) -> Result<()> {
        self.engine.docker(&["plugin", "disable", "--force", self.name]).map(drop)
    }

    /// Removes it, whatever uses it.
    pub fn remove(&self) -> Result<()> {
        self.engine.docker(&["plugin", "rm", "--force", self.name]).map(drop)
    }

    /// Kills its process by SIGKILL and waits until dockerd has restarted it and it listens.
    pub fn kill(&self) -> Result<()> {
        self.kill_only()?;
        self.wait_listening()
    }

    /// Waits until its process may be killed without being disabled for it.
    pub fn settle(&self) {
        let since = self.last_start.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        thread::sleep(KILL_PAUSE.saturating_sub(since));
    }

    /// Kills its process by SIGKILL and waits for the next one, which need not listen yet.
    pub fn kill_only(&self) -> Result<()> {
        self.settle();
        let pid = self.pid()?;
        self.engine.shell(&format!("kill -KILL {pid}"))?;
        eventually(BACK_LIMIT, || {
            ensure!(self.pid()? != pid, "{} is not restarted", self.name);
            Ok(())
        })?;
        self.started();
        Ok(())
    }

    /// Waits until the process takes connections.
    pub fn wait_listening(&self) -> Result<()> {
        eventually(BACK_LIMIT, || self.connect().map(drop))
    }

    /// Sends a request as dockerd does and gives the JSON answer with its status.
    pub fn call(&self, path: &str, body: &str) -> Result<(u16, Value)> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(BACK_LIMIT))?;
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: plugin.moby.localhost\r\n\
             Accept: application/vnd.docker.plugins.v1.2+json\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a head and a body")?;
        let status = head.split_whitespace().nth(1).context("a status")?.parse()?;
        let json = serde_json::from_str(body).with_context(|| answer.clone())?;
        Ok((status, json))
    }

    fn connect(&self) -> Result<UnixStream> {
        let directory = self.engine.path(&format!("/run/docker/plugins/{}", self.id()?));
        // By way of an open directory: the full path is longer than a socket address may be.
        let directory = File::open(directory)?;
        let socket = format!("/proc/self/fd/{}/{}.sock", directory.as_raw_fd(), self.name);
        UnixStream::connect(socket).context("connect to the plugin's socket")
    }

    /// Its process, as the engine numbers it.
    pub fn pid(&self) -> Result<u32> {
        const TASKS: &str = "/run/docker/containerd/daemon/io.containerd.runtime.v2.task";
        let file = format!("{TASKS}/plugins.moby/{}/init.pid", self.id()?);
        let text = fs::read_to_string(self.engine.path(&file))?;
        text.trim().parse().with_context(|| format!("{file} holds {text:?}"))
    }

    /// Its identifier, another one after each `create`.
    fn id(&self) -> Result<String> {
        self.engine.docker(&["plugin", "inspect", "--format", "{{.Id}}", self.name])
    }

    /// Notes that its process is a new one.
    pub fn started(&self) {
        *self.last_start.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}
