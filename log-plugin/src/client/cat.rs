//! `docker pglog cat CONTAINER`: a stored log, also when Docker has forgotten the container.

use std::io::{self, BufWriter, Stdout, Write};

use jiff::Timestamp;
use plugin_sdk::cli::{Failure, Format, Nothing, Session};
use prost::Message;
use serde::Serialize;

use super::container;
use super::moment::Moment;
use crate::api::answers::List;
use crate::frame::{HEADER, LogEntry};

/// What of which container, as `docker logs` takes it.
#[derive(Debug, clap::Args)]
pub struct Cat {
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Show only so many of the last lines, or all
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "all", value_parser = tail)]
    tail: i64,
    /// Show what came at this time or later: 2026-11-22T12:00:00Z, or how long ago, such as 90m
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Show what came up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Show its time before each line
    #[arg(short, long)]
    timestamps: bool,
}

/// ReadLogs, as dockerd asks for it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request {
    info: Info,
    config: Config,
}

#[derive(Debug, Serialize)]
struct Info {
    #[serde(rename = "ContainerID")]
    container: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    since: Option<String>,
    until: Option<String>,
    tail: i64,
    follow: bool,
}

impl Cat {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let known: List = session.ask("/Pglog.List", &Nothing {})?;
        let container = container::find(session, &known.containers, &self.container)?;
        let now = Timestamp::now();
        let at = |moment: &Option<Moment>| moment.as_ref().map(|its| its.before(now).to_string());
        let (since, until) = (at(&self.since), at(&self.until));
        let config = Config { since, until, tail: self.tail, follow: false };
        let form = match (session.format(), self.timestamps) {
            (Format::Json, _) => Form::Json,
            (Format::Text, true) => Form::Stamped,
            (Format::Text, false) => Form::Plain,
        };
        let (mut frames, mut screen) = (Frames::default(), Screen::new(form));
        session.stream(
            "/LogDriver.ReadLogs",
            &Request { info: Info { container }, config },
            |bytes| frames.feed(bytes, |entry| screen.show(&entry)),
        )?;
        screen.stdout.flush().map_err(Failure::Output)
    }
}

/// `all` is what dockerd calls -1.
fn tail(text: &str) -> Result<i64, &'static str> {
    match text {
        "all" => Ok(-1),
        count => count
            .parse()
            .ok()
            .filter(|&count: &i64| count >= 0)
            .ok_or("allowed are a number and `all`"),
    }
}

/// Frames out of pieces of bytes.
#[derive(Debug, Default)]
struct Frames {
    held: Vec<u8>,
}

impl Frames {
    fn feed(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(LogEntry) -> io::Result<()>,
    ) -> io::Result<()> {
        self.held.extend_from_slice(bytes);
        let mut rest = &self.held[..];
        while let Some((header, body)) = rest.split_first_chunk::<HEADER>()
            && let Ok(length) = usize::try_from(u32::from_be_bytes(*header))
            && let Some((body, after)) = body.split_at_checked(length)
        {
            take(LogEntry::decode(body).map_err(io::Error::other)?)?;
            rest = after;
        }
        let done = self.held.len() - rest.len();
        self.held.drain(..done);
        Ok(())
    }
}

/// How a message is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Stamped,
    Json,
}

/// Both outputs of the process, one for each of the container's.
#[derive(Debug)]
struct Screen {
    form: Form,
    stdout: BufWriter<Stdout>,
}

impl Screen {
    fn new(form: Form) -> Self {
        Self { form, stdout: BufWriter::new(io::stdout()) }
    }

    fn show(&mut self, entry: &LogEntry) -> io::Result<()> {
        let message = render(self.form, entry)?;
        match (entry.source.as_str(), self.form) {
            // In the order in which they came, where both are the same terminal.
            ("stderr", Form::Plain | Form::Stamped) => {
                self.stdout.flush()?;
                io::stderr().write_all(&message)
            }
            ("stdout" | "stderr", _) => self.stdout.write_all(&message),
            // What keeps the connection alive.
            _ => Ok(()),
        }
    }
}

fn render(form: Form, entry: &LogEntry) -> io::Result<Vec<u8>> {
    /// A line of json-file.
    #[derive(Serialize)]
    struct Line<'a> {
        log: &'a str,
        stream: &'a str,
        time: &'a str,
    }
    let time = Timestamp::from_nanosecond(entry.time_nano.into()).map_err(io::Error::other)?;
    let time = format!("{time:.9}");
    let mut message = match form {
        Form::Plain => Vec::new(),
        Form::Stamped => format!("{time} ").into_bytes(),
        Form::Json => {
            let log = String::from_utf8_lossy(&entry.line);
            let line = Line { log: &log, stream: &entry.source, time: &time };
            let mut message = serde_json::to_vec(&line)?;
            message.push(b'\n');
            return Ok(message);
        }
    };
    message.extend_from_slice(&entry.line);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::{frames, line};

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let entries = [line(1, "one\n"), line(2, ""), line(3, vec![b'x'; 40_000])];
        let bytes = frames(&entries);
        for size in [1, 7, 4096, bytes.len()] {
            let (mut cut, mut found) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                cut.feed(piece, |entry| {
                    found.push(entry);
                    Ok(())
                })
                .unwrap();
            }
            assert!(found == entries && cut.held.is_empty(), "{size}");
        }
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        let error = Frames::default().feed(b"\0\0\0\x02\xff\xff", |_| Ok(()));
        assert!(error.is_err());
    }

    #[test]
    fn a_message_has_its_time_where_wanted() {
        let entry = line(1_000_000_002, "a \"b\"\n");
        let shown = |form| String::from_utf8(render(form, &entry).unwrap()).unwrap();
        assert_eq!(shown(Form::Plain), "a \"b\"\n");
        assert_eq!(shown(Form::Stamped), "1970-01-01T00:00:01.000000002Z a \"b\"\n");
        let json =
            r#"{"log":"a \"b\"\n","stream":"stdout","time":"1970-01-01T00:00:01.000000002Z"}"#;
        assert_eq!(shown(Form::Json), format!("{json}\n"));
    }

    #[test]
    fn tails_are_counts() {
        assert_eq!((tail("all"), tail("0"), tail("12")), (Ok(-1), Ok(0), Ok(12)));
        assert!(tail("-1").is_err() && tail("some").is_err() && tail("").is_err());
    }
}
