//! Programs of the machine: the one place where they are started.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A command without standard input; `name` is looked up in PATH.
pub(crate) fn program(name: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "there is no sys::tool outside the plugins")]
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    command
}

/// Runs `command` to its end, whatever its status.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("start {}", name(command)))
}

/// Runs `command` and gives its standard output; another status than 0 is an error with stderr.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        name(command),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).with_context(|| format!("output of {}", name(command)))
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// Lines of a program that runs on, read as they come.
#[derive(Debug)]
pub struct LineStream {
    child: Child,
    lines: Receiver<String>,
}

impl LineStream {
    /// Starts `command` and reads its standard output in the background.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", name(command)))?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The program's standard input, where the command was given a pipe for it.
    pub(crate) fn take_stdin(&mut self) -> Result<ChildStdin> {
        self.child.stdin.take().context("standard input is not piped, or taken")
    }

    /// The next line, or an error when none comes within `limit` or the program has ended.
    pub fn next(&self, limit: Duration) -> Result<String> {
        self.lines.recv_timeout(limit).context("no further line")
    }

    /// All lines up to the program's end, which must come within `limit`.
    pub fn rest(&self, limit: Duration) -> Result<Vec<String>> {
        let start = Instant::now();
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(limit.saturating_sub(start.elapsed())) {
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(lines),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("no end within {limit:?}, after {} lines", lines.len())
                }
            }
        }
    }
}

impl Drop for LineStream {
    fn drop(&mut self) {
        // It has ended already where a scenario read it to its end.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
