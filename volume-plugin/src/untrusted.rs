//! Every reader of what others have written: Docker and its users, and whoever can write to a
//! volume or, by mishap, to the state directory. Each takes any bytes at all; what must hold of
//! what it makes of them is asserted, so that a panic is a finding.
//!
//! For the fuzz targets in `fuzz/` and for the short run over the same corpora in the tests.

use plugin_sdk::{record, wire};

use crate::api;
use crate::name::{MountId, ShareName, VolumeName};
use crate::pool::PoolName;
use crate::postgres::{backup, control, pid_file};
use crate::volume::catalog::{self, Record};
use crate::volume::copies;
use crate::volume::mounts;
use crate::volume::options::{self, RawOptions};
use crate::volume::spec::Layout;
use crate::volume::trash::{self, Target, TrashTime};

/// Takes any bytes.
pub type Reader = fn(&[u8]);

/// Readers by the names of their fuzz targets and corpora.
pub const READERS: [(&str, Reader); 6] = [
    ("names", names),
    ("options", options),
    ("requests", requests),
    ("records", records),
    ("control", control_file),
    ("pid_file", pid_file),
];

/// Names of volumes and shares, mount ids, and what the settings and commands take.
///
/// # Panics
///
/// On what must not be.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = text.parse::<VolumeName>() {
        assert_eq!(name.to_string(), text);
        assert!(is_file_name(text) && text.len() <= 128 + 1 + 64);
        if let Some(snapshot) = name.snapshot() {
            assert_eq!(name.volume().at(&snapshot), name);
        }
        assert!(ShareName::candidates(&name).take(3).all(|share| is_file_name(share.as_str())));
    }
    if let Ok(share) = text.parse::<ShareName>() {
        assert!(share.to_string() == text && is_file_name(text));
    }
    if let Ok(target) = text.parse::<Target>() {
        assert_eq!(target.to_string().parse(), Ok(target));
    }
    drop((text.parse::<MountId>(), text.parse::<TrashTime>(), text.parse::<Layout>()));
    if let Some((share, stage)) = trash::parse_file_name(text) {
        drop((share, stage));
    }
}

/// Options, as lines `KEY=VALUE`.
///
/// # Panics
///
/// On what must not be.
pub fn options(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let pair =
        |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let raw: RawOptions = text.lines().filter_map(pair).collect();
    let pools = [PoolName::new(PoolName::DEFAULT), PoolName::new(PoolName::WAL)];
    if let Ok(name) = "v@s".parse() {
        drop((copies::snapshot(&name, &raw), copies::clone(&raw)));
    }
    for layout in [Layout::Split, Layout::Pgdata] {
        let Ok(spec) = options::parse(&raw, &pools, layout) else { continue };
        assert_eq!(options::differences(&spec, &spec), "");
        assert!(options::change(&spec, RawOptions::new(), &[], &pools).as_ref() == Ok(&spec));
        let mut paths = std::collections::BTreeSet::new();
        for (_, directories) in spec.shares().into_iter().take(1) {
            for directory in directories {
                assert!(directory.path.split('/').all(|part| part != ".." && part.len() < 256));
                assert!(paths.insert(directory.path), "twice the same directory");
            }
        }
    }
}

/// Bodies of requests, each as every call takes it.
pub fn requests(bytes: &[u8]) {
    api::read_all(bytes);
}

/// Records on disk.
///
/// # Panics
///
/// On what must not be.
pub fn records(bytes: &[u8]) {
    if let Ok(read) = record::decode::<Record>(catalog::KIND, catalog::VERSION, bytes) {
        let written = record::encode(catalog::KIND, catalog::VERSION, &read);
        let again =
            record::decode::<Record>(catalog::KIND, catalog::VERSION, &written.unwrap_or_default());
        assert!(again.is_ok_and(|again| again == read), "a record is not written as it was read");
    }
    mounts::read(bytes);
    // A checksum that is right by chance is rare: what would come after it is tried without.
    drop(wire::parse::<Record>(bytes));
}

/// The control file of a cluster, and the label of a backup.
///
/// # Panics
///
/// On what must not be.
pub fn control_file(bytes: &[u8]) {
    drop(control::parse(bytes));
    if let Ok(label) = std::str::from_utf8(bytes) {
        drop((backup::parse_label(label), backup::parse_any_label(label)));
    }
    // Likewise, with the checksum that each known version would have.
    for end in [288, 292] {
        if let Some(covered) = bytes.get(..end) {
            let mut whole = covered.to_vec();
            whole.extend(crc32c::crc32c(covered).to_le_bytes());
            if let Ok(control) = control::parse(&whole) {
                assert!(!control.state.is_empty() && !control.system_identifier.is_empty());
            }
        }
    }
}

/// The `postmaster.pid` of a cluster.
///
/// # Panics
///
/// On what must not be.
pub fn pid_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let pid_file::PidFile { data, socket, .. } = pid_file::parse(text);
    assert!(data.is_none_or(|path| path.is_absolute()));
    assert!(socket.is_none_or(|(directory, name)| directory.is_absolute() && is_socket(&name)));
}

fn is_socket(name: &str) -> bool {
    name.strip_prefix(".s.PGSQL.").is_some_and(|port| port.parse::<u16>().is_ok())
}

fn is_file_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Changes of each seed that are tried.
    const CHANGES: usize = 3000;

    /// The same numbers in every run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
        }
    }

    /// `seed` with a few bytes changed, left out, put in, or the end of `other`.
    fn changed(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(bytes.len() + 1);
            match numbers.below(5) {
                0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
                1 if at < bytes.len() => bytes[at] = [0, 0xff, b'\n', b'/', b'"'][numbers.below(5)],
                2 => bytes.truncate(at),
                3 => bytes.insert(at, u8::try_from(numbers.below(256)).unwrap()),
                _ => {
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[numbers.below(other.len() + 1)..]);
                }
            }
        }
        bytes
    }

    /// Else the corpora would be noise.
    #[test]
    fn the_corpora_have_what_is_good() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fuzz/corpus");
        let seed = |path: &str| fs::read(corpus.join(path)).unwrap();
        for version in 12..=18 {
            let control = control::parse(&seed(&format!("control/{version}"))).unwrap();
            assert_eq!(control.version, version.to_string());
        }
        for record in ["v1", "v2", "v3", "creating"] {
            let bytes = seed(&format!("records/{record}"));
            let read = record::decode::<Record>(catalog::KIND, catalog::VERSION, &bytes);
            assert!(read.is_ok(), "{record}: {read:?}");
        }
        let raw = String::from_utf8(seed("options/all")).unwrap();
        let raw = raw.lines().map(|line| line.split_once('=').unwrap());
        let raw = raw.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let pools = [PoolName::new("default"), PoolName::new("wal")];
        assert!(options::parse(&raw, &pools, Layout::Split).is_ok());
    }

    #[test]
    fn every_reader_takes_its_corpus_and_what_is_near_it() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fuzz");
        for (name, read) in READERS {
            assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).exists(), "no target {name}");
            let corpus = fs::read_dir(fuzz.join("corpus").join(name)).unwrap();
            let mut seeds: Vec<_> = corpus.map(|seed| seed.unwrap().path()).collect();
            seeds.sort();
            let seeds: Vec<_> = seeds.iter().map(|seed| fs::read(seed).unwrap()).collect();
            assert!(seeds.len() >= 5, "{name} has {} seeds", seeds.len());
            let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
            for seed in &seeds {
                read(seed);
                for _ in 0..CHANGES {
                    let other = &seeds[numbers.below(seeds.len())];
                    read(&changed(seed, other, &mut numbers));
                }
            }
        }
    }
}
