//! CHECKPOINT on a running server, without credentials; see [`super::door`].

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::door::{self, Door};
use crate::sys::beneath::Dir;
use crate::sys::process::Process;
use crate::sys::tool;

/// The word by which this program is called as the child.
pub const WORD: &str = "checkpoint";

/// How long it may take.
pub const LIMIT: Duration = Duration::from_secs(4);

/// Has the server of the cluster in `cluster`, whose first process is `server`, make a checkpoint; the
/// error says why it did not.
pub fn make(server: &Process, cluster: &Dir) -> io::Result<()> {
    let door = Door::of(server, cluster)?;
    let [uid, gid, role, socket] = &door.words();
    tool::run_in(&door.directory, "/proc/self/exe", &[WORD, uid, gid, role, socket], LIMIT)
}

/// What the child does: `UID GID ROLE SOCKET`, with the directory of the socket as its own.
pub fn child(arguments: &[OsString]) -> ExitCode {
    let told = act(arguments).or_else(|error| writeln!(io::stderr(), "{error}").and(Err(error)));
    ExitCode::from(u8::from(told.is_err()))
}

fn act(arguments: &[OsString]) -> io::Result<()> {
    let deadline = Instant::now() + LIMIT;
    let (mut talk, _) = door::enter(arguments, deadline)?;
    talk.ask("CHECKPOINT", deadline)?;
    talk.end()
}
