//! CHECKPOINT on a running server, without credentials; see [`super::door`].

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::door::{self, Door};
use crate::sys::beneath::Dir;
use crate::sys::process::Process;
use crate::sys::tool::{self, Failed};

/// The word by which this program is called as the child.
pub const WORD: &str = "checkpoint";

/// How long it may take.
pub const LIMIT: Duration = Duration::from_secs(4);

/// Has the server of the cluster in `cluster`, whose first process is `server`, make a checkpoint; the
/// error says why it did not.
pub fn make(server: &Process, cluster: &Dir) -> io::Result<()> {
    let door = Door::of(server, cluster)?;
    let [uid, gid, role, socket] = &door.words();
    let made =
        tool::run_in(&door.directory, "/proc/self/exe", &[WORD, uid, gid, role, socket], LIMIT);
    made.map_err(told)
}

/// Without the name of the child, which is nothing to a user.
fn told(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::TimedOut {
        let words = format!("the server has not made it within {} s", LIMIT.as_secs());
        return io::Error::new(io::ErrorKind::TimedOut, words);
    }
    match error.downcast::<Failed>() {
        Ok(failed) if !failed.complaint.is_empty() => io::Error::other(failed.complaint),
        Ok(failed) => io::Error::other(failed),
        Err(error) => error,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_told_alone() {
        let said = |script: &str, limit| {
            let here = std::fs::File::open("/").unwrap();
            told(tool::run_in(&here, "sh", &["-c", script], limit).unwrap_err()).to_string()
        };
        assert_eq!(
            said("echo it asks for a password >&2; exit 1", LIMIT),
            "it asks for a password"
        );
        assert!(said("kill -9 $$", LIMIT).starts_with("sh: signal: 9"));
        let late = said("sleep 60", Duration::from_millis(50));
        assert_eq!(late, "the server has not made it within 4 s");
    }
}
