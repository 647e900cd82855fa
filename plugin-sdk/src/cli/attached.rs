//! A docker command that runs while it is listened to.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::engine::EngineError;

/// How often whoever waits for a line asks whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// So much of a command's output is read, in bytes.
const MOST: u64 = 1 << 20;

/// Of what a command complains about, so much is kept from the end, in bytes.
const LONGEST_COMPLAINT: usize = 8192;

/// A docker command that runs. Its standard input ends when this is dropped.
#[derive(Debug)]
pub struct Attached {
    child: Child,
    lines: mpsc::Receiver<String>,
    complaints: Option<JoinHandle<Vec<u8>>>,
    words: Vec<String>,
}

impl Attached {
    /// Starts `command`, which is `docker WORDS`.
    pub(super) fn start(mut command: Command, words: &[&str]) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stderr = child.stderr.take();
        let complaints = thread::spawn(move || stderr.map(read_end).unwrap_or_default());
        let (said, lines) = mpsc::channel();
        let stdout = child.stdout.take();
        thread::spawn(move || {
            let lines = stdout.map(|stdout| BufReader::new(stdout.take(MOST)).split(b'\n'));
            for line in lines.into_iter().flatten() {
                let Ok(line) = line else { break };
                if said.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Ok(Self { child, lines, complaints: Some(complaints), words })
    }

    /// The next line that it prints; `None` when it prints no more.
    pub fn next_line(&self, until: impl Fn() -> bool) -> Option<String> {
        while !until() {
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => return Some(line),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            }
        }
        None
    }

    /// Ends its standard input and waits for it.
    pub fn end(mut self) -> Result<(), EngineError> {
        drop(self.child.stdin.take());
        let waited = self.child.wait();
        let status = waited
            .map_err(|source| EngineError::Start { command: PathBuf::from("docker"), source })?;
        if status.success() {
            return Ok(());
        }
        let complaints = self.complaints.take().and_then(|reader| reader.join().ok());
        Err(refusal(&self.words, status, &complaints.unwrap_or_default()))
    }
}

/// Why `docker WORDS` did not succeed.
pub(super) fn refusal(words: &[impl AsRef<str>], status: ExitStatus, stderr: &[u8]) -> EngineError {
    let said = String::from_utf8_lossy(stderr).trim().to_owned();
    if !said.is_empty() {
        return EngineError::Docker(said);
    }
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    EngineError::Docker(format!("`docker {}` ended with {status}", words.join(" ")))
}

/// The last of what can be read of it.
fn read_end(mut from: impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(LONGEST_COMPLAINT));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Attached {
        #[expect(clippy::disallowed_methods, reason = "in place of a docker command")]
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Attached::start(command, &["x"]).unwrap()
    }

    #[test]
    fn a_command_is_read_line_by_line_and_ends_with_its_input() {
        let attached = shell("echo one; cat; echo two");
        assert_eq!(attached.next_line(|| false).as_deref(), Some("one"));
        assert_eq!(attached.next_line(|| true), None);
        assert!(attached.end().is_ok());
        let attached = shell("cat; yes no | head -n 9000 >&2; echo last >&2; exit 1");
        let said = attached.end().unwrap_err().to_string();
        assert!(said.ends_with("last") && said.len() <= LONGEST_COMPLAINT, "{said}");
        let silent = shell("exit 3").end().unwrap_err().to_string();
        assert!(silent.starts_with("`docker x` ended with") && silent.ends_with('3'), "{silent}");
    }
}
