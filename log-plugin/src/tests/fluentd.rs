//! The fluentd sink against a server of this process that speaks the forward protocol: what it
//! does not acknowledge comes again, and whom it does not know it refuses.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use ring::digest::{SHA512, digest};
use rmpv::Value;
use rmpv::decode::read_value;
use rmpv::encode::write_value;

use super::{Plugin, Rig, eventually};
use crate::frame::testing::{frames, line};

const LIMIT: Duration = Duration::from_secs(20);

fn numbered(n: u32) -> Vec<u8> {
    frames([&line(1_795_354_221_000_000_000, format!("line {n:07}"))])
}

fn lines(range: std::ops::Range<u32>) -> Vec<u8> {
    range.flat_map(numbered).collect()
}

/// A server's end of a connection.
struct Peer<S>(S);

/// A message: its chunk's name and the numbers of its lines.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    chunk: Option<String>,
    numbers: Vec<u32>,
}

impl Peer<TcpStream> {
    /// The next connection.
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self(stream)
    }
}

impl<S: Read + Write> Peer<S> {
    fn hear(&mut self) -> Value {
        read_value(&mut self.0).unwrap()
    }

    fn say(&mut self, value: &Value) {
        let mut bytes = Vec::new();
        write_value(&mut bytes, value).unwrap();
        self.0.write_all(&bytes).unwrap();
    }

    fn message(&mut self) -> Got {
        let message = self.hear();
        let parts = message.as_array().unwrap();
        let events = match &parts[1] {
            Value::Binary(packed) => {
                let (mut rest, mut events) = (&packed[..], Vec::new());
                while !rest.is_empty() {
                    events.push(read_value(&mut rest).unwrap().as_array().unwrap()[1].clone());
                }
                events
            }
            // Message mode.
            _ => vec![parts[2].clone()],
        };
        let number = |record: &Value| {
            let log = field(record, "log").unwrap();
            log.as_str().unwrap().strip_prefix("line ").and_then(|number| number.parse().ok())
        };
        let options = parts.last().filter(|last| field(last, "log").is_none());
        let chunk = options.and_then(|options| Some(field(options, "chunk")?.as_str()?.to_owned()));
        Got { chunk, numbers: events.iter().filter_map(number).collect() }
    }

    fn acknowledge(&mut self, got: &Got) {
        let id = got.chunk.clone().unwrap();
        self.say(&Value::Map(vec![("ack".into(), id.into())]));
    }

    /// Reads and acknowledges messages up to that with the line `last`; all their numbers.
    fn read_up_to(&mut self, last: u32) -> Vec<u32> {
        let mut numbers = Vec::new();
        while !numbers.contains(&last) {
            let got = self.message();
            if got.chunk.is_some() {
                self.acknowledge(&got);
            }
            numbers.extend(got.numbers);
        }
        numbers
    }
}

fn field<'v>(map: &'v Value, name: &str) -> Option<&'v Value> {
    let mut fields = map.as_map()?.iter();
    fields.find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn lag(plugin: &Plugin) -> Option<(u64, u64)> {
    plugin.sinks().first().map(|sink| (sink.lag_bytes, sink.lines))
}

#[test]
fn what_was_not_acknowledged_comes_again_by_the_same_name() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (listener, address) = listen();
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("fluentd-address", &address), ("fluentd-async", "true")]);
    fifo.write_all(&numbered(0)).unwrap();
    let mut first = Peer::accept(&listener);
    let got = first.message();
    assert_eq!(got.numbers, [0]);
    // More is sent before the first is acknowledged.
    fifo.write_all(&numbered(1)).unwrap();
    let more = first.message();
    assert_eq!(more.numbers, [1]);
    assert_eq!(plugin.sinks()[0].lines, 0);
    // Answers come in any order.
    first.acknowledge(&more);
    drop(first);
    let mut second = Peer::accept(&listener);
    let again = second.message();
    assert_eq!(again, got);
    second.acknowledge(&again);
    eventually("both count as delivered", || lag(&plugin) == Some((0, 2)));
    assert_eq!(plugin.sinks()[0].ignored, ["fluentd-async"]);
    plugin.stop_logging(&path);
    eventually("it ends", || plugin.sinks().is_empty());
    assert_eq!(second.0.read(&mut [0]).unwrap(), 0);
}

/// The server and the plugin die in turn: nothing is missing at the server.
#[test]
fn kills_of_both_sides_lose_nothing() {
    let rig = Rig::new();
    let (path, mut fifo) = rig.fifo("f");
    let mut plugin = Plugin::start(rig.path());
    let (listener, address) = listen();
    let options = [("fluentd-address", address.as_str()), ("fluentd-mode", "message")];
    plugin.start_logging("c", &path, &options);
    let mut seen = BTreeSet::new();
    for round in 0..6_u32 {
        fifo.write_all(&lines(round * 200..round * 200 + 200)).unwrap();
        let mut connection = Peer::accept(&listener);
        seen.extend(connection.read_up_to(round * 200 + 100));
        if round % 2 == 0 {
            plugin.kill();
            plugin = Plugin::start(rig.path());
        }
    }
    fifo.write_all(&numbered(1200)).unwrap();
    while !seen.contains(&1200) {
        let mut connection = Peer::accept(&listener);
        // A connection of a plugin that was killed brings nothing.
        connection.0.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        while connection.0.peek(&mut [0]).is_ok_and(|there| there > 0) {
            let got = connection.message();
            connection.acknowledge(&got);
            seen.extend(got.numbers);
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (0..=1200).collect::<Vec<_>>());
}

#[test]
fn without_acknowledgements_what_a_connection_brought_for_a_while_is_delivered() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (listener, address) = listen();
    let (path, mut fifo) = rig.fifo("f");
    let options = [("fluentd-address", address.as_str()), ("fluentd-request-ack", "false")];
    plugin.start_logging("c", &path, &options);
    fifo.write_all(&numbered(0)).unwrap();
    let mut first = Peer::accept(&listener);
    assert_eq!(first.message(), Got { chunk: None, numbers: vec![0] });
    drop(first);
    fifo.write_all(&numbered(1)).unwrap();
    let mut second = Peer::accept(&listener);
    assert_eq!(second.read_up_to(1), [0, 1]);
    eventually("both count as delivered", || lag(&plugin) == Some((0, 2)));
}

#[test]
fn a_socket_of_the_host_is_reached() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let run = rig.path().join("host/run");
    plugin_sdk::durable::create_dir(&run, 0o755).unwrap();
    let listener = UnixListener::bind(run.join("fluent")).unwrap();
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("fluentd-address", "unix:///run/fluent")]);
    fifo.write_all(&numbered(3)).unwrap();
    let mut peer = Peer(listener.accept().unwrap().0);
    assert_eq!(peer.read_up_to(3), [3]);
    eventually("it is delivered", || lag(&plugin) == Some((0, 1)));
    assert_eq!(plugin.sinks()[0].target, "unix:///run/fluent");
}

fn hashed(parts: &[&[u8]]) -> String {
    let digest = digest(&SHA512, &parts.concat());
    digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The server's side of a handshake in which it takes `key` and `password` for the right ones and
/// proves to know `own_key`; whether it was content.
fn shake(peer: &mut Peer<TcpStream>, key: &str, password: &str, own_key: &str) -> bool {
    let (nonce, auth) = (vec![0xff, 7], "salt");
    let options = Value::Map(vec![
        ("nonce".into(), Value::Binary(nonce.clone())),
        ("auth".into(), auth.into()),
        ("keepalive".into(), true.into()),
    ]);
    peer.say(&Value::Array(vec!["HELO".into(), options]));
    let ping = peer.hear();
    let part = |at: usize| ping.as_array().unwrap()[at].as_str().unwrap().as_bytes().to_vec();
    let (host, salt, user) = (part(1), part(2), part(4));
    let good = part(3) == hashed(&[&salt, &host, &nonce, key.as_bytes()]).into_bytes()
        && part(5) == hashed(&[auth.as_bytes(), &user, password.as_bytes()]).into_bytes();
    assert_eq!((part(0), host, user), (b"PING".to_vec(), b"me".to_vec(), b"app".to_vec()));
    let proof = hashed(&[&salt, b"server", &nonce, own_key.as_bytes()]);
    let reason = if good { "" } else { "shared_key mismatch" };
    let answer = ["PONG".into(), good.into(), reason.into(), "server".into(), proof.into()];
    peer.say(&Value::Array(answer.into()));
    good
}

#[test]
fn both_sides_prove_that_they_know_the_key() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (listener, address) = listen();
    let host = rig.path().join("host/etc");
    plugin_sdk::durable::create_dir(&host, 0o755).unwrap();
    plugin_sdk::durable::write(&host.join("password"), b"hunter2\n").unwrap();
    let (path, mut fifo) = rig.fifo("f");
    let options = [
        ("fluentd-address", address.as_str()),
        ("fluentd-shared-key-file", "/etc/key"),
        ("fluentd-user", "app"),
        ("fluentd-password-file", "/etc/password"),
        ("fluentd-hostname", "me"),
    ];
    plugin.start_logging("c", &path, &options);
    fifo.write_all(&numbered(0)).unwrap();
    let error = || plugin.sinks()[0].error.clone().unwrap_or_default();
    let mut peer = Peer::accept(&listener);
    peer.say(&Value::Array(vec!["HELO".into(), Value::Map(Vec::new())]));
    eventually("the missing key is named", || error().contains("/etc/key"));
    plugin_sdk::durable::write(&host.join("key"), b"open sesame").unwrap();
    assert!(!shake(&mut Peer::accept(&listener), "another key", "hunter2", "another key"));
    eventually("the server's reason is told", || error().contains("shared_key mismatch"));
    assert!(!shake(&mut Peer::accept(&listener), "open sesame", "hunter3", "open sesame"));
    assert!(shake(&mut Peer::accept(&listener), "open sesame", "hunter2", "guessed"));
    eventually("an impostor is told", || error().contains("does not know the shared key"));
    let mut peer = Peer::accept(&listener);
    assert!(shake(&mut peer, "open sesame", "hunter2", "open sesame"));
    assert_eq!(peer.read_up_to(0), [0]);
    eventually("it is delivered", || lag(&plugin) == Some((0, 1)));
    // Neither is kept or shown.
    let secrets = ["open sesame", "hunter2"];
    for entry in std::fs::read_dir(rig.path().join("state/sinks")).unwrap() {
        let text =
            String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned();
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
    }
}

#[test]
fn what_speaks_otherwise_is_told_so() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (listener, address) = listen();
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("fluentd-address", &address)]);
    fifo.write_all(&numbered(0)).unwrap();
    let error = || plugin.sinks()[0].error.clone().unwrap_or_default();
    let mut peer = Peer::accept(&listener);
    peer.say(&Value::Array(vec!["HELO".into(), Value::Map(Vec::new())]));
    eventually("a key is asked for", || error().contains("fluentd-shared-key-file"));
    let endless = vec![0xdb; 70_000];
    let http = b"HTTP/1.1 400 Bad Request\r\n";
    for nonsense in [&http[..], &[0x91; 100], &[0xc1], &endless] {
        let mut peer = Peer::accept(&listener);
        // It may be hung up on in the middle.
        peer.0.write_all(nonsense).ok();
        eventually("it is told", || error().contains("does not speak fluentd's"));
        peer.0.shutdown(std::net::Shutdown::Both).ok();
    }
    // An acknowledgement of something else is none.
    let mut peer = Peer::accept(&listener);
    let got = peer.message();
    peer.say(&Value::Map(vec![("ack".into(), "another".into())]));
    assert_eq!(lag(&plugin).unwrap().1, 0);
    peer.acknowledge(&got);
    eventually("it is delivered", || lag(&plugin) == Some((0, 1)));
}

/// What retention removes meanwhile is counted and said, and no stop waits for a dead server.
#[test]
fn a_dead_server_keeps_no_container_from_stopping() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let (listener, address) = listen();
    let server = listener.local_addr().unwrap();
    drop(listener);
    let (path, mut fifo) = rig.fifo("f");
    let options = [("fluentd-address", address.as_str()), ("max-size", "20k"), ("max-file", "2")];
    plugin.start_logging("c", &path, &options);
    fifo.write_all(&numbered(0)).unwrap();
    eventually("it waits with one line", || plugin.sinks()[0].error.is_some());
    for n in 1..3000 {
        fifo.write_all(&numbered(n)).unwrap();
    }
    plugin.stop_logging(&path);
    eventually("what is dropped is counted", || plugin.sinks()[0].dropped_lines > 0);
    rig.all_is_counted();
    let dropped = plugin.sinks()[0].dropped_lines;
    let listener = TcpListener::bind(server).unwrap();
    let numbers = Peer::accept(&listener).read_up_to(2999);
    assert_eq!(numbers.len() as u64 + dropped, 3000);
}
