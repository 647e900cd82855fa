//! What is stored: for people who look after the host.

use std::io;
use std::time::UNIX_EPOCH;

use prost::Message;

use super::{Journal, Journals};
use crate::frame::{LogEntry, Scan, Step};
use crate::names::ContainerId;

/// What a journal holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// In the order of the log.
    pub segments: Vec<Stored>,
    /// The time of the first message, in nanoseconds since 1970.
    pub first: Option<i64>,
    /// When something was last stored, likewise.
    pub last: Option<i64>,
}

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the log.
    pub sequence: u64,
    /// The bytes that it takes.
    pub bytes: u64,
    /// Whether a stream may still write to it.
    pub growing: bool,
}

impl Inventory {
    /// The bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

impl Journal {
    /// What is stored. Reads the first message and asks for the time of the last write.
    pub fn inventory(&self) -> Inventory {
        let stored = |(&sequence, segment): (&u64, &super::Segment)| Stored {
            sequence,
            bytes: segment.disk,
            growing: segment.live,
        };
        let segments: Vec<_> = self.state().segments.iter().map(stored).collect();
        let first = segments.iter().find_map(|segment| self.first_of(segment.sequence));
        let last = segments.last().and_then(|segment| self.modified(segment.sequence));
        Inventory { segments, first, last }
    }

    fn first_of(&self, sequence: u64) -> Option<i64> {
        let file = self.open_segment(sequence).ok()??;
        let end = file.len().ok()?;
        let mut scan = Scan::default();
        let Ok(Step::Frame(frame)) = scan.step(&*file, end) else { return None };
        LogEntry::decode(scan.body(&*file, frame, end).ok()?).ok().map(|entry| entry.time_nano)
    }

    fn modified(&self, sequence: u64) -> Option<i64> {
        let modified =
            self.open_segment(sequence).ok()??.file().metadata().ok()?.modified().ok()?;
        i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()
    }
}

impl Journals {
    /// Every container that something is stored of.
    pub fn stored(&self) -> io::Result<Vec<ContainerId>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut containers = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            containers.extend(name.to_str().and_then(|name| ContainerId::parse(name).ok()));
        }
        containers.sort_unstable();
        Ok(containers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::{frames, line};
    use plugin_sdk::durable;

    #[test]
    fn a_journal_tells_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let journals = Journals::new(dir.path().join("journals"));
        assert_eq!(journals.stored().unwrap(), []);
        let container = ContainerId::parse("c").unwrap();
        assert_eq!(journals.get(&container).inventory(), Inventory::default());
        let place = dir.path().join("journals/c");
        durable::create_dir(&place, 0o700).unwrap();
        // The first segment was emptied by a power cut.
        durable::write(&place.join(format!("{:020}.a", 3)), b"").unwrap();
        let stored = frames(&[line(5, "one"), line(6, "two")]);
        durable::write(&place.join(format!("{:020}.a", 4)), &stored).unwrap();
        assert!(journals.stored().unwrap().contains(&container));
        let inventory = journals.get(&container).inventory();
        assert_eq!((inventory.bytes(), inventory.first), (stored.len() as u64, Some(5)));
        assert!(inventory.last.unwrap() > 1_000_000_000_000_000_000);
        let sequences: Vec<_> = inventory.segments.iter().map(|at| at.sequence).collect();
        assert_eq!(sequences, [3, 4]);
    }
}
