//! A PostgreSQL server in a container, and a client that knows what was acknowledged to it.

use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::LineStream;
use crate::wait::eventually;
use crate::{Container, Engine};

/// The application name by which the server knows a [`Writer`].
const WRITER: &str = "writer";

const READY_LIMIT: Duration = Duration::from_mins(1);

/// The image of servers that need no other.
const IMAGE: &str = "postgres:17";

/// A server in a container.
#[derive(Debug)]
pub struct Pg {
    engine: Arc<Engine>,
    container: Container,
}

impl Pg {
    /// Starts a server with further `options` of `docker run` and waits until it answers.
    pub fn start(engine: &Arc<Engine>, name: &str, options: &[&str]) -> Result<Self> {
        Self::start_image(engine, name, options, IMAGE)
    }

    /// The same of another image than `postgres:17`.
    pub fn start_image(
        engine: &Arc<Engine>,
        name: &str,
        options: &[&str],
        image: &str,
    ) -> Result<Self> {
        let pg = Self::run_image(engine, name, options, image)?;
        pg.wait_ready()?;
        Ok(pg)
    }

    /// Starts a server without waiting.
    pub fn run(engine: &Arc<Engine>, name: &str, options: &[&str]) -> Result<Self> {
        Self::run_image(engine, name, options, IMAGE)
    }

    fn run_image(engine: &Arc<Engine>, name: &str, options: &[&str], image: &str) -> Result<Self> {
        let arguments = [&["--env", "POSTGRES_PASSWORD=secret"], options, &[image]].concat();
        let container = Container::run(engine, name, &arguments)?;
        Ok(Self { engine: Arc::clone(engine), container })
    }

    /// Its container.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Waits until the server proper answers; the one that the entrypoint runs while it
    /// initialises listens on no address.
    pub fn wait_ready(&self) -> Result<()> {
        eventually(READY_LIMIT, || {
            self.container.shell("pg_isready --quiet --host=127.0.0.1 --username=postgres")
        })
        .with_context(|| {
            let outcome = self.engine.client(READY_LIMIT, &["logs", self.container.name()]);
            let said = outcome.map(|said| [said.stdout, said.stderr].concat()).unwrap_or_default();
            format!("the server is not ready; it said:\n{}", String::from_utf8_lossy(&said))
        })
        .map(drop)
    }

    /// Runs SQL and gives the rows, unaligned, without headings.
    pub fn psql(&self, sql: &str) -> Result<String> {
        self.exec(&["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])
    }

    /// Runs pgbench with `arguments`.
    pub fn pgbench(&self, arguments: &[&str]) -> Result<String> {
        self.exec(&[&["pgbench"], arguments].concat())
    }

    /// Stops the server cleanly and starts the container again.
    pub fn restart(&self) -> Result<()> {
        self.engine.docker(&["restart", self.container.name()])?;
        self.wait_ready()
    }

    /// Starts to insert numbers into the new table `numbers`, one transaction each.
    pub fn writer(&self) -> Result<Writer> {
        self.psql("CREATE TABLE numbers (n bigint PRIMARY KEY)")?;
        Writer::start(&self.engine, self.container.name(), "numbers")
    }

    /// Fails when a number up to `last` is missing: acknowledged and lost.
    pub fn check_numbers(&self, last: u64) -> Result<()> {
        self.check_numbers_in("numbers", last)
    }

    /// The same for the table of a [`Writer`] that was started with another one.
    pub fn check_numbers_in(&self, table: &str, last: u64) -> Result<()> {
        let found = self.psql(&format!("SELECT count(*) FROM {table} WHERE n <= {last}"))?;
        ensure!(found == last.to_string(), "{last} inserts were acknowledged, {found} are there");
        Ok(())
    }

    fn exec(&self, command: &[&str]) -> Result<String> {
        let prefix = ["exec", "--user", "postgres", self.container.name()];
        self.engine.docker(&[&prefix, command].concat())
    }
}

/// A client that inserts 1, 2, 3, ... and reads each number back when its commit is acknowledged.
#[derive(Debug)]
pub struct Writer {
    engine: Arc<Engine>,
    container: String,
    acknowledged: LineStream,
    stopped: Arc<AtomicBool>,
    last: u64,
}

impl Writer {
    /// Starts to write into `table`, which has a column `n`, on the server in `container`.
    pub fn start(engine: &Arc<Engine>, container: &str, table: &str) -> Result<Self> {
        let psql = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1"];
        let named = format!("PGAPPNAME={WRITER}");
        let prefix = ["exec", "--interactive", "--user", "postgres", "--env", &named, container];
        let mut command = engine.tied(&[&prefix[..], &psql].concat());
        let mut acknowledged =
            LineStream::start(command.stdin(Stdio::piped()).stderr(Stdio::null()))?;
        let stdin = acknowledged.take_stdin()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let table = table.to_owned();
        thread::spawn(move || insert(stdin, &table, &stop));
        let engine = Arc::clone(engine);
        Ok(Self { engine, container: container.to_owned(), acknowledged, stopped, last: 0 })
    }

    /// Waits until `count` further inserts are acknowledged.
    pub fn advance(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            let line = self.acknowledged.next(Duration::from_secs(30))?;
            self.last += 1;
            ensure!(line == self.last.to_string(), "{line:?} instead of {}", self.last);
        }
        Ok(())
    }

    /// Ends the client, or finds it ended with the server; gives the last acknowledged number.
    pub fn finish(self) -> Result<u64> {
        self.stopped.store(true, Ordering::Relaxed);
        // Thousands of inserts wait in the pipes between here and the server. Where this cannot
        // be said there is no server any more, which ends the client as well.
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = '{WRITER}'"
        );
        self.engine
            .docker(&["exec", "--user", "postgres", &self.container, "psql", "-c", &sql])
            .ok();
        let lines = self.acknowledged.rest(Duration::from_mins(1))?;
        // A line that the end of the connection cut is no number that follows.
        let follows = |(line, number): &(String, u64)| *line == number.to_string();
        let count = lines.into_iter().zip(self.last + 1..).take_while(follows).count();
        Ok(self.last + u64::try_from(count)?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Writes inserts until told to stop or until nobody reads them any more.
fn insert(mut stdin: ChildStdin, table: &str, stopped: &AtomicBool) {
    let mut number = 0_u64;
    let mut written = Ok(());
    while written.is_ok() && !stopped.load(Ordering::Relaxed) {
        number += 1;
        written = writeln!(stdin, "INSERT INTO {table} VALUES ({number}) RETURNING n;");
    }
}
