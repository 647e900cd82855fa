//! A small record on disk that is rewritten often, also while the disk is full.
//!
//! Two slots of one file are written in turn, in place, so that a full disk is no obstacle and
//! that one of them is whole whatever happens. A kill after a write finds it; a power cut may find
//! an older one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use plugin_sdk::record;
use serde::{Serialize, de::DeserializeOwned};

/// Room for one record: a page.
pub(crate) const SLOT: usize = 4096;

/// A record that knows which of two is the newer.
pub(crate) trait Turned: Serialize + DeserializeOwned + Default {
    /// Its kind and the version that is written.
    const FORMAT: record::Format;

    /// Counts the writes; the slot with the higher one is newer.
    fn turn(&self) -> u64;

    /// It is about to be written.
    fn set_turn(&mut self, turn: u64);
}

/// The file of one record.
#[derive(Debug)]
pub(crate) struct Slots {
    file: File,
}

impl Slots {
    /// Opens the file at `path`, with what it says. One that says nothing is new.
    pub(crate) fn open<T: Turned>(path: &Path) -> io::Result<(Self, T)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let slots = Self { file: options.open(path)? };
        let mut newest = slots.newest::<T>().unwrap_or_default();
        if slots.file.metadata()?.len() < 2 * SLOT as u64 {
            // All of its room at once, while there is some.
            slots.file.write_all_at(&[0; 2 * SLOT], 0)?;
            slots.write(&mut newest)?;
        }
        Ok((slots, newest))
    }

    /// What the file at `path` says, if there is one that says anything.
    pub(crate) fn read<T: Turned>(path: &Path) -> Option<T> {
        Self { file: File::open(path).ok()? }.newest()
    }

    /// Writes `record` over the older of the two.
    pub(crate) fn write<T: Turned>(&self, record: &mut T) -> io::Result<()> {
        record.set_turn(record.turn() + 1);
        let (kind, version) = T::FORMAT;
        let mut bytes = record::encode(kind, version, record).map_err(io::Error::other)?;
        if bytes.len() > SLOT {
            return Err(io::Error::other("more than a page has room for"));
        }
        bytes.resize(SLOT, 0);
        self.file.write_all_at(&bytes, offset(record.turn() % 2))
    }

    fn newest<T: Turned>(&self) -> Option<T> {
        (0..2).filter_map(|slot| self.slot(slot)).max_by_key(Turned::turn)
    }

    fn slot<T: Turned>(&self, slot: u64) -> Option<T> {
        let mut bytes = vec![0; SLOT];
        self.file.read_exact_at(&mut bytes, offset(slot)).ok()?;
        let end = bytes.iter().rposition(|&byte| byte != 0)? + 1;
        let (kind, version) = T::FORMAT;
        record::decode(kind, version, &bytes[..end]).ok()
    }
}

fn offset(slot: u64) -> u64 {
    slot * SLOT as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct Note {
        turn: u64,
        words: String,
    }

    impl Turned for Note {
        const FORMAT: record::Format = ("note", 1);

        fn turn(&self) -> u64 {
            self.turn
        }

        fn set_turn(&mut self, turn: u64) {
            self.turn = turn;
        }
    }

    #[test]
    fn the_last_whole_record_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        assert_eq!(Slots::read::<Note>(&path), None);
        let (slots, mut note) = Slots::open::<Note>(&path).unwrap();
        for words in ["one", "two", "three"] {
            words.clone_into(&mut note.words);
            slots.write(&mut note).unwrap();
        }
        assert_eq!(Slots::read(&path), Some(Note { turn: 4, words: "three".to_owned() }));
        slots.file.write_all_at(b"x", offset(note.turn % 2) + 30).unwrap();
        assert_eq!(Slots::open::<Note>(&path).unwrap().1.words, "two");
        slots.file.write_all_at(&[0; 2 * SLOT], 0).unwrap();
        assert_eq!(Slots::read::<Note>(&path), None);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (slots, _) = Slots::open::<Note>(&dir.path().join("note")).unwrap();
        assert!(slots.write(&mut Note { turn: 1, words: "x".repeat(SLOT) }).is_err());
    }
}
