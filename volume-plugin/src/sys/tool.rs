//! Outside programs, each with a limit on its time.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::beneath::handle_path;

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Runs `program` and waits for its success, at most `limit`; then it is killed.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S], limit: Duration) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is where tools get their time limit")]
    let command = Command::new(program);
    bounded(command, program, arguments, limit)
}

/// As [`run`], with `directory` for its own.
pub fn run_in<S: AsRef<OsStr>>(
    directory: &File,
    program: &str,
    arguments: &[S],
    limit: Duration,
) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is where tools get their time limit")]
    let mut command = Command::new(program);
    // Looked up by the child, which has the same descriptor.
    command.current_dir(handle_path(directory));
    bounded(command, program, arguments, limit)
}

fn bounded<S: AsRef<OsStr>>(
    mut command: Command,
    program: &str,
    arguments: &[S],
    limit: Duration,
) -> io::Result<()> {
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    let stderr = child.stderr.take();
    let complaint = thread::spawn(move || stderr.map(first_kilobyte).unwrap_or_default());
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{program} was not done after {} s", limit.as_secs()),
            ));
        }
        thread::sleep(POLL);
    };
    if status.success() {
        return Ok(());
    }
    let complaint = complaint.join().unwrap_or_default();
    let (program, complaint) = (program.to_owned(), complaint.trim().to_owned());
    Err(io::Error::other(Failed { program, status, complaint }))
}

/// A program that ended without success.
#[derive(Debug, thiserror::Error)]
#[error("{program}: {status}: {complaint}")]
pub struct Failed {
    program: String,
    status: ExitStatus,
    /// What it said of it.
    pub complaint: String,
}

/// Reads to the end, so that the program never waits for its reader, and keeps the beginning.
fn first_kilobyte(mut stderr: impl Read) -> String {
    let mut kept = vec![0; 1024];
    let mut length = 0;
    while length < kept.len() {
        match stderr.read(&mut kept[length..]) {
            Ok(count) if count > 0 => length += count,
            _ => break,
        }
    }
    drop(io::copy(&mut stderr, &mut io::sink()));
    String::from_utf8_lossy(&kept[..length]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn success_is_success() {
        run("true", &[""; 0], LONG).unwrap();
    }

    #[test]
    fn a_directory_is_where_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        run_in(&handle, "sh", &["-c", "touch here"], LONG).unwrap();
        assert!(dir.path().join("here").exists());
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let error = run("sh", &["-c", "echo no such thing >&2; exit 3"], LONG).unwrap_err();
        assert!(error.to_string().contains("no such thing"), "{error}");
        assert!(error.to_string().contains('3'), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let begun = Instant::now();
        let error = run("sleep", &["60"], Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run("no-such-program-here", &[""; 0], LONG).unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"), "{error}");
    }

    #[test]
    fn a_flood_of_complaints_does_not_block() {
        let flood =
            "i=0; while [ $i -lt 20000 ]; do echo complaint $i >&2; i=$((i+1)); done; exit 1";
        assert!(run("sh", &["-c", flood], LONG).is_err());
    }
}
