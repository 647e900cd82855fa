//! WAL made up for tests, record by record, as the server lays it out.

use std::collections::BTreeMap;
use std::path::Path;

use plugin_sdk::durable;

use super::segment::Segment;
use crate::postgres::control::{Control, Details, Lsn};

pub(crate) const SIZE: u32 = 1 << 20;
pub(crate) const BLOCK: u64 = 8192;
pub(crate) const IDENTIFIER: u64 = 0x6b00_1234_5678_9abc;

/// A log that grows.
pub(crate) struct Sample {
    pub(crate) at: u64,
    before: u64,
    segments: BTreeMap<u64, Vec<u8>>,
}

impl Sample {
    /// One that begins with the segment `number`.
    pub(crate) fn new(number: u64) -> Self {
        Self { at: number * u64::from(SIZE), before: 0, segments: BTreeMap::new() }
    }

    fn put(&mut self, bytes: &[u8]) {
        let size = u64::from(SIZE);
        let whole = usize::try_from(SIZE).unwrap();
        let segment = self.segments.entry(self.at / size).or_insert_with(|| vec![0; whole]);
        let offset = usize::try_from(self.at % size).unwrap();
        segment[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len() as u64;
    }

    fn header(&mut self, rest: u32) {
        let first = self.at.is_multiple_of(u64::from(SIZE));
        let flags = u16::from(rest > 0) | if first { 2 } else { 0 };
        let mut header = vec![0x16, 0xd1];
        header.extend(flags.to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend(self.at.to_le_bytes());
        header.extend(rest.to_le_bytes());
        header.extend([0; 4]);
        if first {
            header.extend(IDENTIFIER.to_le_bytes());
            header.extend(SIZE.to_le_bytes());
            header.extend(u32::try_from(BLOCK).unwrap().to_le_bytes());
        }
        self.put(&header);
    }

    /// Writes a record of this kind and gives where it begins.
    pub(crate) fn record(&mut self, manager: u8, info: u8, data: &[u8]) -> Lsn {
        self.at = self.at.next_multiple_of(8);
        if self.at.is_multiple_of(BLOCK) {
            self.header(0);
        }
        let start = self.at;
        let length = u32::try_from(24 + data.len()).unwrap();
        let mut head = length.to_le_bytes().to_vec();
        head.extend(0_u32.to_le_bytes());
        head.extend(self.before.to_le_bytes());
        head.extend([info, manager, 0, 0]);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(data), &head);
        head.extend(checksum.to_le_bytes());
        head.extend(data);
        let mut rest = &head[..];
        while !rest.is_empty() {
            if self.at.is_multiple_of(BLOCK) {
                self.header(u32::try_from(rest.len()).unwrap());
            }
            let here = usize::try_from(BLOCK - self.at % BLOCK).unwrap().min(rest.len());
            self.put(&rest[..here]);
            rest = &rest[here..];
        }
        self.before = start;
        Lsn(start)
    }

    /// What the control file would say with this checkpoint.
    pub(crate) fn control(redo: Lsn, checkpoint: Lsn) -> Control {
        Control {
            version: "17",
            system_identifier: IDENTIFIER.to_string(),
            state: "in production",
            timeline: 1,
            checkpoint,
            redo,
            data_checksums: true,
            wal_level: "replica",
            details: Details {
                system_identifier: IDENTIFIER,
                full_page_writes: true,
                wal_segment_size: SIZE,
                wal_block_size: 8192,
                block_size: 8192,
                blocks_in_file: 131_072,
                ..Details::default()
            },
        }
    }

    /// Its segments as files.
    pub(crate) fn write(&self, directory: &Path) {
        for (&number, bytes) in &self.segments {
            let name = Segment { number, timeline: 1 }.file_name(SIZE);
            durable::write(&directory.join(name), bytes).unwrap();
        }
    }
}
