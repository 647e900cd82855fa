//! dockerd's frames: a big-endian u32 length, then a protobuf `LogEntry` of that length.
//!
//! [`Scan`] walks the frames of a file that may still grow. Where the bytes are no frame (a torn
//! page after a power cut, a writer that is not dockerd) it looks for the next place that is one
//! and counts what it passed over; it always moves forward.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use prost::Message;

/// Length of the header.
pub const HEADER: usize = 4;

/// Longest body taken for one. dockerd cuts lines at 16 KiB, so a real one is under 17 KiB.
pub const MAX_BODY: usize = 1 << 20;

/// Shortest body: the source alone.
const MIN_BODY: usize = 8;

/// Header and source, what it takes to know a frame when one sees it.
const HEAD: usize = HEADER + MIN_BODY;

/// How much is read at once while walking: stays within the second-level cache.
const WINDOW: usize = 64 * 1024;

const STDOUT: &[u8; MIN_BODY] = b"\x0a\x06stdout";
const STDERR: &[u8; MIN_BODY] = b"\x0a\x06stderr";

/// A log message, or a piece of one longer than dockerd's 16 KiB.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LogEntry {
    /// `stdout` or `stderr`.
    #[prost(string, tag = "1")]
    pub source: String,
    /// When dockerd read it, in nanoseconds since 1970; pieces all have the first one's.
    #[prost(int64, tag = "2")]
    pub time_nano: i64,
    /// The bytes, without the newline that ended them.
    #[prost(bytes = "vec", tag = "3")]
    pub line: Vec<u8>,
    /// Whether this is a piece, be it the last.
    #[prost(bool, tag = "4")]
    pub partial: bool,
    /// Which piece.
    #[prost(message, optional, tag = "5")]
    pub partial_log_metadata: Option<PartialLogEntryMetadata>,
}

/// Place of a piece in its message.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PartialLogEntryMetadata {
    /// Whether it ends the message. Output that ends without a newline has no such piece.
    #[prost(bool, tag = "1")]
    pub last: bool,
    /// The same for all pieces of a message.
    #[prost(string, tag = "2")]
    pub id: String,
    /// Counted from 1.
    #[prost(int32, tag = "3")]
    pub ordinal: i32,
}

impl LogEntry {
    /// Whether the message goes on in another piece.
    pub fn continues(&self) -> bool {
        self.partial && !self.partial_log_metadata.as_ref().is_some_and(|piece| piece.last)
    }

    /// Appends this entry's frame to `out`.
    pub fn frame_into(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.encoded_len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        self.encode_raw(out);
    }
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// A frame of so many bytes, header included; not all of them need be there.
    Frame(usize),
    /// That can be told when there are so many bytes.
    Short(usize),
    /// No frame; the next place worth looking at is so many bytes on.
    Noise(usize),
}

/// Tells what `bytes` begin with.
pub fn probe(bytes: &[u8]) -> Probe {
    classify(bytes).unwrap_or_else(|| Probe::Noise(resynchronise(bytes)))
}

/// As [`probe`], `None` for noise.
fn classify(bytes: &[u8]) -> Option<Probe> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
        return Some(Probe::Short(HEAD));
    };
    let length = body_length(*header)?;
    let Some(source) = body.first_chunk::<MIN_BODY>() else {
        return Some(Probe::Short(HEAD));
    };
    if source == STDOUT || source == STDERR {
        return Some(Probe::Frame(HEADER + length));
    }
    // An encoder may order the fields otherwise: then all of the body has to be looked at.
    let begins_with_a_field = matches!(source[0], 0x0a | 0x10 | 0x1a | 0x20 | 0x2a | 0x32);
    if !begins_with_a_field {
        return None;
    }
    match body.get(..length) {
        None => Some(Probe::Short(HEADER + length)),
        Some(body) => LogEntry::decode(body)
            .is_ok_and(|entry| matches!(entry.source.as_str(), "stdout" | "stderr"))
            .then_some(Probe::Frame(HEADER + length)),
    }
}

fn body_length(header: [u8; HEADER]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(header)).ok()?;
    (MIN_BODY..=MAX_BODY).contains(&length).then_some(length)
}

/// How far it is to the next frame in `bytes`, which do not begin with one; if there is none, to
/// the last place where one could begin whose head is not all there yet.
fn resynchronise(bytes: &[u8]) -> usize {
    let heads = bytes.windows(HEAD).enumerate().skip(1);
    for (at, head) in heads {
        if &head[HEADER..] != STDOUT && &head[HEADER..] != STDERR {
            continue;
        }
        let Some(Probe::Frame(length)) = classify(&bytes[at..]) else { continue };
        let body = bytes.get(at + HEADER..at + length);
        if body.is_none_or(|body| LogEntry::decode(body).is_ok()) {
            return at;
        }
    }
    bytes.len().saturating_sub(HEAD - 1).max(1)
}

/// Where one frame lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the header.
    pub offset: u64,
    /// Length, header included.
    pub length: usize,
}

/// Bytes that can be read from any place on.
pub trait Source {
    /// Fills `out` with what is at `offset`.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, out, offset)
    }
}

/// One step of a [`Scan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A whole frame.
    Frame(Extent),
    /// The bytes end here, and the frame that has begun needs so many more at least: none when
    /// they end between two frames.
    End(u64),
}

/// A walk over the frames of a file from some offset on.
#[derive(Debug, Default)]
pub struct Scan {
    position: u64,
    noise: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Scan {
    /// A walk that begins at `position`, where a frame begins.
    pub fn from(position: u64) -> Self {
        Self { position, ..Self::default() }
    }

    /// Where the next frame begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes were passed over because they are no frame.
    pub fn noise(&self) -> u64 {
        self.noise
    }

    /// The next frame of `file` among its first `end` bytes.
    pub fn step(&mut self, file: &impl Source, end: u64) -> io::Result<Step> {
        loop {
            match probe(self.held(end)) {
                Probe::Frame(length) if self.position + length as u64 <= end => {
                    let frame = Extent { offset: self.position, length };
                    self.position += length as u64;
                    return Ok(Step::Frame(frame));
                }
                Probe::Noise(length) => {
                    self.position += length as u64;
                    self.noise += length as u64;
                }
                Probe::Short(_) if self.position == end => return Ok(Step::End(0)),
                Probe::Short(length) if self.position + length as u64 <= end => {
                    self.load(file, self.position, length, end)?;
                }
                Probe::Frame(length) | Probe::Short(length) => {
                    return Ok(Step::End(self.position + length as u64 - end));
                }
            }
        }
    }

    /// The body of `frame`, which [`Scan::step`] has found in `file`.
    pub fn body(&mut self, file: &impl Source, frame: Extent, end: u64) -> io::Result<&[u8]> {
        let last = frame.offset + frame.length as u64;
        if frame.offset < self.window_at || last > self.window_at + self.window.len() as u64 {
            self.load(file, frame.offset, frame.length, end)?;
        }
        let at = index(frame.offset - self.window_at);
        Ok(&self.window[at + HEADER..at + frame.length])
    }

    /// Gives the window's memory back until the next step.
    pub fn rest(&mut self) {
        self.window = Vec::new();
    }

    /// What the window has from the position on, as far as `end`.
    fn held(&self, end: u64) -> &[u8] {
        let window_end = (self.window_at + self.window.len() as u64).min(end);
        if self.position < self.window_at || self.position >= window_end {
            return &[];
        }
        &self.window[index(self.position - self.window_at)..index(window_end - self.window_at)]
    }

    /// Reads the window anew from `offset`: at least `length` bytes, none from `end` on.
    fn load(&mut self, file: &impl Source, offset: u64, length: usize, end: u64) -> io::Result<()> {
        let length = length.max(WINDOW.min(index(end.saturating_sub(offset))));
        self.window.resize(length, 0);
        self.window_at = offset;
        file.read_exact_at(&mut self.window, offset).inspect_err(|_| self.window.clear())
    }
}

/// A length that fits memory, since it is one of a part of the window.
fn index(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A complete line on stdout.
    pub(crate) fn line(time_nano: i64, line: impl Into<Vec<u8>>) -> LogEntry {
        LogEntry {
            source: "stdout".to_owned(),
            time_nano,
            line: line.into(),
            ..LogEntry::default()
        }
    }

    /// The frames of `entries`, one after another.
    pub(crate) fn frames<'a>(entries: impl IntoIterator<Item = &'a LogEntry>) -> Vec<u8> {
        let mut out = Vec::new();
        entries.into_iter().for_each(|entry| entry.frame_into(&mut out));
        out
    }

    /// The entries of a stream of whole frames.
    pub(crate) fn entries(mut bytes: &[u8]) -> Vec<LogEntry> {
        let mut entries = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
            let (body, rest) = rest.split_at(body_length(*header).unwrap());
            entries.push(LogEntry::decode(body).unwrap());
            bytes = rest;
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{frames, line};
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn scan(bytes: &[u8]) -> (Vec<Extent>, u64, u64) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let (mut scan, end) = (Scan::default(), bytes.len() as u64);
        let mut found = Vec::new();
        loop {
            match scan.step(&file, end).unwrap() {
                Step::Frame(frame) => {
                    let at = usize::try_from(frame.offset).unwrap();
                    let body = scan.body(&file, frame, end).unwrap();
                    assert_eq!(body, &bytes[at + HEADER..at + frame.length]);
                    found.push(frame);
                }
                Step::End(missing) => return (found, missing, scan.noise()),
            }
        }
    }

    /// What dockerd 26.1 wrote for `hi`, and for the end of a line of 16390 bytes.
    #[test]
    fn frames_are_dockerd_s_bytes() {
        let hi = b"\0\0\0\x16\x0a\x06stdout\x10\xad\xed\xd6\x9d\xee\xa4\x98\xf5\x18\x1a\x02hi";
        let piece =
            b"\0\0\0\x64\x0a\x06stdout\x10\xee\x8d\xae\xe1\xef\xa4\x98\xf5\x18\x1a\x06xxxxxx\
            \x20\x01\x2a\x46\x08\x01\x12\x40c8886a4be4199\
            02bc9ee9774ab18347bc797eda122bd79cf155e4257d78735f2\x18\x02";
        let id = "c8886a4be419902bc9ee9774ab18347bc797eda122bd79cf155e4257d78735f2".to_owned();
        let last = LogEntry {
            partial: true,
            partial_log_metadata: Some(PartialLogEntryMetadata { last: true, id, ordinal: 2 }),
            ..line(1_795_354_221_527_926_510, "xxxxxx")
        };
        for (bytes, entry) in [(&hi[..], line(1_795_354_221_117_552_301, "hi")), (&piece[..], last)]
        {
            assert_eq!(LogEntry::decode(&bytes[HEADER..]).unwrap(), entry);
            assert_eq!(frames([&entry]), bytes);
            assert_eq!(probe(bytes), Probe::Frame(bytes.len()));
        }
    }

    #[test]
    fn other_field_orders_are_frames_too() {
        let mut body = Vec::new();
        body.extend_from_slice(b"\x10\x07\x1a\x03abc\x0a\x06stderr");
        let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        bytes.append(&mut body);
        assert_eq!(probe(&bytes), Probe::Frame(bytes.len()));
        assert_eq!(probe(&bytes[..bytes.len() - 1]), Probe::Short(bytes.len()));
    }

    #[test]
    fn noise_is_passed_over_and_counted() {
        let good = frames([&line(1, "one"), &line(2, "two")]);
        for noise in [&b"\0"[..], b"HTTP/1.1 200 OK\r\n", &[0; 5000], b"\0\0\0\x10\x0a\x06stdoux"] {
            let mut bytes = noise.to_vec();
            bytes.extend_from_slice(&good);
            let (found, missing, passed) = scan(&bytes);
            assert_eq!((found.len(), missing, passed), (2, 0, noise.len() as u64), "{noise:?}");
        }
    }

    #[test]
    fn a_half_frame_tells_what_is_missing() {
        let frame = frames([&line(1, vec![b'x'; 300])]);
        for cut in 1..frame.len() {
            let (found, missing, _) = scan(&frame[..cut]);
            let expected = if cut < HEAD { HEAD - cut } else { frame.len() - cut };
            assert_eq!((found.len(), missing), (0, expected as u64));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_lines_are_found_again(lines in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..20_000), 0..8))
        {
            let entries: Vec<_> = lines.into_iter().map(|bytes| line(5, bytes)).collect();
            let (found, missing, noise) = scan(&frames(&entries));
            prop_assert_eq!((found.len(), missing, noise), (entries.len(), 0, 0));
        }

        #[test]
        fn any_bytes_end_the_scan(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            scan(&bytes);
        }
    }
}
