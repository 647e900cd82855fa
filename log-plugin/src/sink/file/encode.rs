//! Entries as the bytes of a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::frame::LogEntry;
use crate::options::FileFormat;
use jiff::Timestamp;

/// A line that is written only in part: the pieces of one message, or output without an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unfinished {
    source: String,
    id: String,
}

/// Writes entries in one format. What it writes follows from the entries and from the line that
/// was left unfinished, so that it can be compared with what an earlier life wrote.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) format: FileFormat,
    pub(super) attributes: Option<String>,
    pub(super) unfinished: Option<Unfinished>,
}

impl Encoder {
    /// Appends `entry` to `out`.
    pub(super) fn entry(&mut self, entry: &LogEntry, out: &mut Vec<u8>) {
        match self.format {
            FileFormat::Raw => self.raw(entry, out),
            FileFormat::Json => json(entry, self.attributes.as_deref(), out),
        }
    }

    /// Pieces go one after another and make the line whole again. Where the other stream wrote
    /// between them the line is broken there: no two lines are mixed, no byte is lost.
    fn raw(&mut self, entry: &LogEntry, out: &mut Vec<u8>) {
        let id = entry.partial_log_metadata.as_ref().map(|piece| piece.id.clone());
        let own = entry
            .partial
            .then(|| Unfinished { source: entry.source.clone(), id: id.unwrap_or_default() });
        if self.unfinished.is_some() && self.unfinished != own {
            out.push(b'\n');
        }
        out.extend_from_slice(&entry.line);
        self.unfinished = own.filter(|_| entry.continues());
        if self.unfinished.is_none() {
            out.push(b'\n');
        }
    }
}

/// As json-file writes it: a piece is an object of its own, and only the last has a newline.
fn json(entry: &LogEntry, attributes: Option<&str>, out: &mut Vec<u8>) {
    out.push(b'{');
    if !entry.line.is_empty() || !entry.continues() {
        out.extend_from_slice(b"\"log\":\"");
        escape(&entry.line, out);
        out.extend_from_slice(if entry.continues() { b"\"," } else { b"\\n\"," });
    }
    out.extend_from_slice(b"\"stream\":\"");
    escape(entry.source.as_bytes(), out);
    out.extend_from_slice(b"\",");
    if let Some(attributes) = attributes {
        out.extend_from_slice(b"\"attrs\":");
        out.extend_from_slice(attributes.as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(b"\"time\":\"");
    out.extend_from_slice(time(entry.time_nano).as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// An object of strings as Go's `encoding/json` writes it.
pub(in crate::sink) fn object(fields: &BTreeMap<String, String>) -> String {
    let mut out = Vec::new();
    for (key, value) in fields {
        out.push(if out.is_empty() { b'{' } else { b',' });
        for (text, after) in [(key, b':'), (value, b'}')] {
            out.push(b'"');
            escape(text.as_bytes(), &mut out);
            out.extend_from_slice(&[b'"', after]);
        }
        // The brace comes once, at the end.
        out.pop();
    }
    out.push(b'}');
    String::from_utf8_lossy(&out).into_owned()
}

/// RFC 3339 with as many digits as it takes.
fn time(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default().to_string()
}

/// Escapes as json-file does: what could be taken for markup too, and bytes that are no UTF-8
/// become U+FFFD.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\\' => out.extend_from_slice(&[b'\\', letter as u8]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    out.extend_from_slice(format!("\\u{:04x}", u32::from(letter)).as_bytes());
                }
                letter => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        // Go replaces each byte, not each run of them.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PartialLogEntryMetadata;
    use crate::frame::testing::line;

    fn piece(source: &str, id: &str, last: bool, text: &str) -> LogEntry {
        let metadata = PartialLogEntryMetadata { last, id: id.to_owned(), ordinal: 1 };
        LogEntry {
            source: source.to_owned(),
            partial: true,
            partial_log_metadata: Some(metadata),
            ..line(5, text)
        }
    }

    fn encoded(format: FileFormat, entries: &[LogEntry]) -> String {
        let mut encoder = Encoder { format, attributes: None, unfinished: None };
        let mut out = Vec::new();
        for entry in entries {
            encoder.entry(entry, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn pieces_are_joined_and_never_mixed() {
        let raw = |entries: &[LogEntry]| encoded(FileFormat::Raw, entries);
        let (a, b) = (piece("stdout", "1", false, "a"), piece("stdout", "1", true, "b"));
        assert_eq!(raw(&[line(1, "x"), a.clone(), b.clone(), line(2, "")]), "x\nab\n\n");
        assert_eq!(raw(&[a.clone(), line(1, "x"), b.clone()]), "a\nx\nb\n");
        assert_eq!(raw(&[a.clone(), piece("stderr", "1", true, "c"), b]), "a\nc\nb\n");
        assert_eq!(raw(&[a.clone(), piece("stdout", "2", false, "c")]), "a\nc");
        assert_eq!(raw(&[a, piece("stdout", "1", true, "")]), "a\n");
    }

    /// Bytes that json-file of Docker 26.1 wrote.
    #[test]
    fn json_is_json_file_s() {
        let nasty = LogEntry {
            line: b"a\"b\\c\td\re<f>&g \xff\xe4\xc3\xa4 \x00".to_vec(),
            ..line(1_795_354_221_100_000_000, "")
        };
        assert_eq!(
            encoded(FileFormat::Json, &[nasty]),
            "{\"log\":\"a\\\"b\\\\c\\u0009d\\re\\u003cf\\u003e\\u0026g \\ufffd\\ufffdä \\u0000\\n\",\
             \"stream\":\"stdout\",\"time\":\"2026-11-22T13:30:21.1Z\"}\n"
        );
        let texts = [piece("stderr", "1", false, "a"), piece("stderr", "1", true, ""), line(0, "")];
        assert_eq!(
            encoded(FileFormat::Json, &texts),
            "{\"log\":\"a\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:00.000000005Z\"}\n\
             {\"log\":\"\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:00.000000005Z\"}\n\
             {\"log\":\"\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
    }
}
