//! One connection of dockerd's, passed on to the plugin byte for byte.
//!
//! A plugin closes after each answer, so a connection is a request and an answer. What is known in
//! length is noted before it is passed on: whoever has seen the end of a docker command finds all
//! its calls in the record. A stream is passed on as it comes, and dockerd's going away too.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};

use crate::fault::{Fault, Faults};
use crate::journal::Journal;

/// What every connection needs.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The socket of the plugin proper.
    pub(crate) plugin: PathBuf,
    pub(crate) journal: Arc<Journal>,
    pub(crate) faults: Faults,
}

impl Exchange {
    /// Serves one connection to its end.
    pub(crate) fn run(&self, connection: UnixStream) -> Result<()> {
        let mut reader = BufReader::new(connection.try_clone()?);
        let Some(request) = Message::read(&mut reader)? else {
            return self.journal.note(&serde_json::json!({"event": "probed"}));
        };
        let path = request.head.split(' ').nth(1).context("a path")?.to_owned();
        let number = self.journal.call(&path, &request.body)?;
        let fault = self.faults.take(path.trim_start_matches('/'));
        match &fault {
            Some(Fault::HangUpBefore) => return self.journal.answer(&number, 0, b""),
            Some(Fault::Answer(status, body)) => {
                self.journal.answer(&number, *status, body.as_bytes())?;
                return made_up(connection, *status, body);
            }
            Some(Fault::Hold(time)) => thread::sleep(*time),
            Some(Fault::HangUpAfter) | None => {}
        }
        let mut plugin = UnixStream::connect(&self.plugin)?;
        plugin.write_all(&request.bytes())?;
        let (forth, back) = (plugin.try_clone()?, BufReader::new(plugin));
        thread::spawn(move || pass_on(&mut reader, &forth));
        let done =
            self.answer(&number, back, (fault != Some(Fault::HangUpAfter)).then_some(&connection));
        // Ends the other direction as well.
        connection.shutdown(Shutdown::Both).ok();
        done
    }

    /// Notes the answer and passes it on `to` dockerd, unless it is to be lost.
    fn answer(
        &self,
        number: &str,
        mut from: BufReader<UnixStream>,
        to: Option<&UnixStream>,
    ) -> Result<()> {
        let Some(answer) = Message::read(&mut from)? else {
            return self.journal.answer(number, 0, b"");
        };
        let status = answer.head.split(' ').nth(1).context("a status")?.parse()?;
        let Some(mut to) = to else {
            return self.journal.answer(number, 0, &answer.body);
        };
        self.journal.answer(number, status, &answer.body)?;
        to.write_all(&answer.bytes())?;
        // Nothing more comes, unless it is a stream.
        io::copy(&mut from, &mut to)?;
        Ok(())
    }
}

/// Copies to the end, and makes that the other side's end too.
fn pass_on(from: &mut impl Read, mut to: &UnixStream) {
    io::copy(from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
}

fn made_up(mut connection: UnixStream, status: u16, body: &str) -> Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} By order\r\nContent-Length: {length}\r\n");
    Ok(write!(connection, "{head}Connection: close\r\n\r\n{body}")?)
}

/// The head of a request or an answer, and its body where the head says how long that is.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    /// Reads one; nothing where the other side closes instead.
    fn read(reader: &mut impl BufRead) -> Result<Option<Self>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let mut lengths = head.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse())
        });
        let length = lengths.next_back().transpose()?.unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { head, body }))
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;

    const REQUEST: &str = "POST /LogDriver.ReadLogs HTTP/1.1\r\ncontent-length: 3\r\n\r\n{ }";
    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// dockerd's end of a connection whose other end a plugin of the test serves, and the record.
    fn world(
        plugin: impl FnOnce(UnixStream) + Send + 'static,
    ) -> (TempDir, UnixStream, thread::JoinHandle<Result<()>>) {
        let state = tempfile::tempdir().unwrap();
        let socket = state.path().join("plugin.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || plugin(listener.accept().unwrap().0));
        let exchange = Exchange {
            plugin: socket,
            journal: Arc::new(Journal::open(state.path(), "pglog").unwrap()),
            faults: Faults::of(state.path(), "pglog"),
        };
        let (dockerd, connection) = UnixStream::pair().unwrap();
        dockerd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (state, dockerd, thread::spawn(move || exchange.run(connection)))
    }

    fn events(state: &TempDir) -> Vec<Value> {
        let text = fs::read_to_string(state.path().join("trace")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn take(stream: &mut UnixStream, length: usize) -> String {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_stream_comes_as_it_is_sent_and_ends_with_the_plugins() {
        let (going, go) = std::sync::mpsc::channel::<()>();
        let (state, mut dockerd, run) = world(move |mut plugin| {
            assert_eq!(take(&mut plugin, REQUEST.len()), REQUEST);
            plugin.write_all(HEAD.as_bytes()).unwrap();
            plugin.write_all(b"one").unwrap();
            go.recv().unwrap();
            plugin.write_all(b"two").unwrap();
        });
        dockerd.write_all(REQUEST.as_bytes()).unwrap();
        // A client that has said all may say so.
        dockerd.shutdown(Shutdown::Write).unwrap();
        // The first piece is there before the second one is sent.
        assert_eq!(take(&mut dockerd, HEAD.len() + 3), format!("{HEAD}one"));
        going.send(()).unwrap();
        let mut rest = String::new();
        dockerd.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "two");
        run.join().unwrap().unwrap();
        let events = events(&state);
        assert_eq!(
            (&events[0]["path"], &events[0]["body"]),
            (&"/LogDriver.ReadLogs".into(), &"{ }".into())
        );
        assert_eq!(
            (&events[1]["status"], &events[1]["number"]),
            (&200.into(), &events[0]["number"])
        );
    }

    #[test]
    fn a_client_that_goes_is_gone_for_the_plugin_too() {
        let (ends, ended) = std::sync::mpsc::channel();
        let (_state, mut dockerd, _run) = world(move |mut plugin| {
            take(&mut plugin, REQUEST.len());
            ends.send(plugin.read(&mut [0]).unwrap()).unwrap();
        });
        dockerd.write_all(REQUEST.as_bytes()).unwrap();
        drop(dockerd);
        assert_eq!(ended.recv_timeout(Duration::from_secs(20)).unwrap(), 0);
    }

    #[test]
    fn a_plugin_that_hangs_up_does_so_for_dockerd() {
        let (state, mut dockerd, run) = world(|mut plugin| {
            take(&mut plugin, REQUEST.len());
        });
        dockerd.write_all(REQUEST.as_bytes()).unwrap();
        assert_eq!(dockerd.read(&mut [0]).unwrap(), 0);
        run.join().unwrap().unwrap();
        assert_eq!(events(&state)[1]["status"], 0);
    }

    #[test]
    fn a_connection_that_says_nothing_is_a_probe() {
        let (state, dockerd, run) = world(drop);
        drop(dockerd);
        run.join().unwrap().unwrap();
        assert_eq!(events(&state)[0]["event"], "probed");
    }
}
