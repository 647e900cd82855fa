//! A child process that is talked with, a line at a time; it is ended when nobody needs it any more.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::beneath::handle_path;

/// How often whoever waits for a line is asked whether to go on.
const LOOK: Duration = Duration::from_millis(100);

/// Most that a child may say in all.
const MOST: u64 = 4 << 20;

/// See the module.
#[derive(Debug)]
pub struct Companion {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<io::Result<String>>,
}

impl Companion {
    /// Starts `program` with `directory` for its own.
    pub fn start<S: AsRef<OsStr>>(
        directory: &File,
        program: &str,
        arguments: &[S],
    ) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "whoever waits for it says how long")]
        let mut command = Command::new(program);
        // Looked up by the child, which has the same descriptor.
        command.current_dir(handle_path(directory)).args(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            let Some(stdout) = stdout else { return };
            for line in BufReader::new(stdout.take(MOST)).lines() {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, stdin, lines })
    }

    /// What it says next, for as long as `go_on` says so; `UnexpectedEof` where it has ended.
    pub fn line(&self, go_on: &dyn Fn() -> io::Result<()>) -> io::Result<String> {
        loop {
            go_on()?;
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => return line,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Says a line to it.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or(ErrorKind::BrokenPipe)?;
        stdin.write_all(format!("{line}\n").as_bytes())
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // One that has ended is not there to be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Companion {
        let root = File::open("/").unwrap();
        Companion::start(&root, "sh", &["-c", script]).unwrap()
    }

    const PATIENT: &dyn Fn() -> io::Result<()> = &|| Ok(());

    #[test]
    fn lines_go_to_and_fro() {
        let mut cat = shell("while read line; do echo \"$line $PWD\"; done");
        for line in ["one", "two"] {
            cat.say(line).unwrap();
            assert_eq!(cat.line(PATIENT).unwrap(), format!("{line} /"));
        }
    }

    #[test]
    fn an_end_and_impatience_are_told_apart() {
        let ended = shell("echo last; exit 3");
        assert_eq!(ended.line(PATIENT).unwrap(), "last");
        assert_eq!(ended.line(PATIENT).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        let silent = shell("exec sleep 60");
        let over = || Err(ErrorKind::TimedOut.into());
        assert_eq!(silent.line(&over).unwrap_err().kind(), ErrorKind::TimedOut);
        let root = File::open("/").unwrap();
        let missing = Companion::start(&root, "no-such-program-here", &[""; 0]).unwrap_err();
        assert!(missing.to_string().contains("no-such-program-here"), "{missing}");
    }

    #[test]
    fn it_ends_with_whoever_talks_to_it() {
        let silent = shell("exec sleep 60");
        let pid = silent.child.id();
        drop(silent);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_flood_ends_somewhere() {
        let flood = shell("yes 0123456789012345678901234567890123456789");
        let mut length = 0;
        while let Ok(line) = flood.line(PATIENT) {
            length += line.len();
        }
        assert!(length as u64 <= MOST, "{length}");
    }
}
