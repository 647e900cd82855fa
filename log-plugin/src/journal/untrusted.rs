//! The journal's readers on any bytes: a power cut, a broken disk or somebody's hand can leave
//! anything in a segment. What must hold is asserted, so that a panic is a finding.
//!
//! For the fuzz targets in `fuzz/` and for the short run over the same corpora in the tests.

use std::io;

use prost::Message;

use super::Contents;
use super::index::Index;
use super::packed::Packed;
use crate::frame::{LogEntry, Scan, Source, Step};
use crate::sys;

/// Takes any bytes.
pub type Reader = fn(&[u8]);

/// Readers by the names of their fuzz targets and corpora.
pub const READERS: [(&str, Reader); 2] = [("segments", segment), ("packed", packed)];

impl Source for &[u8] {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let end: io::Error = io::ErrorKind::UnexpectedEof.into();
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let from = self.get(at..).and_then(|rest| rest.get(..out.len())).ok_or(end)?;
        out.copy_from_slice(from);
        Ok(())
    }
}

/// A plain segment: each byte of it is of one frame, or noise, or of the half frame at its end.
///
/// # Panics
///
/// On what must not be.
pub fn segment(bytes: &[u8]) {
    let walked = walk(&bytes, bytes.len() as u64);
    assert!(walked.is_ok(), "what is there can be read: {walked:?}");
}

/// A packed segment.
///
/// # Panics
///
/// On what must not be.
pub fn packed(bytes: &[u8]) {
    let Ok(packed) = sys::memory_file(bytes).and_then(Packed::open) else { return };
    let length = packed.len();
    // Damaged blocks are errors.
    if let Ok(index) = walk(&Contents::Packed(packed), length) {
        let (offset, skipped) = index.last(1);
        assert!(offset <= length && skipped <= index.frames());
    }
}

/// Walks over all frames; gives the index that a writer would have made.
fn walk(source: &impl Source, end: u64) -> io::Result<Index> {
    let (mut scan, mut index, mut framed) = (Scan::default(), Index::default(), 0);
    loop {
        let before = scan.position();
        match scan.step(source, end)? {
            Step::Frame(frame) => {
                assert!(frame.offset >= before && frame.offset + frame.length as u64 <= end);
                let body = scan.body(source, frame, end)?;
                index.note(frame.offset, body);
                drop(LogEntry::decode(body));
                framed += frame.length as u64;
            }
            Step::End(_) => {
                assert_eq!(framed + scan.noise(), scan.position());
                assert!(scan.position() <= end && index.lines() <= index.frames());
                return Ok(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Changes of the seeds that are tried, together.
    const CHANGES: u32 = 3000;

    fn fuzz() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fuzz")
    }

    fn seeds(name: &str) -> Vec<Vec<u8>> {
        let corpus = fs::read_dir(fuzz().join("corpus").join(name)).unwrap();
        let mut paths: Vec<_> = corpus.map(|seed| seed.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    /// Else the corpora would be noise.
    #[test]
    fn the_corpora_have_what_is_good() {
        let frames = |bytes: &[u8]| walk(&bytes, bytes.len() as u64).unwrap().frames();
        assert!(seeds("segments").iter().filter(|seed| frames(seed) > 1).count() >= 4);
        let good = |seed: &&Vec<u8>| {
            let Ok(packed) = sys::memory_file(seed).and_then(Packed::open) else { return false };
            let (length, index) = (packed.len(), packed.index().clone());
            walk(&Contents::Packed(packed), length).is_ok_and(|walked| walked == index)
        };
        assert!(seeds("packed").iter().filter(good).count() >= 3);
    }

    /// A seed with some bytes changed and its end cut off or that of another.
    #[test]
    fn every_reader_takes_its_corpus_and_what_is_near_it() {
        for (name, read) in READERS {
            assert!(fuzz().join(format!("fuzz_targets/{name}.rs")).exists(), "no target {name}");
            let seeds = seeds(name);
            assert!(seeds.len() >= 5, "{name} has {} seeds", seeds.len());
            for seed in &seeds {
                read(seed);
            }
            let place = any::<prop::sample::Index>;
            let changes = (place(), place(), place(), place(), vec((place(), any::<u8>()), 0..6));
            let config =
                ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CHANGES) };
            let outcome =
                TestRunner::new(config).run(&changes, |(seed, cut, other, rest, bytes)| {
                    let (mut tried, other) = (seed.get(&seeds).clone(), other.get(&seeds));
                    tried.truncate(cut.index(tried.len() + 1));
                    tried.extend_from_slice(&other[rest.index(other.len() + 1)..]);
                    // There may be nothing to change.
                    let length = tried.len();
                    for (at, byte) in bytes.into_iter().take(length) {
                        tried[at.index(length)] = byte;
                    }
                    read(&tried);
                    Ok(())
                });
            outcome.unwrap();
        }
    }
}
