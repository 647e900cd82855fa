//! Logs: one JSON object a line on stdout, which dockerd copies into its own log.
//!
//! Nobody may wait for that copy: while dockerd is down its end of the pipe is not drained, so a
//! thread of its own writes, behind a bounded queue that drops (and counts) what does not fit.
//! Lines are cut at [`LONGEST_LINE`]: the log reader of older engines stops for good at 64 KiB.

use std::io::{self, Write};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Longest line written, in bytes; the rest of a longer one is left out.
pub const LONGEST_LINE: usize = 16 * 1024;

/// Lines that may wait for stdout before new ones are dropped.
const QUEUE: usize = 4096;

/// Keeps the writing thread; dropping it writes what waits, for at most a second.
#[derive(Debug)]
#[must_use = "logs stop when the guard is dropped"]
pub struct Telemetry {
    _worker: WorkerGuard,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A human must look.
    Error,
    /// Something is not as it should be, and was coped with.
    Warn,
    /// What happened, an operation a line.
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

impl std::str::FromStr for Level {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err("allowed are error, warn, info, debug and trace"),
        }
    }
}

impl Level {
    fn filter(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Sends this process's logs to stdout. Call once; a second call is without effect.
pub fn start(level: Level) -> Telemetry {
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name("telemetry")
        .finish(CappedLines(io::stdout()));
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(EnvFilter::new(level.filter()))
        .with_writer(writer)
        .finish();
    // Fails only when another subscriber is installed already, as in tests.
    drop(tracing::subscriber::set_global_default(subscriber));
    Telemetry { _worker: worker }
}

/// Cuts lines and swallows errors: a closed or broken stdout must not stop the writing thread.
struct CappedLines<W>(W);

impl<W: Write> Write for CappedLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = if line.len() <= LONGEST_LINE {
            self.0.write_all(line)
        } else {
            let cut = floor_char_boundary(line, LONGEST_LINE - 1);
            self.0.write_all(&line[..cut]).and_then(|()| self.0.write_all(b"\n"))
        };
        drop(written);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        drop(self.0.flush());
        Ok(())
    }
}

/// The largest index at or below `at` that does not cut a UTF-8 character.
fn floor_char_boundary(bytes: &[u8], at: usize) -> usize {
    (0..=at).rev().find(|&i| bytes[i] & 0xc0 != 0x80).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut out = Vec::new();
        let line = "é".repeat(LONGEST_LINE) + "\n";
        assert_eq!(CappedLines(&mut out).write(line.as_bytes()).unwrap(), line.len());
        assert!(out.len() <= LONGEST_LINE);
        assert!(std::str::from_utf8(&out).unwrap().ends_with("é\n"));
    }

    #[test]
    fn a_broken_stdout_is_no_error() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut lines = CappedLines(Broken);
        assert_eq!(lines.write(b"line\n").unwrap(), 5);
        lines.flush().unwrap();
    }

    #[test]
    fn a_bad_level_names_what_is_allowed() {
        assert!("loud".parse::<Level>().unwrap_err().contains("debug"));
        assert_eq!("warn".parse::<Level>(), Ok(Level::Warn));
    }
}
