//! Stands between dockerd and a plugin, and writes down what they say to each other.
//!
//! `recorder NAME PROGRAM [ARGUMENT]...` is the entrypoint of a plugin in a variant of its package.
//! It starts the program, which listens on `NAME.sock` as ever, and then listens beside it on
//! `recorder.sock`, which the variant's config.json names. So dockerd's first connection already
//! comes by here, and whoever connects to `NAME.sock` talks to the plugin unseen.
//!
//! The two live and die together: SIGTERM is passed on, the program's end is this one's, and a
//! SIGKILL of this one kills the program at once. It judges nothing: the `conformance` suite does.
#![expect(clippy::disallowed_methods, reason = "what it writes need not survive a power cut")]

mod exchange;
mod fault;
mod journal;

use std::env::{self, Args};
use std::fs;
use std::io;
use std::iter::Skip;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::exchange::Exchange;
use crate::fault::Faults;
use crate::journal::Journal;

/// As the plugin sees it; on the host it is `/var/lib/recorder`.
const STATE: &str = "/host/state/recorder";
const SOCKETS: &str = "/run/docker/plugins";
const USAGE: &str = "usage: recorder NAME PROGRAM [ARGUMENT]...";

/// How the program is started, by this very program: see [`become_program`].
const AS_CHILD: &str = "--as-child";

fn main() -> Result<ExitCode> {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().context(USAGE)?;
    if name == AS_CHILD {
        return become_program(arguments);
    }
    let journal = Arc::new(Journal::open(Path::new(STATE), &name)?);
    journal.note(&json!({"event": "started"}))?;
    let plugin = Path::new(SOCKETS).join(format!("{name}.sock"));
    let own = Path::new(SOCKETS).join("recorder.sock");
    for socket in [&plugin, &own] {
        // A killed engine leaves the sockets of the last life behind.
        drop(fs::remove_file(socket));
    }
    let child = Command::new(env::current_exe()?).arg(AS_CHILD).args(arguments).spawn()?;
    let exchange = Exchange {
        plugin,
        journal: Arc::clone(&journal),
        faults: Faults::of(Path::new(STATE), &name),
    };
    supervise(child, &journal, move || listen(exchange, &own))
}

/// Takes the program's place in a process that dies with its parent.
fn become_program(mut arguments: Skip<Args>) -> Result<ExitCode> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let program = arguments.next().context(USAGE)?;
    Err(Command::new(&program).args(arguments).exec()).with_context(|| format!("start {program}"))
}

/// What ends the program.
enum End {
    Told,
    Ended(io::Result<ExitStatus>),
}

/// Passes SIGTERM on until the program has ended, and ends as it did.
fn supervise(
    mut child: Child,
    journal: &Journal,
    serve: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<ExitCode> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.thread_block().context("block SIGTERM")?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let (told, ends) = mpsc::channel();
    let ended = told.clone();
    thread::spawn(move || while stop.wait().is_ok() && told.send(End::Told).is_ok() {});
    thread::spawn(move || ended.send(End::Ended(child.wait())));
    // Where it cannot listen dockerd's own message names the socket.
    thread::spawn(serve);
    loop {
        match ends.recv()? {
            End::Told => {
                journal.note(&json!({"event": "told to end"}))?;
                // It may have ended by itself just now.
                kill(pid, Signal::SIGTERM).ok();
            }
            End::Ended(status) => {
                let code = status?.code().and_then(|code| u8::try_from(code).ok());
                return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
            }
        }
    }
}

/// Listens as soon as the plugin does, so that dockerd does not find one without the other.
fn listen(exchange: Exchange, socket: &Path) -> Result<()> {
    while UnixStream::connect(&exchange.plugin).is_err() {
        thread::sleep(Duration::from_millis(10));
    }
    let listener = UnixListener::bind(socket)?;
    let exchange = Arc::new(exchange);
    for connection in listener.incoming() {
        let (exchange, connection) = (Arc::clone(&exchange), connection?);
        // Either side may go away in the middle: the other one is then hung up on.
        thread::spawn(move || exchange.run(connection));
    }
    Ok(())
}
