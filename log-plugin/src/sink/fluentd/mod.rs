//! The sink that sends to a fluentd, or to whatever else speaks its forward protocol.
//!
//! A batch becomes chunks, each with a name that the server says again when it has taken the
//! chunk. Several are on their way at once. A chunk that was not acknowledged when the connection
//! broke, or after a time, is sent again on the next, by the same name: every record arrives at
//! least once. Without acknowledgements (`fluentd-request-ack=false`) what the server's system has
//! taken counts as delivered when the connection has stood for a while after.

mod connection;
mod encode;
mod handshake;
mod msgpack;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use self::connection::Connection;
pub(super) use self::connection::FluentdError;
use self::encode::{Chunk, Encoder};
use super::ledger::{self, Ledger};
use super::notice;
use super::target::FluentdTarget;
use crate::frame::LogEntry;
use crate::journal::Dropped;
use crate::options::FluentdAddress;
use crate::sys::HostRoot;

/// How long a server may take to acknowledge a chunk.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a connection must stand for what was sent on it to count as delivered, where nothing
/// is acknowledged.
const STANDS: Duration = Duration::from_secs(3);

/// Most bytes that are on their way at once, and most chunks.
const WINDOW: usize = 4 << 20;
const CHUNKS: usize = 4096;

/// `address` as people write it.
pub(super) fn shown(address: &FluentdAddress) -> String {
    connection::shown(address)
}

/// The sender of one container's log.
#[derive(Debug)]
pub(super) struct FluentdOutlet {
    target: FluentdTarget,
    host: HostRoot,
    ledger: Arc<Mutex<Ledger>>,
    encoder: Encoder,
    connection: Option<Connection>,
    /// What is not delivered, in the order of the log.
    parts: VecDeque<Part>,
    /// Bytes of those that were sent on this connection.
    on_the_way: usize,
    /// Batches that are delivered and were not told of.
    settled: usize,
}

#[derive(Debug)]
struct Part {
    chunk: Chunk,
    /// On this connection.
    sent: Option<Instant>,
    delivered: bool,
    /// Whether a batch ends with it.
    ends_batch: bool,
}

impl FluentdOutlet {
    pub(super) fn new(
        host: HostRoot,
        container: &str,
        target: FluentdTarget,
        ledger: Arc<Mutex<Ledger>>,
    ) -> Self {
        Self {
            encoder: Encoder::new(container, &target),
            target,
            host,
            ledger,
            connection: None,
            parts: VecDeque::new(),
            on_the_way: 0,
            settled: 0,
        }
    }

    /// Takes a batch to be sent.
    pub(super) fn accept(&mut self, entries: &[LogEntry], dropped: Dropped) {
        let notice = dropped.any().then(|| notice::of(dropped, entries.first()));
        let chunks = self.encoder.chunks(notice.iter().chain(entries));
        let mut chunks = chunks.into_iter().peekable();
        if chunks.peek().is_none() {
            self.settled += 1;
        }
        while let Some(chunk) = chunks.next() {
            let ends_batch = chunks.peek().is_none();
            self.parts.push_back(Part { chunk, sent: None, delivered: false, ends_batch });
        }
    }

    /// Sends all that was accepted, and waits until not too much of it is on its way.
    pub(super) async fn send(&mut self) -> Result<(), FluentdError> {
        self.work(WINDOW / 2).await
    }

    /// Whether [`FluentdOutlet::settle`] has something to do.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Waits until all batches are delivered. May be given up at any time.
    pub(super) async fn settle(&mut self) -> Result<(), FluentdError> {
        self.work(0).await
    }

    /// How many batches have come to be delivered since this was last asked.
    pub(super) fn take_settled(&mut self) -> usize {
        std::mem::take(&mut self.settled)
    }

    /// Ends the connection.
    pub(super) async fn close(self) {
        if let Some(connection) = self.connection {
            connection.link.close().await;
        }
    }

    /// Sends and waits until all is sent and at most so many bytes are `on_the_way`.
    async fn work(&mut self, on_the_way: usize) -> Result<(), FluentdError> {
        self.forget_closed().await;
        loop {
            if self.parts.is_empty() {
                return Ok(());
            }
            if self.connection.as_ref().is_none_or(|connection| connection.midway) {
                self.connect().await?;
            }
            let worked = self.step(on_the_way).await;
            if worked.is_err() {
                self.connection = None;
            }
            if worked? == Step::Enough {
                return Ok(());
            }
        }
    }

    /// A server may close a connection that was idle: nothing is lost with it.
    async fn forget_closed(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        if self.on_the_way == 0 && connection.link.check().await.is_err() {
            self.connection = None;
        }
    }

    /// A connection on which nothing was sent yet.
    async fn connect(&mut self) -> Result<(), FluentdError> {
        self.connection = None;
        self.parts.iter_mut().for_each(|part| part.sent = None);
        self.on_the_way = 0;
        self.connection = Some(Connection::open(&self.target, &self.host).await?);
        Ok(())
    }

    /// Sends the next part, or waits for one to be delivered.
    async fn step(&mut self, enough: usize) -> Result<Step, FluentdError> {
        let Some(connection) = &mut self.connection else { return Ok(Step::More) };
        let mut waiting = self.parts.iter().filter(|part| !part.delivered);
        let oldest = waiting.clone().find_map(|part| part.sent);
        let sent = waiting.clone().filter(|part| part.sent.is_some()).count();
        let next = waiting.position(|part| part.sent.is_none());
        let room =
            self.on_the_way < WINDOW && sent < CHUNKS && (sent == 0 || connection.keep_alive);
        if let Some(part) =
            self.parts.iter_mut().find(|part| !part.delivered && part.sent.is_none())
            && room
        {
            ledger::send(&self.ledger);
            connection.midway = true;
            connection.link.send(&part.chunk.bytes).await?;
            connection.midway = false;
            part.sent = Some(Instant::now());
            self.on_the_way += part.chunk.bytes.len();
            return Ok(Step::More);
        }
        let Some(oldest) = oldest else { return Ok(Step::Enough) };
        if next.is_none() && self.on_the_way <= enough {
            return Ok(Step::Enough);
        }
        if self.target.ack {
            let (address, seconds) = (connection::shown(&self.target.address), PATIENCE.as_secs());
            let late = FluentdError::NoAck { address, seconds };
            // A server that never stops to talk is not given more time for it.
            if oldest.elapsed() >= PATIENCE {
                return Err(late);
            }
            let ack = timeout_at(oldest + PATIENCE, connection.acknowledged()).await;
            let id = ack.unwrap_or(Err(late))?;
            self.delivered(|part| part.chunk.id.as_ref() == Some(&id));
        } else {
            // With too much on its way, what is oldest counts without having stood.
            if self.on_the_way < WINDOW && next.is_none() {
                sleep_until(oldest + STANDS).await;
            }
            connection.link.taken().await?;
            self.delivered(|part| part.sent == Some(oldest));
        }
        Ok(Step::More)
    }

    /// Notes the part that has come to be delivered.
    fn delivered(&mut self, is_it: impl Fn(&Part) -> bool) {
        let sent = |part: &&mut Part| !part.delivered && part.sent.is_some();
        let found = self.parts.iter_mut().filter(sent).find(|part| is_it(part));
        // What is acknowledged otherwise was sent on a connection before, or twice, or never.
        let Some(part) = found else { return };
        part.delivered = true;
        self.on_the_way -= part.chunk.bytes.len();
        part.chunk.bytes = Vec::new();
        while self.parts.front().is_some_and(|part| part.delivered) {
            let ended = self.parts.pop_front().is_some_and(|part| part.ends_batch);
            self.settled += usize::from(ended);
        }
        // Who takes one message on a connection is done with it.
        if self.connection.as_ref().is_some_and(|connection| !connection.keep_alive) {
            self.connection = None;
        }
    }
}

/// What one step came to.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// There is more to do.
    More,
    /// All is sent, and enough of it delivered.
    Enough,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{FluentdMode, TlsSpec};
    use rmpv::Value;
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    fn outlet(dir: &Path) -> FluentdOutlet {
        let target = FluentdTarget {
            address: FluentdAddress::Unix("/socket".into()),
            mode: FluentdMode::Message,
            ack: true,
            sub_second: true,
            hostname: None,
            shared_key: None,
            user: None,
            password: None,
            tls: TlsSpec::default(),
            tag: "t".to_owned(),
            container_name: "/c".to_owned(),
            extra: BTreeMap::new(),
            ignored: Vec::new(),
        };
        let ledger = Ledger::open(&dir.join("cursor")).unwrap();
        FluentdOutlet::new(HostRoot::new(dir), "c", target, Arc::new(Mutex::new(ledger)))
    }

    fn entry(text: &str) -> LogEntry {
        LogEntry { source: "stdout".to_owned(), line: text.into(), ..LogEntry::default() }
    }

    /// Of a connection before, of one that knows what it was not sent, or of one that guesses.
    #[test]
    fn only_what_was_sent_can_be_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let mut outlet = outlet(dir.path());
        outlet.accept(&[entry("a"), entry(&"b".repeat(1000))], Dropped::default());
        let ids: Vec<_> = outlet.parts.iter().map(|part| part.chunk.id.clone()).collect();
        outlet.parts[0].sent = Some(Instant::now());
        outlet.on_the_way = outlet.parts[0].chunk.bytes.len();
        outlet.delivered(|part| part.chunk.id == ids[1]);
        assert_eq!((outlet.parts.len(), outlet.on_the_way > 0), (2, true));
        outlet.delivered(|part| part.chunk.id == ids[0]);
        outlet.delivered(|part| part.chunk.id == ids[0]);
        assert_eq!((outlet.parts.len(), outlet.on_the_way, outlet.settled), (1, 0, 0));
    }

    /// It would be waited for as long as it talks.
    #[tokio::test]
    async fn a_server_that_acknowledges_something_else_has_no_more_time() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let mut outlet = outlet(dir.path());
        outlet.accept(&[entry("a")], Dropped::default());
        outlet.send().await.unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let wrong = Value::Map(vec![("ack".into(), "another".into())]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &wrong).unwrap();
        server.write_all(&bytes.repeat(100)).unwrap();
        assert_eq!(outlet.step(0).await.unwrap(), Step::More);
        outlet.parts[0].sent = Instant::now().checked_sub(PATIENCE);
        assert!(matches!(outlet.step(0).await, Err(FluentdError::NoAck { .. })));
    }
}
