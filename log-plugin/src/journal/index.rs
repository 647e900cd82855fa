//! Where in a segment what is: for every stretch of it how many frames it holds and the latest of
//! their times, so that who looks for a time or counts from the end passes over the rest.
//!
//! Times need not grow, since clocks are put back: what is kept is the latest of each stretch, and
//! one whose latest is older than what is looked for holds nothing that is.

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::frame::{HEADER, LogEntry};

/// A stretch ends with the first frame that reaches this size.
const STRETCH: u64 = 256 * 1024;

/// Frames of a segment that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Where it begins.
    pub offset: u64,
    /// How many frames it holds.
    pub frames: u64,
    /// How many of them end a line.
    pub lines: u64,
    /// The latest time among them, in nanoseconds since 1970.
    pub latest: i64,
}

/// The stretches of a segment, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Each begins where the one before ends.
    pub stretches: Vec<Stretch>,
    /// Where the last frame ends.
    pub end: u64,
}

impl Index {
    /// Takes note of the frame at `offset` with `body`; they come in order.
    pub(super) fn note(&mut self, offset: u64, body: &[u8]) {
        let full = |last: &Stretch| offset - last.offset >= STRETCH;
        if self.stretches.last().is_none_or(full) {
            let latest = i64::MIN;
            // What is no frame before the first belongs to it.
            let offset = if self.stretches.is_empty() { 0 } else { offset };
            self.stretches.push(Stretch { offset, frames: 0, lines: 0, latest });
        }
        self.end = offset + (HEADER + body.len()) as u64;
        let Some(last) = self.stretches.last_mut() else { return };
        let (time, ends) = glance(body).unwrap_or_else(|| decoded(body));
        last.frames += 1;
        last.lines += u64::from(ends);
        last.latest = last.latest.max(time);
    }

    /// Where the first stretch begins that holds a time of `since` or later; none when none does.
    pub fn first_since(&self, since: i64) -> Option<u64> {
        self.stretches.iter().find(|stretch| stretch.latest >= since).map(|found| found.offset)
    }

    /// How many frames there are.
    pub fn frames(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.frames).sum()
    }

    /// How many of them end a line.
    pub fn lines(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.lines).sum()
    }

    /// How to come to the last `count` frames: where the stretch begins that holds the first of
    /// them, and how many frames of it are before that.
    pub fn last(&self, count: u64) -> (u64, u64) {
        let mut behind = 0;
        for stretch in self.stretches.iter().rev() {
            behind += stretch.frames;
            if behind >= count {
                return (stretch.offset, behind - count);
            }
        }
        (0, 0)
    }
}

/// Time and whether it ends a line, of an entry as dockerd writes it: the source, the time, and
/// what is a piece of a longer line has more than that and the line.
fn glance(body: &[u8]) -> Option<(i64, bool)> {
    const SOURCE: usize = 8;
    let [0x10, rest @ ..] = body.get(SOURCE..)? else { return None };
    let mut time = 0_u64;
    let mut rest = rest.iter();
    for shift in (0..63).step_by(7) {
        let byte = *rest.next()?;
        time |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let line = rest.as_slice();
            let whole = line.is_empty() || is_line(line);
            return whole.then_some((i64::try_from(time).ok()?, true));
        }
    }
    None
}

/// Whether `field` is a line and nothing after it.
fn is_line(field: &[u8]) -> bool {
    let [0x1a, rest @ ..] = field else { return false };
    let (mut length, mut rest) = (0_usize, rest.iter());
    for shift in (0..28).step_by(7) {
        let Some(&byte) = rest.next() else { return false };
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return rest.as_slice().len() == length;
        }
    }
    false
}

/// The same of any entry. One that cannot be read is never looked for.
fn decoded(body: &[u8]) -> (i64, bool) {
    LogEntry::decode(body).map_or((i64::MIN, false), |entry| (entry.time_nano, !entry.continues()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PartialLogEntryMetadata;
    use crate::frame::testing::line;

    fn index(entries: &[LogEntry]) -> (Index, Vec<u64>) {
        let (mut index, mut at, mut offsets) = (Index::default(), 0, Vec::new());
        for entry in entries {
            let body = entry.encode_to_vec();
            index.note(at, &body);
            offsets.push(at);
            at += 4 + body.len() as u64;
        }
        (index, offsets)
    }

    #[test]
    fn a_glance_sees_what_decoding_sees() {
        let piece = |last| LogEntry {
            partial: true,
            partial_log_metadata: Some(PartialLogEntryMetadata {
                last,
                id: "x".to_owned(),
                ordinal: 1,
            }),
            ..line(7, "piece")
        };
        for entry in [
            line(0, ""),
            line(1_795_354_221_000_000_000, "x".repeat(300)),
            line(i64::MAX, "x"),
            line(-1, "before 1970"),
            piece(true),
            piece(false),
            LogEntry { source: "stderr".to_owned(), ..line(5, "e") },
        ] {
            let body = entry.encode_to_vec();
            let expected = (entry.time_nano, !entry.continues());
            assert_eq!(glance(&body).unwrap_or_else(|| decoded(&body)), expected, "{entry:?}");
            if glance(&body).is_some() {
                assert_eq!(decoded(&body), expected);
            }
        }
        assert_eq!(decoded(b"\xff"), (i64::MIN, false));
    }

    #[test]
    fn times_and_counts_lead_to_stretches() {
        // The clock is put back in the middle.
        let time = |n: i64| if n < 100 { n } else { n - 60 };
        let entries: Vec<_> = (0..200).map(|n| line(time(n), vec![b'x'; 16 << 10])).collect();
        let (index, offsets) = index(&entries);
        assert!(index.stretches.len() > 10 && index.frames() == 200);
        for since in [0, 37, 50, 99, 139] {
            let first = entries.iter().position(|entry| entry.time_nano >= since).unwrap();
            let found = index.first_since(since).unwrap();
            assert!(found <= offsets[first] && offsets[first] - found < 2 * STRETCH, "{since}");
        }
        assert_eq!(index.first_since(140), None);
        for count in [1, 17, 199, 200, 500] {
            let (offset, skip) = index.last(count);
            let at = offsets.iter().position(|&at| at == offset).unwrap();
            assert_eq!(at as u64 + skip, 200_u64.saturating_sub(count), "{count}");
        }
        assert_eq!(Index::default().last(3), (0, 0));
    }
}
