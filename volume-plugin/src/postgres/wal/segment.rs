//! Files of the WAL by their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::postgres::control::Lsn;
use crate::sys::beneath::Dir;

/// Names looked at in a directory of WAL; what lies in a volume is hostile.
const MOST_NAMES: usize = 1 << 20;

/// A segment's file: `TTTTTTTTLLLLLLLLSSSSSSSS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Its number, counted from the beginning of the WAL: position divided by size.
    pub number: u64,
    /// Its timeline.
    pub timeline: u32,
}

impl Segment {
    /// The segment that `at` lies in.
    pub fn holding(at: Lsn, timeline: u32, size: u32) -> Self {
        Self { number: at.0 / u64::from(size), timeline }
    }

    /// The segment with this file name, in a cluster of this segment size.
    pub fn parse(name: &str, size: u32) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
        if name.len() != 24 || !name.bytes().all(digit) {
            return None;
        }
        let part = |at: usize| u64::from_str_radix(&name[at..at + 8], 16).ok();
        let timeline = u32::try_from(part(0)?).ok()?;
        let (log, segment, each) = (part(8)?, part(16)?, in_a_log(size)?);
        (segment < each).then_some(Self { number: log * each + segment, timeline })
    }

    /// Its file name.
    pub fn file_name(self, size: u32) -> PathBuf {
        let each = in_a_log(size).unwrap_or(1);
        let (log, segment) = (self.number / each, self.number % each);
        format!("{:08X}{log:08X}{segment:08X}", self.timeline).into()
    }

    /// Where it begins.
    pub fn start(self, size: u32) -> Lsn {
        Lsn(self.number * u64::from(size))
    }
}

/// Segments in 4 GiB; `None` for what is no size of a segment.
fn in_a_log(size: u32) -> Option<u64> {
    (size.is_power_of_two() && size >= 1 << 20).then(|| (1 << 32) / u64::from(size))
}

/// The segments from number `from` on that the directory has, in order, and the histories of timelines.
pub fn list(directory: &Dir, size: u32, from: u64) -> io::Result<(Vec<Segment>, Vec<PathBuf>)> {
    let (mut segments, mut histories) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory.path())?.take(MOST_NAMES) {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(segment) = Segment::parse(name, size) {
            if segment.number >= from {
                segments.push(segment);
            }
        } else if is_history(name) {
            histories.push(PathBuf::from(name));
        }
    }
    segments.sort_unstable();
    Ok((segments, histories))
}

fn is_history(name: &str) -> bool {
    let timeline = name.strip_suffix(".history");
    timeline.is_some_and(|id| id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && Path::new(name).components().count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_files_are_no_segments() {
        let sixteen = 1 << 24;
        assert_eq!(
            Segment::parse("0000000A0000000100000002", sixteen),
            Some(Segment { number: 258, timeline: 10 })
        );
        for name in [
            "00000001000000000000000",
            "0000000100000000000000100",
            "000000010000000000000100",
            "00000001000000000000000a",
            "00000001000000000000001G",
            "archive_status",
            "",
            "000000010000000000000001.partial",
            "é00000010000000000000010",
        ] {
            assert_eq!(Segment::parse(name, sixteen), None, "{name}");
        }
        assert_eq!(Segment::parse("000000010000000000000001", 1000), None);
        assert!(is_history("00000002.history") && !is_history("2.history"));
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(
            number in 0_u64..1 << 32, timeline in 1_u32.., power in 20_u32..31,
        ) {
            let (segment, size) = (Segment { number, timeline }, 1 << power);
            let name = segment.file_name(size);
            prop_assert_eq!(Segment::parse(name.to_str().unwrap(), size), Some(segment));
            prop_assert_eq!(Segment::holding(segment.start(size), timeline, size), segment);
        }
    }
}
