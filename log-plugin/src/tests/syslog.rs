//! The syslog sink against servers of this process, which close connections and come back.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::json;

use super::{Plugin, Rig, eventually};
use crate::frame::LogEntry;
use crate::frame::testing::{frames, line};

const LIMIT: Duration = Duration::from_secs(10);

fn numbered(n: u32) -> Vec<u8> {
    frames([&line(1_795_354_221_000_000_000, format!("line {n:07}"))])
}

/// The numbers of the lines in what a server got.
fn numbers(text: &str) -> Vec<u32> {
    let number = |line: &str| line.rsplit_once("line ").and_then(|(_, n)| n.parse().ok());
    text.lines().filter_map(number).collect()
}

/// A server on a port of its own: sends what each connection brought until its end.
fn serve(listener: TcpListener) -> Receiver<TcpStream> {
    let (sender, connections) = mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            if sender.send(connection).is_err() {
                break;
            }
        }
    });
    connections
}

/// What `connection` brings up to a line that contains `last`.
fn read_up_to(connection: &mut impl Read, last: &str) -> String {
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&text).lines().any(|line| line.ends_with(last)) {
        let taken = connection.read(&mut chunk).unwrap();
        assert!(taken > 0, "the end comes before {last}");
        text.extend_from_slice(&chunk[..taken]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn messages_go_over_tcp_and_again_when_the_connection_breaks() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let connections = serve(listener);
    let (path, mut fifo) = rig.fifo("f");
    let options = [("syslog-address", address.as_str()), ("tag", "{{.Name}}")];
    assert_eq!(plugin.start_logging("c", &path, &options), json!({"Err": ""}));
    fifo.write_all(&numbered(0)).unwrap();
    let mut first = connections.recv_timeout(LIMIT).unwrap();
    let text = read_up_to(&mut first, "line 0000000");
    let pid = std::process::id();
    assert!(
        text.starts_with("<30>Nov 22 ") && text.ends_with(&format!(" n[{pid}]: line 0000000\n"))
    );
    drop(first);
    for n in 1..500 {
        fifo.write_all(&numbered(n)).unwrap();
    }
    let mut second = connections.recv_timeout(LIMIT).unwrap();
    let text = read_up_to(&mut second, "line 0000499");
    // What came shortly before the end comes again.
    assert_eq!(numbers(&text), (0..500).collect::<Vec<_>>());
    let lag = |plugin: &Plugin| plugin.sinks().first().map(|sink| (sink.lag_bytes, sink.lines));
    eventually("it counts as delivered", || lag(&plugin) == Some((0, 500)));
    drop(second);
    fifo.write_all(&numbered(500)).unwrap();
    let mut third = connections.recv_timeout(LIMIT).unwrap();
    assert_eq!(numbers(&read_up_to(&mut third, "line 0000500")), [500]);
    plugin.stop_logging(&path);
    eventually("it ends", || plugin.sinks().is_empty());
    let mut rest = String::new();
    third.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

/// The server and the plugin die in turn: nothing is missing at the server.
#[test]
fn kills_of_both_sides_lose_nothing() {
    let rig = Rig::new();
    let (path, mut fifo) = rig.fifo("f");
    let mut plugin = Plugin::start(rig.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let connections = serve(listener);
    plugin.start_logging("c", &path, &[("syslog-address", &address)]);
    let mut seen = BTreeSet::new();
    for round in 0..6_u32 {
        for n in 0..200 {
            fifo.write_all(&numbered(round * 200 + n)).unwrap();
        }
        let mut connection = connections.recv_timeout(LIMIT).unwrap();
        let text = read_up_to(&mut connection, &format!("line {:07}", round * 200 + 100));
        seen.extend(numbers(&text));
        if round % 2 == 0 {
            plugin.kill();
            plugin = Plugin::start(rig.path());
        }
        drop(connection);
        // What was sent to nobody meanwhile.
        while connections.recv_timeout(Duration::from_millis(100)).is_ok() {}
    }
    fifo.write_all(&numbered(1200)).unwrap();
    let mut connection = connections.recv_timeout(LIMIT).unwrap();
    seen.extend(numbers(&read_up_to(&mut connection, "line 0001200")));
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (0..=1200).collect::<Vec<_>>());
}

#[test]
fn datagrams_are_messages() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let address = format!("udp://{}", server.local_addr().unwrap());
    let (path, mut fifo) = rig.fifo("f");
    let options =
        [("syslog-address", address.as_str()), ("syslog-format", "rfc5424"), ("tag", "t")];
    plugin.start_logging("c", &path, &options);
    let error = LogEntry { source: "stderr".to_owned(), ..line(1_000_000_000, "bad") };
    fifo.write_all(&frames([&line(0, "good"), &line(0, ""), &error])).unwrap();
    let next = || {
        let mut buffer = [0; 2000];
        let length = server.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let (good, bad) = (next(), next());
    assert!(good.starts_with("<30>1 1970-01-01T") && good.ends_with(" t - good\n"), "{good}");
    assert!(bad.starts_with("<27>1 ") && bad.ends_with(" t - bad\n"), "{bad}");
}

/// By paths of the host, and the host's own syslog where no address is given.
#[test]
fn sockets_of_the_host_are_reached() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let host = rig.path().join("host");
    plugin_sdk::durable::create_dir(&host.join("dev"), 0o755).unwrap();
    plugin_sdk::durable::create_dir(&host.join("run"), 0o755).unwrap();
    let own = UnixDatagram::bind(host.join("run/log")).unwrap();
    own.set_read_timeout(Some(LIMIT)).unwrap();
    std::os::unix::fs::symlink("/run/log", host.join("dev/log")).unwrap();
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("sinks", "syslog"), ("syslog-facility", "local0")]);
    fifo.write_all(&numbered(1)).unwrap();
    let mut buffer = [0; 2000];
    let length = own.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]);
    assert!(text.starts_with("<134>") && text.ends_with("line 0000001\n"), "{text}");
    let stream = UnixListener::bind(host.join("run/stream")).unwrap();
    let (path, mut fifo) = rig.fifo("g");
    let options = [("syslog-address", "unix:///run/stream"), ("syslog-framing", "octet-counting")];
    plugin.start_logging("d", &path, &options);
    fifo.write_all(&numbered(2)).unwrap();
    let (mut connection, _) = stream.accept().unwrap();
    let text = read_up_to(&mut connection, "line 0000002");
    let (length, message) = text.split_once(' ').unwrap();
    assert_eq!(length.parse(), Ok(message.len()), "{text}");
}

#[test]
fn the_next_address_is_taken_when_one_does_not_answer() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{dead},tcp://{}", listener.local_addr().unwrap());
    let connections = serve(listener);
    let (path, mut fifo) = rig.fifo("f");
    plugin.start_logging("c", &path, &[("syslog-address", &address)]);
    fifo.write_all(&numbered(3)).unwrap();
    let mut connection = connections.recv_timeout(LIMIT).unwrap();
    assert_eq!(numbers(&read_up_to(&mut connection, "line 0000003")), [3]);
    assert_eq!(plugin.sinks()[0].error, None);
}

/// Each address has a sink of its own: a dead one holds up neither the others nor the container,
/// and gets all of it when it comes back, also after a kill.
#[test]
fn several_addresses_each_get_all_of_it() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_read_timeout(Some(LIMIT)).unwrap();
    let (live, udp) = (listener.local_addr().unwrap(), datagrams.local_addr().unwrap());
    let connections = serve(listener);
    let address = format!("tcp://{dead},tcp://{live},udp://{udp}");
    let (path, mut fifo) = rig.fifo("f");
    let options = [("syslog-address", address.as_str()), ("syslog-deliver", "all")];
    assert_eq!(plugin.start_logging("c", &path, &options), json!({"Err": ""}));
    let datagram = || {
        let mut buffer = [0; 2000];
        let length = datagrams.recv(&mut buffer).unwrap();
        numbers(&String::from_utf8_lossy(&buffer[..length]))
    };
    fifo.write_all(&numbered(0)).unwrap();
    let mut connection = connections.recv_timeout(LIMIT).unwrap();
    assert_eq!(numbers(&read_up_to(&mut connection, "line 0000000")), [0]);
    assert_eq!(datagram(), [0]);
    eventually("the dead one is seen to be", || plugin.sinks()[0].error.is_some());
    let targets: Vec<_> = plugin.sinks().into_iter().map(|sink| sink.target).collect();
    assert_eq!(targets, address.split(',').collect::<Vec<_>>());
    let lag = |plugin: &Plugin, sink: usize| plugin.sinks()[sink].lag_bytes;
    let settled = || (1..3).all(|sink| lag(&plugin, sink) == 0);
    eventually("it is not behind because of the other", settled);
    assert!(lag(&plugin, 0) > 0);
    plugin.kill();
    let first = serve(TcpListener::bind(dead).unwrap());
    let plugin = Plugin::start(rig.path());
    fifo.write_all(&numbered(1)).unwrap();
    let mut connection = connections.recv_timeout(LIMIT).unwrap();
    assert_eq!(numbers(&read_up_to(&mut connection, "line 0000001")), [1]);
    assert_eq!(datagram(), [1]);
    let mut connection = first.recv_timeout(LIMIT).unwrap();
    assert_eq!(numbers(&read_up_to(&mut connection, "line 0000001")), [0, 1]);
    plugin.stop_logging(&path);
    eventually("all of them end", || plugin.sinks().is_empty());
}

/// What a dead server had before it died may be lost with it: of a plugin that dies too, it counts.
#[test]
fn lines_that_might_have_to_be_sent_again_are_counted_when_they_cannot() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let address = format!("tcp://{server}");
    let (path, mut fifo) = rig.fifo("f");
    let options = [("syslog-address", address.as_str()), ("max-size", "20k"), ("max-file", "2")];
    plugin.start_logging("c", &path, &options);
    fifo.write_all(&(0..100).flat_map(numbered).collect::<Vec<_>>()).unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    read_up_to(&mut connection, "line 0000099");
    // So that the server's system is seen to have taken them.
    std::thread::sleep(Duration::from_millis(300));
    drop((connection, listener));
    eventually("it is noticed", || plugin.sinks()[0].error.is_some());
    let mut written = 100;
    eventually("what is dropped is counted", || {
        let lines = (written..written + 50).flat_map(numbered);
        fifo.write_all(&lines.collect::<Vec<_>>()).unwrap();
        written += 50;
        plugin.sinks()[0].dropped_lines > 0
    });
    plugin.stop_logging(&path);
    rig.all_is_counted();
    // Those that the server is taken to have had for long enough.
    let settled = plugin.sinks()[0].lines;
    plugin.kill();
    let connections = serve(TcpListener::bind(server).unwrap());
    let _plugin = Plugin::start(rig.path());
    let mut connection = connections.recv_timeout(Duration::from_secs(40)).unwrap();
    let text = read_up_to(&mut connection, &format!("line {:07}", written - 1));
    let said = text.split("pglog: ").nth(1).unwrap().split(" lines").next().unwrap();
    let count = |number: Option<&str>| number.unwrap().parse::<u64>().unwrap();
    let (least, most) = (count(said.split(' ').next()), count(said.rsplit(' ').next()));
    let came = numbers(&text).len() as u64;
    // The first hundred had come, but nobody can know that.
    assert_eq!(came + least + 100, u64::from(written), "{said}");
    assert_eq!(came + most + settled, u64::from(written), "{said}");
}

/// What retention removes meanwhile is counted and said, and no stop waits for a dead server.
#[test]
fn a_dead_server_keeps_no_container_from_stopping() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = format!("tcp://{dead}");
    let (path, mut fifo) = rig.fifo("f");
    let options = [("syslog-address", address.as_str()), ("max-size", "20k"), ("max-file", "2")];
    plugin.start_logging("c", &path, &options);
    fifo.write_all(&numbered(0)).unwrap();
    eventually("it waits with one line", || plugin.sinks()[0].error.is_some());
    for n in 1..3000 {
        fifo.write_all(&numbered(n)).unwrap();
    }
    plugin.stop_logging(&path);
    eventually("what is dropped is counted", || plugin.sinks()[0].dropped_lines > 0);
    let error = plugin.sinks()[0].error.clone().unwrap();
    assert!(error.contains(&dead.to_string()), "{error}");
    let connections = serve(TcpListener::bind(dead).unwrap());
    let mut connection = connections.recv_timeout(Duration::from_secs(40)).unwrap();
    let text = read_up_to(&mut connection, "line 0002999");
    let said = text.lines().find(|line| line.contains("]: pglog: ")).unwrap();
    let count: usize =
        said.split("pglog: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(numbers(&text).len() + count, 3000);
    assert!(said.starts_with("<27>"), "{said}");
}

/// A stream that broke may not have brought what it was sent: the next address gets it, whatever it is.
#[test]
fn what_a_stream_may_have_lost_goes_to_the_next_address() {
    let rig = Rig::new();
    let plugin = Plugin::start(rig.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_read_timeout(Some(LIMIT)).unwrap();
    let (tcp, udp) = (listener.local_addr().unwrap(), datagrams.local_addr().unwrap());
    let (path, mut fifo) = rig.fifo("f");
    let address = format!("tcp://{tcp},udp://{udp}");
    let options = [("syslog-address", address.as_str()), ("syslog-framing", "octet-counting")];
    plugin.start_logging("c", &path, &options);
    fifo.write_all(&[numbered(0), numbered(1)].concat()).unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    drop(listener);
    read_up_to(&mut connection, "line 0000001");
    drop(connection);
    fifo.write_all(&numbered(2)).unwrap();
    let mut got = Vec::new();
    while !got.contains(&2) {
        let mut buffer = [0; 2000];
        let length = datagrams.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]);
        assert!(text.starts_with('<'), "{text}");
        got.extend(numbers(&text));
    }
    assert_eq!(got, [0, 1, 2]);
}
