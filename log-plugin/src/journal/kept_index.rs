//! The index of a plain segment that is done with, in a file beside it: `SEQUENCE.TAG.index`. Without it
//! every `docker logs --since` of a container that has ended would walk all of the log.
//!
//! It is worth no more than the time that it saves: not synced, not written on a full disk, and believed
//! only where it is whole and of a segment of that length. It goes before its segment does, and before
//! anybody goes on with that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use plugin_sdk::record;
use serde::{Deserialize, Serialize};

use super::Index;
use super::removal::missing_is_fine;

pub(crate) const KIND: &str = "pglog-index";
pub(crate) const VERSION: u32 = 1;

/// The index of a smaller segment is made as quickly as it is read.
pub(super) const LEAST: u64 = 1 << 20;

/// What the name of the file has after the segment's.
const ENDING: &str = ".index";

/// Largest index: of a segment of gigabytes. What is larger is none.
const LARGEST: u64 = 8 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Bytes of the segment.
    length: u64,
    index: Index,
}

/// Keeps `index` of the segment at `path`, which has so many bytes.
pub(super) fn write(path: &Path, length: u64, index: &Index) -> io::Result<()> {
    let kept = Kept { length, index: index.clone() };
    let bytes = record::encode(KIND, VERSION, &kept).map_err(io::Error::other)?;
    let place = beside(path);
    let mut new = OpenOptions::new();
    let file = new.write(true).create(true).truncate(true).mode(0o600).open(&place);
    let written = file.and_then(|mut file| file.write_all(&bytes));
    written.inspect_err(|_| drop(fs::remove_file(&place)))
}

/// The index that is kept of the segment at `path`, if it is of one of so many bytes.
pub(super) fn read(path: &Path, length: u64) -> Option<Index> {
    let mut bytes = Vec::new();
    File::open(beside(path)).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    let kept: Kept = record::decode(KIND, VERSION, &bytes).ok()?;
    (kept.length == length && kept.index.end <= length).then_some(kept.index)
}

/// Removes what is kept of the segment at `path`.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    missing_is_fine(fs::remove_file(beside(path)))
}

/// The path of the segment whose index is at `path`, if that is the name of one.
pub(super) fn segment_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
    Some(path.with_file_name(name))
}

fn beside(path: &Path) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(ENDING);
    path.into()
}

#[cfg(test)]
#[path = "kept_index_tests.rs"]
mod tests;
