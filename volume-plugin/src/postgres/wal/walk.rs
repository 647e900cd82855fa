//! Reads records from one to the next, checking each, up to where they end: what recovery would do.
//!
//! A page of the WAL begins with a header that says where the page belongs, a segment's first page also
//! with the cluster's identifier; a segment that was recycled keeps its old content under its new name,
//! and is told by that. A record has its length, where the one before it began, and a checksum. A
//! record goes over to the next page where it does not fit; there it is continued behind the header.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::error::WalError;
use super::segment::{self, Segment};
use crate::postgres::control::{Control, Lsn};
use crate::sys::beneath::Dir;

/// Header of a page, and of a segment's first page.
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

/// Flags of a page: it begins with the rest of a record; it has a long header; it begins anew where the
/// rest of a record was never written.
const CONTINUED: u16 = 1;
const LONG: u16 = 2;
const OVERWRITTEN: u16 = 8;

/// Header of a record.
const RECORD_HEADER: usize = 24;

/// What records begin at a multiple of.
const ALIGNMENT: u64 = 8;

/// Largest segment and page of the WAL that PostgreSQL can be built and initialised with.
const LARGEST_SEGMENT: u32 = 1 << 30;
const LARGEST_BLOCK: u64 = 64 << 10;

/// Longest record that PostgreSQL writes, and some more.
const LONGEST_RECORD: usize = 1 << 30;

/// What is read at once.
const CHUNK: usize = 1 << 20;

/// The resource manager of the WAL's own records, and kinds of these, in the upper half of a byte.
const XLOG: u8 = 0;
const CHECKPOINT_SHUTDOWN: u8 = 0x00;
const CHECKPOINT_ONLINE: u8 = 0x10;
const SWITCH: u8 = 0x40;
const BACKUP_END: u8 = 0x50;
const WHOLE_PAGES: u8 = 0x80;

/// Where a record that has nothing but a few bytes of data has these.
const DATA: usize = RECORD_HEADER + 2;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Behind the last record, where the next would begin: so the server counts ends, in its control file and
    /// in pages.
    pub end: Lsn,
    /// How many there are.
    pub records: u64,
    /// Whether the server was told meanwhile to write no more whole pages.
    pub partial_pages: bool,
}

/// Reads all records in `directory` from the redo point of `control` on. `visit` gets each record with the version
/// of its pages, and ends it by an error.
pub fn walk(
    directory: &Dir,
    control: &Control,
    visit: &mut dyn FnMut(&[u8], u16) -> io::Result<()>,
) -> Result<Walk, WalError> {
    let details = control.details;
    let size = details.wal_segment_size;
    let block = u64::from(details.wal_block_size);
    let segments = 1 << 20..=LARGEST_SEGMENT;
    if !size.is_power_of_two()
        || !segments.contains(&size)
        || !block.is_power_of_two()
        || !(1 << 10..=LARGEST_BLOCK).contains(&block)
    {
        return Err(WalError::Size);
    }
    let first = Segment::holding(control.redo, control.timeline, size);
    let mut files = BTreeMap::new();
    for found in segment::list(directory, size, first.number)?.0 {
        // In order, so that the newest timeline of several is the one that stays; a server does not go on
        // to one that began later.
        if (control.timeline..=control.last_timeline()).contains(&found.timeline) {
            files.insert(found.number, found);
        }
    }
    let reader = Reader { directory, size, block, identifier: details.system_identifier, files };
    let mut pages = Pages { reader: &reader, chunk: None, magic: None };
    if !pages.is_valid(control.redo.0 / block * block)? {
        return Err(WalError::Redo(control.redo));
    }
    let mut walk = Walk { end: control.redo, records: 0, partial_pages: false };
    let (mut at, mut before, mut seen) = (control.redo.0, None, false);
    let backup = details.backup_start;
    let mut backed_up = backup == Lsn(0);
    while let Some(record) = pages.record(at, before)? {
        visit(&record.bytes, pages.magic.unwrap_or_default())?;
        let kind = (record.manager, record.info & 0xf0);
        let is_checkpoint = matches!(kind, (XLOG, CHECKPOINT_SHUTDOWN | CHECKPOINT_ONLINE));
        seen |= record.start == control.checkpoint.0 && is_checkpoint;
        walk.partial_pages |= kind == (XLOG, WHOLE_PAGES) && record.bytes.get(DATA) == Some(&0);
        // Which one it ends is all that it has to say.
        let ends =
            |bytes: &[u8]| bytes.get(DATA..DATA + 8).is_some_and(|at| u64_at(at, 0) == backup.0);
        backed_up |= kind == (XLOG, BACKUP_END) && ends(&record.bytes);
        before = Some(record.start);
        walk.records += 1;
        // Nothing more is in the segment that is left.
        let unit = if kind == (XLOG, SWITCH) { u64::from(size) } else { ALIGNMENT };
        at = record.end.next_multiple_of(unit);
        walk.end = Lsn(at);
    }
    if !seen {
        return Err(WalError::Checkpoint { end: walk.end, checkpoint: control.checkpoint });
    }
    if walk.end < details.min_recovery_point {
        return Err(WalError::Recovery { end: walk.end, needed: details.min_recovery_point });
    }
    // One of a standby ends where that had come to.
    backed_up |= details.backup_end > Lsn(0) && walk.end >= details.backup_end;
    if !backed_up {
        return Err(WalError::Backup { end: walk.end, start: backup });
    }
    let last = walk.end.0.saturating_sub(1) / u64::from(size);
    for later in reader.files.values().filter(|file| file.number > last) {
        if pages.is_valid(later.start(size).0)? {
            let later = later.file_name(size).display().to_string();
            return Err(WalError::Hole { end: walk.end, later });
        }
    }
    Ok(walk)
}

/// Whether `file` begins as the segment should of which it has the name: one that was recycled, and is
/// yet to be overwritten, begins as the one that it was.
pub fn belongs(file: &File, segment: Segment, control: &Control) -> io::Result<bool> {
    let mut bytes = [0; 40];
    let whole = read_at(file, &mut bytes, 0)? == bytes.len();
    let details = control.details;
    Ok(whole
        && u16_at(&bytes, 0) >> 8 == 0xd1
        && u64_at(&bytes, 8) == segment.start(details.wal_segment_size).0
        && u64_at(&bytes, 24) == details.system_identifier)
}

/// A record, as far as it is looked at.
struct Record {
    start: u64,
    end: u64,
    info: u8,
    manager: u8,
    bytes: Vec<u8>,
}

/// The files.
struct Reader<'a> {
    directory: &'a Dir,
    size: u32,
    block: u64,
    identifier: u64,
    files: BTreeMap<u64, Segment>,
}

/// The pages in them, read in order.
struct Pages<'a> {
    reader: &'a Reader<'a>,
    chunk: Option<Chunk>,
    /// The version of the WAL, by the first page.
    magic: Option<u16>,
}

/// A piece of a segment.
struct Chunk {
    segment: u64,
    file: File,
    start: u64,
    bytes: Vec<u8>,
}

impl Pages<'_> {
    /// The record that begins at or right behind `at`, if there is a whole one that follows `before`.
    fn record(&mut self, at: u64, before: Option<u64>) -> io::Result<Option<Record>> {
        let block = self.reader.block;
        let mut start = at;
        loop {
            if start.is_multiple_of(block) {
                start += self.header_length(start);
            }
            if !self.is_valid(start / block * block)? {
                return Ok(None);
            }
            let Some(length) = self.number(start)? else { return Ok(None) };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if !(RECORD_HEADER..=LONGEST_RECORD).contains(&length) {
                return Ok(None);
            }
            match self.assemble(start, length)? {
                Assembled::Whole { bytes, end } => {
                    let Some((info, manager)) = checked(&bytes, before) else { return Ok(None) };
                    return Ok(Some(Record { start, end, info, manager, bytes }));
                }
                // The server crashed before the rest, and went on here.
                Assembled::Abandoned { next } => start = next,
                Assembled::Cut => return Ok(None),
            }
        }
    }

    fn assemble(&mut self, start: u64, length: usize) -> io::Result<Assembled> {
        let block = self.reader.block;
        let mut bytes = Vec::with_capacity(length.min(CHUNK));
        let mut at = start;
        loop {
            let page = at / block * block;
            let here = usize::try_from(page + block - at).unwrap_or(0).min(length - bytes.len());
            let Some(read) = self.page(page)? else { return Ok(Assembled::Cut) };
            let offset = usize::try_from(at - page).unwrap_or(0);
            bytes.extend_from_slice(&read[offset..offset + here]);
            at += here as u64;
            if bytes.len() == length {
                return Ok(Assembled::Whole { bytes, end: at });
            }
            if !self.is_valid(at)? {
                return Ok(Assembled::Cut);
            }
            let Some(next) = self.page(at)? else { return Ok(Assembled::Cut) };
            let flags = u16_at(next, 2);
            if flags & OVERWRITTEN != 0 {
                return Ok(Assembled::Abandoned { next: at });
            }
            if flags & CONTINUED == 0 || u32_at(next, 16) as usize != length - bytes.len() {
                return Ok(Assembled::Cut);
            }
            at += self.header_length(at);
        }
    }

    fn header_length(&self, page: u64) -> u64 {
        if page.is_multiple_of(u64::from(self.reader.size)) { LONG_HEADER } else { SHORT_HEADER }
    }

    /// The length at `at`, which is aligned, so that it lies on one page.
    fn number(&mut self, at: u64) -> io::Result<Option<u32>> {
        let block = self.reader.block;
        let offset = usize::try_from(at % block).unwrap_or(0);
        let page = self.page(at / block * block)?;
        Ok(page.filter(|page| offset + 4 <= page.len()).map(|page| u32_at(page, offset)))
    }

    /// Whether the page at `at` is there and belongs there.
    fn is_valid(&mut self, at: u64) -> io::Result<bool> {
        let (first, identifier) =
            (at.is_multiple_of(u64::from(self.reader.size)), self.reader.identifier);
        let (size, block) = (self.reader.size, self.reader.block);
        let expected = self.magic;
        let Some(page) = self.page(at)? else { return Ok(false) };
        let (magic, flags) = (u16_at(page, 0), u16_at(page, 2));
        let long = u64_at(page, 24) == identifier
            && u32_at(page, 32) == size
            && u64::from(u32_at(page, 36)) == block;
        let valid = u64_at(page, 8) == at
            && expected.map_or(magic >> 8 == 0xd1, |expected| magic == expected)
            && (flags & LONG != 0) == first
            && (!first || long);
        if valid && expected.is_none() {
            self.magic = Some(magic);
        }
        Ok(valid)
    }

    /// The page at `at`; `None` where the files do not have all of it.
    fn page(&mut self, at: u64) -> io::Result<Option<&[u8]>> {
        let Reader { directory, size, block, files, .. } = self.reader;
        let (number, offset) = (at / u64::from(*size), at % u64::from(*size));
        let whole = usize::try_from(*block).unwrap_or(CHUNK);
        let inside = |chunk: &Chunk| {
            chunk.segment == number
                && offset >= chunk.start
                && offset + block <= chunk.start + chunk.bytes.len() as u64
        };
        if !self.chunk.as_ref().is_some_and(inside) {
            let Some(segment) = files.get(&number) else { return Ok(None) };
            let file = match self.chunk.take() {
                Some(chunk) if chunk.segment == number => chunk.file,
                _ => directory.open_file(&segment.file_name(*size))?,
            };
            let mut bytes = vec![0; CHUNK.max(whole)];
            let read = read_at(&file, &mut bytes, offset)?;
            bytes.truncate(read / whole * whole);
            self.chunk = Some(Chunk { segment: number, file, start: offset, bytes });
        }
        let chunk = self.chunk.as_ref().filter(|chunk| inside(chunk));
        Ok(chunk.map(|chunk| {
            let from = usize::try_from(offset - chunk.start).unwrap_or(0);
            &chunk.bytes[from..from + whole]
        }))
    }
}

enum Assembled {
    Whole { bytes: Vec<u8>, end: u64 },
    Abandoned { next: u64 },
    Cut,
}

/// Kind and resource manager of a record that is what was written, and follows `before`.
fn checked(record: &[u8], before: Option<u64>) -> Option<(u8, u8)> {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&record[RECORD_HEADER..]), &record[..20]);
    let follows = before.is_none_or(|before| u64_at(record, 8) == before);
    (checksum == u32_at(record, 20) && follows).then(|| (record[16], record[17]))
}

pub(super) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], offset + length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
