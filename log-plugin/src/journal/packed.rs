//! Segments that are done with, compressed: blocks that can be read alone, and where each is.
//!
//! A packed file is one zlib stream for each stretch of the index, one after the other, then the
//! index as a record, then where that begins. To readers it is the segment that it was, byte by
//! byte: a position in the one is a position in the other. zlib's checksum tells a block that is
//! damaged, the record's one that is not.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use plugin_sdk::record;
use serde::{Deserialize, Serialize};

use super::index::Index;

pub(crate) const KIND: &str = "pglog-packed";
pub(crate) const VERSION: u32 = 1;

/// The last bytes of a packed file, after the offset of the index.
const MAGIC: &[u8; 8] = b"pglog-z\n";
const TRAILER: usize = 8 + MAGIC.len();

/// Largest index: of a segment of gigabytes. What claims more is damaged.
const LARGEST_INDEX: u64 = 8 << 20;

/// Largest block: a stretch, and the frame that ended it or what was no frame.
const LARGEST_BLOCK: u64 = 128 << 20;

/// What is where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Directory {
    /// Bytes of the segment.
    length: u64,
    index: Index,
    /// Where in the packed file the block of each stretch begins.
    blocks: Vec<u64>,
}

/// A packed segment, open for reading.
#[derive(Debug)]
pub struct Packed {
    file: File,
    directory: Directory,
    /// Where the blocks end.
    end: u64,
    /// The block that was read last.
    last: Mutex<Option<(usize, Vec<u8>)>>,
}

/// Writes the first `length` bytes of `segment`, whose stretches `index` tells, to `out`.
pub(super) fn pack(
    segment: &File,
    length: u64,
    index: &Index,
    out: &mut impl Write,
) -> io::Result<()> {
    let (mut blocks, mut at) = (Vec::new(), 0);
    for (number, stretch) in index.stretches.iter().enumerate() {
        let end = index.stretches.get(number + 1).map_or(length, |next| next.offset);
        let mut plain = vec![0; usize::try_from(end - stretch.offset).map_err(io::Error::other)?];
        segment.read_exact_at(&mut plain, stretch.offset)?;
        // Logs are much alike: more effort gains little.
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&plain)?;
        let block = zlib.finish()?;
        out.write_all(&block)?;
        blocks.push(at);
        at += block.len() as u64;
    }
    let directory = Directory { length, index: index.clone(), blocks };
    out.write_all(&record::encode(KIND, VERSION, &directory).map_err(io::Error::other)?)?;
    out.write_all(&at.to_le_bytes())?;
    out.write_all(MAGIC)
}

impl Packed {
    /// Opens a packed file.
    pub(super) fn open(file: File) -> io::Result<Self> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let size = file.metadata()?.len();
        let end = size.checked_sub(TRAILER as u64).ok_or_else(|| damaged("cut off"))?;
        let mut trailer = [0; TRAILER];
        file.read_exact_at(&mut trailer, end)?;
        let (offset, magic) = trailer.split_at(8);
        let offset = u64::from_le_bytes(offset.try_into().map_err(io::Error::other)?);
        if magic != MAGIC || offset > end || end - offset > LARGEST_INDEX {
            return Err(damaged("no end of a packed segment"));
        }
        let mut bytes = vec![0; usize::try_from(end - offset).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, offset)?;
        let directory: Directory =
            record::decode(KIND, VERSION, &bytes).map_err(io::Error::other)?;
        let Directory { length, index, blocks } = &directory;
        let offsets: Vec<_> = index.stretches.iter().map(|stretch| stretch.offset).collect();
        let starts = offsets.first().is_none_or(|&first| first == 0);
        let whole = starts && blocks.len() == offsets.len() && (*length == 0) == offsets.is_empty();
        let ends = offsets.last().is_none_or(|last| last < length)
            && blocks.last().is_none_or(|&last| last < offset);
        if !whole || !ends || !offsets.is_sorted() || !blocks.is_sorted() {
            return Err(damaged("an index that cannot be"));
        }
        Ok(Self { file, directory, end: offset, last: Mutex::default() })
    }

    /// Bytes of the segment that it was.
    pub(super) fn len(&self) -> u64 {
        self.directory.length
    }

    /// What is where in that.
    pub(super) fn index(&self) -> &Index {
        &self.directory.index
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Reads what the segment had at `offset`.
    pub(super) fn read_exact_at(&self, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        while !out.is_empty() {
            if offset >= self.directory.length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let stretches = &self.directory.index.stretches;
            let number = stretches.partition_point(|stretch| stretch.offset <= offset) - 1;
            if last.as_ref().is_none_or(|(held, _)| *held != number) {
                *last = Some((number, self.block(number)?));
            }
            let Some((_, block)) = &*last else { continue };
            let from = usize::try_from(offset - stretches[number].offset).unwrap_or(usize::MAX);
            let taken = out.len().min(block.len() - from);
            let (now, later) = out.split_at_mut(taken);
            now.copy_from_slice(&block[from..from + taken]);
            (out, offset) = (later, offset + taken as u64);
        }
        Ok(())
    }

    fn block(&self, number: usize) -> io::Result<Vec<u8>> {
        let Directory { length, index, blocks } = &self.directory;
        let next = |all: &[u64], end| all.get(number + 1).copied().unwrap_or(end);
        let offset = index.stretches[number].offset;
        let plain_end = index.stretches.get(number + 1).map_or(*length, |next| next.offset);
        let (at, end) = (blocks[number], next(blocks, self.end));
        let mut packed = vec![0; usize::try_from(end - at).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut packed, at)?;
        let expected = plain_end - offset;
        if expected > LARGEST_BLOCK {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a block that is too large"));
        }
        let mut plain = Vec::new();
        // One byte more than there may be tells that there is more.
        ZlibDecoder::new(&packed[..]).take(expected + 1).read_to_end(&mut plain)?;
        if plain.len() as u64 != expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a block of another length"));
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::{frames, line};
    use crate::frame::{HEADER, Scan, Step};
    use proptest::prelude::*;

    fn index_of(file: &File, end: u64) -> Index {
        let (mut scan, mut index) = (Scan::default(), Index::default());
        while let Step::Frame(frame) = scan.step(file, end).unwrap() {
            index.note(frame.offset, scan.body(file, frame, end).unwrap());
        }
        index
    }

    fn packed(bytes: &[u8]) -> (tempfile::NamedTempFile, Vec<u8>) {
        let mut plain = tempfile::NamedTempFile::new().unwrap();
        plain.write_all(bytes).unwrap();
        let length = bytes.len() as u64;
        let mut out = Vec::new();
        let index = index_of(plain.as_file(), length);
        pack(plain.as_file(), length, &index, &mut out).unwrap();
        (plain, out)
    }

    fn open(bytes: &[u8]) -> io::Result<Packed> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Packed::open(file)
    }

    #[test]
    fn a_packed_segment_reads_as_it_was() {
        let lines =
            (0..3000).map(|n| line(n, format!("{n} ").repeat(usize::try_from(n % 300).unwrap())));
        let lines: Vec<_> = lines.collect();
        // Noise in the middle and half a frame at the end are kept as they are.
        let (mut bytes, more) = (frames(&lines[..1500]), frames(&lines[1500..]));
        bytes.extend_from_slice(b"HTTP/1.1 200 OK");
        bytes.extend_from_slice(&more);
        bytes.extend_from_slice(&more[..HEADER + 3]);
        let (_, out) = packed(&bytes);
        assert!(out.len() * 3 < bytes.len());
        let packed = open(&out).unwrap();
        assert_eq!((packed.len(), packed.index().frames()), (bytes.len() as u64, 3000));
        let mut all = vec![0; bytes.len()];
        packed.read_exact_at(&mut all, 0).unwrap();
        assert!(all == bytes);
        for at in (0..bytes.len() - 100).step_by(77_777) {
            let mut some = [0; 100];
            packed.read_exact_at(&mut some, at as u64).unwrap();
            assert_eq!(some, bytes[at..at + 100]);
        }
        assert!(packed.read_exact_at(&mut [0; 2], packed.len() - 1).is_err());
        let (_, empty) = self::packed(b"");
        assert_eq!(open(&empty).unwrap().len(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// Whatever is wrong with the file, nothing else than its bytes or an error comes out.
        #[test]
        fn a_damaged_file_is_an_error(
            at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>())
        {
            let lines: Vec<_> = (0..500).map(|n| line(n, format!("line {n}"))).collect();
            let bytes = frames(&lines);
            let (_, whole) = packed(&bytes);
            let mut damaged = whole.clone();
            damaged[at.index(whole.len())] ^= with;
            for file in [&damaged[..], &whole[..cut.index(whole.len())]] {
                let mut all = vec![0; bytes.len()];
                let read = open(file).and_then(|packed| packed.read_exact_at(&mut all, 0));
                prop_assert!(read.is_err() || all == bytes);
            }
        }

        #[test]
        fn any_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(open(&bytes).is_err());
        }
    }
}
