//! Entries as messages of fluentd's forward protocol (version 1), with the records of Docker's
//! driver.
//!
//! A chunk is what a server acknowledges: the message of one entry, or those of a batch up to a
//! size that every server takes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::msgpack::{array, base64, binary, event_time, map, number, string};
use crate::frame::LogEntry;
use crate::options::FluentdMode;
use crate::sink::target::FluentdTarget;

/// Encoded entries of one chunk: servers close on messages of more than 6 MB, and one entry more
/// is 17 KiB and what labels add.
const LARGEST: usize = 1 << 20;

/// The key of a chunk's name in a message's options and in the server's answer.
pub(super) const CHUNK: &str = "chunk";

/// One message, ready to be sent.
#[derive(Debug)]
pub(super) struct Chunk {
    /// What the server acknowledges; none where it does not.
    pub(super) id: Option<String>,
    pub(super) bytes: Vec<u8>,
}

/// Makes the chunks of one container.
#[derive(Debug)]
pub(super) struct Encoder {
    target: FluentdTarget,
    /// Fields that all records have, encoded, and how many these are.
    common: Fields,
    /// Fields of those that are no piece of a line: those of a piece are called likewise.
    of_whole: Fields,
    /// Whether a record takes its source, or its line, from the entry.
    own_source: bool,
    own_log: bool,
    /// No two chunks have one name: a random number for this encoder's, and a count.
    series: u64,
    count: u64,
}

#[derive(Debug, Default)]
struct Fields {
    count: u32,
    bytes: Vec<u8>,
}

impl Fields {
    fn add(&mut self, key: &str, value: &[u8]) {
        self.count += 1;
        string(&mut self.bytes, key.as_bytes());
        string(&mut self.bytes, value);
    }
}

impl Encoder {
    pub(super) fn new(container: &str, target: &FluentdTarget) -> Self {
        let mut fields = BTreeMap::from([
            ("container_id", container),
            ("container_name", &*target.container_name),
        ]);
        // With Docker one that is called like a field takes its place.
        fields.extend(target.extra.iter().map(|(key, value)| (&**key, &**value)));
        let (mut common, mut of_whole) = (Fields::default(), Fields::default());
        for (key, value) in &fields {
            let pieces = PIECE.contains(key);
            let fields = if pieces { &mut of_whole } else { &mut common };
            fields.add(key, value.as_bytes());
        }
        Self {
            own_source: !fields.contains_key("source"),
            own_log: !fields.contains_key("log"),
            target: target.clone(),
            common,
            of_whole,
            // A new hasher's keys are random.
            series: RandomState::new().hash_one(container),
            count: 0,
        }
    }

    /// The chunks for `entries`, in their order.
    pub(super) fn chunks<'e>(
        &mut self,
        entries: impl IntoIterator<Item = &'e LogEntry>,
    ) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let (mut events, mut count) = (Vec::new(), 0);
        for entry in entries {
            if self.target.mode == FluentdMode::Message {
                chunks.push(self.message(entry));
                continue;
            }
            array(&mut events, 2);
            self.time(&mut events, entry);
            self.record(&mut events, entry);
            count += 1;
            if events.len() >= LARGEST {
                chunks.push(self.many(&events, count));
                (events, count) = (Vec::new(), 0);
            }
        }
        if count > 0 {
            chunks.push(self.many(&events, count));
        }
        chunks
    }

    /// One event.
    fn message(&mut self, entry: &LogEntry) -> Chunk {
        let id = self.id();
        let mut bytes = Vec::with_capacity(self.common.bytes.len() + entry.line.len() + 200);
        array(&mut bytes, 3 + u32::from(id.is_some()));
        string(&mut bytes, self.target.tag.as_bytes());
        self.time(&mut bytes, entry);
        self.record(&mut bytes, entry);
        if let Some(id) = &id {
            map(&mut bytes, 1);
            string(&mut bytes, CHUNK.as_bytes());
            string(&mut bytes, id.as_bytes());
        }
        Chunk { id, bytes }
    }

    /// So many events, encoded one after another.
    fn many(&mut self, events: &[u8], count: u32) -> Chunk {
        let id = self.id();
        let mut bytes = Vec::with_capacity(events.len() + 200);
        array(&mut bytes, 3);
        string(&mut bytes, self.target.tag.as_bytes());
        let compressed =
            (self.target.mode == FluentdMode::Compressed).then(|| gzip(events).ok()).flatten();
        match &compressed {
            Some(compressed) => binary(&mut bytes, compressed),
            None if self.target.mode == FluentdMode::Forward => {
                array(&mut bytes, count);
                bytes.extend_from_slice(events);
            }
            None => binary(&mut bytes, events),
        }
        map(&mut bytes, 1 + u32::from(id.is_some()) + u32::from(compressed.is_some()));
        string(&mut bytes, b"size");
        number(&mut bytes, count.into());
        if let Some(id) = &id {
            string(&mut bytes, CHUNK.as_bytes());
            string(&mut bytes, id.as_bytes());
        }
        if compressed.is_some() {
            string(&mut bytes, b"compressed");
            string(&mut bytes, b"gzip");
        }
        Chunk { id, bytes }
    }

    fn time(&self, out: &mut Vec<u8>, entry: &LogEntry) {
        const SECOND: i64 = 1_000_000_000;
        let (seconds, nanos) =
            (entry.time_nano.div_euclid(SECOND), entry.time_nano.rem_euclid(SECOND));
        // What does not fit (before 1970, after 2106) is no time that dockerd would give.
        let (seconds, nanos) =
            (u32::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        if self.target.sub_second {
            event_time(out, seconds, nanos);
        } else {
            number(out, seconds.into());
        }
    }

    fn record(&self, out: &mut Vec<u8>, entry: &LogEntry) {
        let piece = entry.partial_log_metadata.as_ref();
        let more = if piece.is_some() { PIECES } else { self.of_whole.count };
        let own = u32::from(self.own_source) + u32::from(self.own_log);
        map(out, self.common.count + own + more);
        out.extend_from_slice(&self.common.bytes);
        if self.own_source {
            string(out, b"source");
            string(out, entry.source.as_bytes());
        }
        if self.own_log {
            string(out, b"log");
            string(out, &entry.line);
        }
        let Some(piece) = piece else { return out.extend_from_slice(&self.of_whole.bytes) };
        let (ordinal, last) = (piece.ordinal.to_string(), piece.last.to_string());
        for (key, value) in PIECE.into_iter().zip(["true", &piece.id, &ordinal, &last]) {
            string(out, key.as_bytes());
            string(out, value.as_bytes());
        }
    }

    /// 128 bits in base64, as the protocol proposes.
    fn id(&mut self) -> Option<String> {
        self.count += 1;
        let bits = (u128::from(self.series) << 64) | u128::from(self.count);
        self.target.ack.then(|| base64(bits.to_be_bytes()))
    }
}

/// Logs are much alike: more effort gains little.
fn gzip(events: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(events)?;
    gzip.finish()
}

/// Fields that a piece of a long line has besides.
const PIECES: u32 = 4;
const PIECE: [&str; PIECES as usize] =
    ["partial_message", "partial_id", "partial_ordinal", "partial_last"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PartialLogEntryMetadata;
    use crate::frame::testing::line;
    use crate::options::{FluentdAddress, TlsSpec};
    use flate2::read::MultiGzDecoder;
    use rmpv::Value;
    use rmpv::decode::read_value;
    use std::io::Read;

    fn target(mode: FluentdMode) -> FluentdTarget {
        FluentdTarget {
            address: FluentdAddress::Tcp("a".to_owned(), 1),
            mode,
            ack: true,
            sub_second: true,
            hostname: None,
            shared_key: None,
            user: None,
            password: None,
            tls: TlsSpec::default(),
            tag: "docker.x".to_owned(),
            container_name: "/web".to_owned(),
            extra: BTreeMap::from([("app".to_owned(), "shop".to_owned())]),
            ignored: Vec::new(),
        }
    }

    fn values(mut bytes: &[u8]) -> Vec<Value> {
        let mut values = Vec::new();
        while !bytes.is_empty() {
            values.push(read_value(&mut bytes).unwrap());
        }
        values
    }

    fn field<'v>(map: &'v Value, name: &str) -> Option<&'v Value> {
        let found = map.as_map().unwrap().iter().find(|(key, _)| key.as_str() == Some(name));
        found.map(|(_, value)| value)
    }

    fn sent(target: &FluentdTarget, entries: &[LogEntry]) -> Vec<Value> {
        let chunks = Encoder::new("0123", target).chunks(entries);
        for chunk in &chunks {
            let options = values(&chunk.bytes)[0].as_array().unwrap().last().cloned().unwrap();
            let named = field(&options, CHUNK).map(|id| id.as_str().unwrap().to_owned());
            assert_eq!(named, chunk.id);
        }
        chunks.iter().flat_map(|chunk| values(&chunk.bytes)).collect()
    }

    #[test]
    fn a_message_is_docker_s() {
        let entry = line(1_795_354_221_000_002_999, "hello");
        let plain = FluentdTarget { ack: false, sub_second: false, ..target(FluentdMode::Message) };
        let sent = sent_plain(&plain, &entry);
        assert_eq!(sent[0].as_str(), Some("docker.x"));
        assert_eq!(sent[1].as_u64(), Some(1_795_354_221));
        let text = |name| field(&sent[2], name).and_then(Value::as_str);
        assert_eq!(text("container_id"), Some("0123"));
        assert_eq!(text("container_name"), Some("/web"));
        assert_eq!((text("source"), text("log")), (Some("stdout"), Some("hello")));
        assert_eq!((text("app"), sent[2].as_map().unwrap().len()), (Some("shop"), 5));
        assert_eq!(sent.len(), 3);
    }

    fn sent_plain(target: &FluentdTarget, entry: &LogEntry) -> Vec<Value> {
        let chunks = Encoder::new("0123", target).chunks([entry]);
        assert_eq!(chunks[0].id, None);
        values(&chunks[0].bytes)[0].as_array().unwrap().clone()
    }

    #[test]
    fn every_mode_carries_the_same_events() {
        let piece = LogEntry {
            partial: true,
            partial_log_metadata: Some(PartialLogEntryMetadata {
                last: true,
                id: "ab".to_owned(),
                ordinal: 2,
            }),
            ..line(5, b"\xff piece".to_vec())
        };
        let entries = [line(7, ""), piece];
        let message = sent(&target(FluentdMode::Message), &entries);
        let of_message: Vec<_> = message
            .iter()
            .map(|message| Value::Array(message.as_array().unwrap()[1..3].to_vec()))
            .collect();
        assert_eq!(
            of_message[0].as_array().unwrap()[0],
            Value::Ext(0, vec![0, 0, 0, 0, 0, 0, 0, 7])
        );
        let last = &of_message[1].as_array().unwrap()[1];
        for (name, value) in [("partial_message", "true"), ("partial_ordinal", "2")] {
            assert_eq!(field(last, name).unwrap().as_str(), Some(value));
        }
        assert_eq!(field(last, "partial_last").unwrap().as_str(), Some("true"));
        for mode in [FluentdMode::Forward, FluentdMode::Packed, FluentdMode::Compressed] {
            let sent = sent(&target(mode), &entries);
            let message = sent[0].as_array().unwrap();
            let events = match &message[1] {
                Value::Array(events) => events.clone(),
                Value::Binary(packed) if mode == FluentdMode::Compressed => {
                    let mut plain = Vec::new();
                    MultiGzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
                    values(&plain)
                }
                Value::Binary(packed) => values(packed),
                other => panic!("{other:?}"),
            };
            assert_eq!(events, of_message, "{mode:?}");
            assert_eq!(field(&message[2], "size").unwrap().as_u64(), Some(2));
            let gzip = field(&message[2], "compressed").map(|word| word.as_str() == Some("gzip"));
            assert_eq!(gzip, (mode == FluentdMode::Compressed).then_some(true));
        }
    }

    #[test]
    fn a_label_called_like_a_field_takes_its_place() {
        let names = ["log", "source", "partial_id", "container_name"];
        let extra = names.map(|name| (name.to_owned(), "mine".to_owned())).into();
        let target = FluentdTarget { extra, ..target(FluentdMode::Message) };
        let metadata = PartialLogEntryMetadata { id: "own".to_owned(), ..Default::default() };
        let piece =
            LogEntry { partial: true, partial_log_metadata: Some(metadata), ..line(0, "x") };
        let messages = sent(&target, &[line(0, "x"), piece]);
        let record = |at: usize| &messages[at].as_array().unwrap()[2];
        for name in names {
            assert_eq!(field(record(0), name).unwrap().as_str(), Some("mine"), "{name}");
        }
        assert_eq!(record(0).as_map().unwrap().len(), 5);
        assert_eq!(field(record(1), "partial_id").unwrap().as_str(), Some("own"));
        assert_eq!(record(1).as_map().unwrap().len(), 8);
    }

    #[test]
    fn chunks_stay_small_and_have_names_of_their_own() {
        let entries = vec![line(0, vec![b'x'; 16 << 10]); 200];
        let chunks = Encoder::new("c", &target(FluentdMode::Packed)).chunks(&entries);
        assert!(chunks.len() == 4 && chunks.iter().all(|chunk| chunk.bytes.len() < LARGEST * 2));
        assert_ne!(chunks[0].id, chunks[1].id);
    }
}
