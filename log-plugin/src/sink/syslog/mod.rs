//! The sink that sends to syslog servers.
//!
//! A stream of syslog messages has no acknowledgements. What a server was sent counts as
//! delivered when its system has taken it and the connection has stood for a while after; what it
//! was sent shortly before a connection broke is sent again on the next. So each message arrives
//! at least once over a stream, unless the server loses what it has had for longer. Datagrams are
//! sent once.

mod connection;
mod encode;
pub(super) mod structured;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::time::Instant;

use self::connection::Connection;
use self::encode::{Facts, Layout, frame};
use super::ledger::{self, Ledger};
use super::link::LinkError;
use super::notice;
use super::target::SyslogTarget;
use crate::frame::LogEntry;
use crate::journal::Dropped;
use crate::options::{Address, Framing, SyslogFormat};
use crate::sys::{self, HostRoot};

/// What a message has besides its line, as a rule.
const USUAL_HEAD: usize = 96;

/// How long a connection must stand for what was sent on it to count as delivered.
const STANDS: Duration = Duration::from_secs(3);

/// Most bytes that are kept to be sent again.
const KEPT: usize = 4 << 20;

/// Most bytes that may be on their way before a server's system has taken them: a wait for each batch would be
/// one for the network. Less than is kept, since what was not taken may have to be sent again.
const AHEAD: usize = 1 << 20;

/// Largest description of a time zone; real ones have a few kilobytes.
const LARGEST_ZONE: u64 = 1 << 20;

/// `addresses` as people write them.
pub(super) fn shown(addresses: &[Address]) -> String {
    addresses.iter().map(connection::shown).collect::<Vec<_>>().join(",")
}

/// The sender of one container's log.
#[derive(Debug)]
pub(super) struct SyslogOutlet {
    target: SyslogTarget,
    host: HostRoot,
    ledger: Arc<Mutex<Ledger>>,
    layout: Layout,
    /// Which address is tried next.
    next: usize,
    connection: Option<Connection>,
    /// The batch: messages, and where each ends.
    pending: Vec<u8>,
    ends: Vec<usize>,
    /// How many of them went as datagrams.
    sent: usize,
    /// It is among the recent ones.
    handed: bool,
    /// Batches that may have to be sent again, as they went over the stream.
    recent: VecDeque<Recent>,
    /// Of the recent ones, those that were sent on this connection.
    on_this: usize,
    /// Batches that count as delivered and were not told of.
    settled: usize,
}

#[derive(Debug)]
struct Recent {
    /// Since when the other side's system is known to have it.
    taken: Option<Instant>,
    /// Its messages, one after another, and where each ends: another address may want them otherwise.
    messages: Vec<u8>,
    ends: Vec<usize>,
}

impl Recent {
    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| &self.messages[begin..end])
    }

    /// As it goes over a stream with `framing`.
    fn framed(&self, framing: Framing) -> Cow<'_, [u8]> {
        if framing == Framing::Lf {
            return Cow::Borrowed(&self.messages);
        }
        let mut out = Vec::with_capacity(self.messages.len() + 8 * self.ends.len());
        self.each().for_each(|message| frame(message, &mut out));
        Cow::Owned(out)
    }
}

impl SyslogOutlet {
    pub(super) fn new(host: HostRoot, target: SyslogTarget, ledger: Arc<Mutex<Ledger>>) -> Self {
        let layout = Layout::new(Facts {
            format: target.format,
            facility: target.facility,
            host: &sys::host_name(),
            tag: &target.tag,
            pid: std::process::id(),
            structured: target.structured.as_deref(),
            zone: zone_of(&host),
        });
        Self {
            target,
            host,
            ledger,
            layout,
            next: 0,
            connection: None,
            pending: Vec::new(),
            ends: Vec::new(),
            sent: 0,
            handed: false,
            recent: VecDeque::new(),
            on_this: 0,
            settled: 0,
        }
    }

    /// Takes a batch to be sent; the one before is sent by now.
    pub(super) fn accept(&mut self, entries: &[LogEntry], dropped: Dropped) {
        self.pending.clear();
        self.ends.clear();
        (self.sent, self.handed) = (0, false);
        let notice = dropped.any().then(|| notice::of(dropped, entries.first()));
        self.pending.reserve(entries.iter().map(|entry| entry.line.len() + USUAL_HEAD).sum());
        self.ends.reserve(entries.len() + 1);
        for entry in notice.iter().chain(entries) {
            let before = self.pending.len();
            self.layout.message(entry, &mut self.pending);
            if self.pending.len() > before {
                self.ends.push(self.pending.len());
            }
        }
    }

    /// Sends the batch, after what has to be sent again. Where this is cut short, the next time
    /// begins with a new connection.
    pub(super) async fn send(&mut self) -> Result<(), LinkError> {
        // One without messages has its turn after those before it, too.
        if self.ends.is_empty() && self.recent.is_empty() && !self.handed {
            self.settled += 1;
            return Ok(());
        }
        let mut connection = self.connected().await?;
        if self.handed {
            // The connection broke after that, and it was sent again with the others.
            self.connection = Some(connection);
            return Ok(());
        }
        ledger::send(&self.ledger);
        if connection.is_datagram() {
            while let Some(end) = self.ends.get(self.sent) {
                let begin = self.sent.checked_sub(1).map_or(0, |before| self.ends[before]);
                connection.send(&self.pending[begin..*end]).await?;
                self.sent += 1;
            }
            self.settled += 1;
        } else {
            let messages = std::mem::take(&mut self.pending);
            let ends = std::mem::take(&mut self.ends);
            self.recent.push_back(Recent { taken: None, messages, ends });
            self.handed = true;
            let framing = self.framing();
            if let Some(batch) = self.recent.back() {
                connection.send(&batch.framed(framing)).await?;
            }
            self.on_this += 1;
            if self.not_taken() > AHEAD {
                connection.taken().await?;
                self.note_taken();
            } else if connection.has_taken()? {
                self.note_taken();
            }
            self.settle_old();
        }
        self.connection = Some(connection);
        self.pending = Vec::new();
        self.ends = Vec::new();
        Ok(())
    }

    /// Whether [`SyslogOutlet::settle`] has something to do.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.recent.is_empty()
    }

    /// Waits until all batches count as delivered; sends again what has to be.
    pub(super) async fn settle(&mut self) -> Result<(), LinkError> {
        loop {
            if self.connection.is_none() || self.on_this < self.recent.len() {
                let connection = self.connected().await?;
                self.connection = Some(connection);
            }
            let Some(oldest) = self.recent.front() else { return Ok(()) };
            let Some(connection) = &mut self.connection else { continue };
            let stands = if let Some(taken) = oldest.taken {
                tokio::time::sleep_until(taken + STANDS).await;
                connection.check().await
            } else {
                let taken = connection.taken().await;
                if taken.is_ok() {
                    self.note_taken();
                }
                taken
            };
            if stands.is_ok() {
                self.settle_old();
            } else {
                (self.connection, self.on_this) = (None, 0);
            }
        }
    }

    /// How many batches have come to count as delivered since this was last asked.
    pub(super) fn take_settled(&mut self) -> usize {
        std::mem::take(&mut self.settled)
    }

    /// Ends the connection.
    pub(super) async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }

    /// Batches old enough, on a connection that stands, need not be sent again; nor those for
    /// which there is no room.
    fn settle_old(&mut self) {
        let mut size: usize = self.recent.iter().map(|batch| batch.messages.len()).sum();
        while let Some(oldest) = self.recent.front()
            && let Some(taken) = oldest.taken
            && (taken.elapsed() >= STANDS || size > KEPT)
        {
            size -= oldest.messages.len();
            self.recent.pop_front();
            self.on_this = self.on_this.saturating_sub(1);
            self.settled += 1;
        }
    }

    /// Bytes of which it is not known that the other side's system has them.
    fn not_taken(&self) -> usize {
        let open = self.recent.iter().rev().take_while(|batch| batch.taken.is_none());
        open.map(|batch| batch.messages.len()).sum()
    }

    /// The other side's system has all that was sent.
    fn note_taken(&mut self) {
        let now = Instant::now();
        for batch in self.recent.iter_mut().rev().take_while(|batch| batch.taken.is_none()) {
            batch.taken = Some(now);
        }
    }

    /// A connection on which all recent batches have gone: the one there is, or a new one. It is
    /// given back only by who was not cut short.
    async fn connected(&mut self) -> Result<Connection, LinkError> {
        let mut standing = self.connection.take().filter(|connection| !connection.is_stale());
        if let Some(connection) = &mut standing
            && connection.check().await.is_err()
        {
            standing = None;
        }
        let mut connection = if let Some(connection) = standing {
            connection
        } else {
            self.on_this = 0;
            self.recent.iter_mut().for_each(|batch| batch.taken = None);
            self.connect().await?
        };
        while connection.is_datagram()
            && let Some(batch) = self.recent.front()
        {
            for message in batch.each() {
                connection.send(message).await?;
            }
            self.recent.pop_front();
            self.settled += 1;
        }
        let framing = self.framing();
        for batch in self.recent.iter_mut().skip(self.on_this) {
            connection.send(&batch.framed(framing)).await?;
            connection.taken().await?;
            batch.taken = Some(Instant::now());
        }
        self.on_this = self.recent.len();
        Ok(connection)
    }

    /// Connects to the first address that answers, beginning with the one that did last.
    async fn connect(&mut self) -> Result<Connection, LinkError> {
        let mut tried = 0;
        loop {
            let address = &self.target.addresses[self.next % self.target.addresses.len()];
            tried += 1;
            match Connection::open(address, &self.target.tls, &self.host).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    self.next = (self.next + 1) % self.target.addresses.len();
                    if tried >= self.target.addresses.len() {
                        return Err(error);
                    }
                    tracing::debug!(error = plugin_sdk::chain::chain(&error), "the next address");
                }
            }
        }
    }

    /// How messages end in a stream to the address in use.
    fn framing(&self) -> Framing {
        let address = &self.target.addresses[self.next % self.target.addresses.len()];
        let rfc5424 =
            matches!(self.target.format, SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro);
        let usual = match address {
            Address::Tls(..) if rfc5424 => Framing::OctetCounting,
            _ => Framing::Lf,
        };
        self.target.framing.unwrap_or(usual)
    }
}

/// The time zone that the host's clock shows; UTC where it has none.
fn zone_of(host: &HostRoot) -> TimeZone {
    let read = || host.existing(Path::new("/etc/localtime"))?.read(LARGEST_ZONE);
    read().ok().and_then(|bytes| TimeZone::tzif("host", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
#[path = "outlet_tests.rs"]
mod tests;
