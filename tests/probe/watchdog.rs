//! The child that lets stopped processes go on when the plugin is killed.
//!
//! It is told each process before that is stopped, holds it by descriptor, and has nothing left
//! to find out when the pipe breaks: the runtime kills it together with the plugin's other
//! processes within milliseconds.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::sys::Process;

/// No plugin should hold anything longer, alive or not.
const DEADLINE_MILLIS: u16 = 20_000;

/// In place of a process: answer when all before it are held, and end.
const ALL_TOLD: i32 = -1;
const DISMISSED: i32 = -2;

/// What the plugin keeps of its watchdog.
#[derive(Debug)]
pub(crate) struct Watchdog {
    child: Child,
    targets: ChildStdin,
    acknowledged: ChildStdout,
}

impl Watchdog {
    /// Starts one that has no targets yet.
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg("watchdog")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the watchdog")?;
        let targets = child.stdin.take().context("no pipe")?;
        let acknowledged = child.stdout.take().context("no pipe")?;
        Ok(Self { child, targets, acknowledged })
    }

    /// Has it hold these too; when this returns it does.
    pub(crate) fn hold(&mut self, pids: impl Iterator<Item = i32>) -> Result<()> {
        let mut message: Vec<u8> = pids.flat_map(i32::to_ne_bytes).collect();
        message.extend(ALL_TOLD.to_ne_bytes());
        self.targets.write_all(&message)?;
        self.acknowledged.read_exact(&mut [0])?;
        Ok(())
    }

    /// Ends it; it lets go of nothing that the plugin let go of already.
    pub(crate) fn dismiss(mut self) -> Result<()> {
        self.targets.write_all(&DISMISSED.to_ne_bytes())?;
        self.child.wait()?;
        Ok(())
    }
}

/// The child's side.
pub(crate) fn run() -> Result<()> {
    let begun = Instant::now();
    let mut targets = Vec::new();
    // Not by way of Stdin, whose buffer poll knows nothing of.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut pid = [0; 4];
    loop {
        let spent = u16::try_from(begun.elapsed().as_millis()).unwrap_or(DEADLINE_MILLIS);
        let left = PollTimeout::from(DEADLINE_MILLIS.saturating_sub(spent));
        let waited = input.as_fd();
        let ready = poll(&mut [PollFd::new(waited, PollFlags::POLLIN)], left);
        if !ready.is_ok_and(|ready| ready > 0) || input.read_exact(&mut pid).is_err() {
            break;
        }
        match i32::from_ne_bytes(pid) {
            DISMISSED => return Ok(()),
            ALL_TOLD => {
                io::stdout().write_all(&[1])?;
                io::stdout().flush()?;
            }
            // One that has ended needs no holding.
            pid => targets.extend(Process::open(pid)),
        }
    }
    for target in targets {
        // One that has ended needs nothing.
        target.signal(Signal::SIGCONT).ok();
    }
    Ok(())
}
