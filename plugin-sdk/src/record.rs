//! Records on disk: one line `KIND VERSION CRC32C`, then JSON. Readable in a rescue, checked
//! when read, and never read by a program older than the one that wrote it.

use std::io::Write;

use serde::{Serialize, de::DeserializeOwned};

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No head line of the expected kind.
    #[error("not a {expected} record")]
    NotARecord {
        /// What was looked for.
        expected: &'static str,
    },
    /// Written by a newer program.
    #[error("format {found} of the {kind} record is newer than {supported}, the newest known here")]
    Newer {
        /// The record's kind.
        kind: &'static str,
        /// The version in the record.
        found: u32,
        /// The newest version this program reads.
        supported: u32,
    },
    /// The body is not what was written.
    #[error("the {kind} record is damaged: checksum {found:08x}, expected {expected:08x}")]
    Damaged {
        /// The record's kind.
        kind: &'static str,
        /// The checksum of the body as it is.
        found: u32,
        /// The checksum in the head line.
        expected: u32,
    },
    /// The body is whole but does not have the expected shape.
    #[error("the {kind} record has another shape")]
    Shape {
        /// The record's kind.
        kind: &'static str,
        /// What JSON says of it.
        source: serde_json::Error,
    },
}

/// A kind of record, and the newest version of it that a program reads.
pub type Format = (&'static str, u32);

/// Prints `KIND VERSION` lines: what `PLUGIN formats` says to whoever wants to know whether a program
/// is too old for a state before the two meet.
pub fn print(formats: &[Format]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    formats.iter().try_for_each(|(kind, version)| writeln!(stdout, "{kind} {version}"))
}

/// The bytes of a record of `kind` in format `version` with `body`.
pub fn encode<T: Serialize>(
    kind: &'static str,
    version: u32,
    body: &T,
) -> Result<Vec<u8>, RecordError> {
    let body =
        serde_json::to_vec_pretty(body).map_err(|source| RecordError::Shape { kind, source })?;
    let mut bytes = format!("{kind} {version} {:08x}\n", crc32c::crc32c(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Reads a record of `kind` whose format is at most `supported`.
pub fn decode<T: DeserializeOwned>(
    kind: &'static str,
    supported: u32,
    bytes: &[u8],
) -> Result<T, RecordError> {
    let not_a_record = || RecordError::NotARecord { expected: kind };
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or_else(not_a_record)?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| not_a_record())?;
    let body = &bytes[end + 1..];
    let mut fields = head.split(' ');
    if fields.next() != Some(kind) {
        return Err(not_a_record());
    }
    let version: u32 = fields.next().and_then(|v| v.parse().ok()).ok_or_else(not_a_record)?;
    let expected =
        fields.next().and_then(|c| u32::from_str_radix(c, 16).ok()).ok_or_else(not_a_record)?;
    if version > supported {
        return Err(RecordError::Newer { kind, found: version, supported });
    }
    let found = crc32c::crc32c(body);
    if found != expected {
        return Err(RecordError::Damaged { kind, found, expected });
    }
    serde_json::from_slice(body).map_err(|source| RecordError::Shape { kind, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = encode("test", 1, &vec![1, 2, 3]).unwrap();
        assert!(bytes.starts_with(b"test 1 "));
        assert_eq!(decode::<Vec<u32>>("test", 1, &bytes).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let good = encode("test", 1, &"body").unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(decode::<String>("test", 1, &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let good = encode("test", 1, &"body").unwrap();
        for end in 0..good.len() {
            assert!(decode::<String>("test", 1, &good[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let bytes = encode("test", 2, &"body").unwrap();
        let error = decode::<String>("test", 1, &bytes).unwrap_err();
        assert!(matches!(error, RecordError::Newer { found: 2, supported: 1, .. }), "{error}");
    }
}
