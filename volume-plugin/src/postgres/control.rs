//! PostgreSQL's control file, `global/pg_control`, of versions 12 to 18 on little-endian machines.
//!
//! Where fields lie was read off clusters that each version's initdb made. A version that is not
//! known is called unknown: no field of it is guessed.

use std::fmt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::sys::beneath::Dir;

/// Where the file lies below the data directory.
pub const PATH: &str = "global/pg_control";

/// Bytes read: more than any version uses.
const LENGTH: usize = 512;

/// The file's length, in every version.
const WHOLE: usize = 8192;

/// A running server may be writing while the file is read; it is read again that often.
const READS: usize = 5;
const PAUSE: Duration = Duration::from_millis(2);

/// What the control file says of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Cluster {
    /// A file that can be read.
    Known(Control),
    /// A file that cannot.
    Unknown {
        /// Always `unknown`.
        version: &'static str,
        /// Why.
        reason: String,
    },
}

/// The fields that Status shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    /// The major version, by the catalog's; `unknown` for a development version.
    pub version: &'static str,
    /// The cluster's own number: as text, since JSON readers round numbers of this size.
    pub system_identifier: String,
    /// In words, as `pg_controldata` has them.
    pub state: &'static str,
    /// Of the last checkpoint.
    pub timeline: u32,
    /// The last checkpoint record.
    pub checkpoint: Lsn,
    /// Where recovery from it begins.
    pub redo: Lsn,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// The setting of this name.
    pub wal_level: &'static str,
    /// What Status does not show.
    #[serde(skip)]
    pub details: Details,
}

/// What deciding whether a copy can be recovered takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Details {
    /// [`Control::system_identifier`], as pages of the WAL carry it.
    pub system_identifier: u64,
    /// With the major version, the name of what a tablespace's directory holds.
    pub catalog_version: u32,
    /// How far the WAL has to reach at least, for a cluster that was recovering.
    pub min_recovery_point: Lsn,
    /// Of that.
    pub min_recovery_timeline: u32,
    /// Where the base backup began whose end recovery has yet to reach; 0 for none.
    pub backup_start: Lsn,
    /// Where it ends, if it is one of a standby.
    pub backup_end: Lsn,
    /// The setting, at the last checkpoint.
    pub full_page_writes: bool,
    /// Bytes in a segment of the WAL.
    pub wal_segment_size: u32,
    /// Bytes in a page of the WAL.
    pub wal_block_size: u32,
    /// Bytes in a page of the data.
    pub block_size: u32,
    /// Pages in a file of the data.
    pub blocks_in_file: u32,
}

impl Control {
    /// The timeline that recovery follows to its end, as a server that is started on it does.
    pub fn last_timeline(&self) -> u32 {
        self.timeline.max(self.details.min_recovery_timeline)
    }

    /// Whether nothing is left to recover.
    pub fn is_shut_down(&self) -> bool {
        ["shut down", "shut down in recovery"].contains(&self.state)
    }

    /// Whether its server recovered from an archive or a primary, running or stopped.
    pub fn is_in_recovery(&self) -> bool {
        ["in archive recovery", "shut down in recovery"].contains(&self.state)
    }
}

/// A position in the WAL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why bytes are no control file of a known version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Fewer bytes than any version has.
    #[error("pg_control is too short")]
    Short,
    /// None of those known.
    #[error("pg_control has version {0}")]
    Version(u32),
    /// Torn, or not a control file.
    #[error("the checksum of pg_control is wrong")]
    Checksum,
}

/// The bytes of the control file in the data directory `data`, read again until its checksum is right,
/// and what they say. For a copy, which must not have a torn one.
pub fn read_whole(data: &Dir) -> std::io::Result<(Vec<u8>, Control)> {
    let mut error = ControlError::Short;
    for _ in 0..READS * 20 {
        let file = data.open_file(Path::new(PATH))?;
        let mut bytes = vec![0; WHOLE];
        let length = read_at_start(&file, &mut bytes)?;
        bytes.truncate(length);
        match parse(&bytes) {
            Ok(control) => return Ok((bytes, control)),
            Err(found) => error = found,
        }
        thread::sleep(PAUSE);
    }
    Err(std::io::Error::other(error))
}

/// The cluster in the data directory `data`; `None` where there is none.
pub fn read(data: &Dir) -> Option<Cluster> {
    let unknown = |reason: String| Some(Cluster::Unknown { version: "unknown", reason });
    if data.metadata(Path::new(PATH)).is_err() {
        return None;
    }
    let mut outcome = Err(ControlError::Short);
    for _ in 0..READS {
        let mut bytes = [0; LENGTH];
        let read =
            data.open_file(Path::new(PATH)).and_then(|file| read_at_start(&file, &mut bytes));
        match read {
            Ok(length) => outcome = parse(&bytes[..length]),
            Err(error) => return unknown(error.to_string()),
        }
        match outcome {
            Err(ControlError::Checksum | ControlError::Short) => thread::sleep(PAUSE),
            _ => break,
        }
    }
    match outcome {
        Ok(control) => Some(Cluster::Known(control)),
        Err(error) => unknown(error.to_string()),
    }
}

fn read_at_start(file: &std::fs::File, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

/// Reads the bytes of a control file.
pub fn parse(bytes: &[u8]) -> Result<Control, ControlError> {
    let version = u32_at(bytes, 8)?;
    let checksum_at = match version {
        1201 | 1300 | 1700 => 288,
        1800 => 292,
        other => return Err(ControlError::Version(other)),
    };
    let covered = bytes.get(..checksum_at).ok_or(ControlError::Short)?;
    if crc32c::crc32c(covered) != u32_at(bytes, checksum_at)? {
        return Err(ControlError::Checksum);
    }
    Ok(Control {
        version: major(u32_at(bytes, 12)?),
        system_identifier: u64_at(bytes, 0)?.to_string(),
        state: state(u32_at(bytes, 16)?),
        timeline: u32_at(bytes, 48)?,
        checkpoint: Lsn(u64_at(bytes, 32)?),
        redo: Lsn(u64_at(bytes, 40)?),
        data_checksums: u32_at(bytes, 252)? != 0,
        wal_level: wal_level(u32_at(bytes, 172)?),
        details: Details {
            system_identifier: u64_at(bytes, 0)?,
            catalog_version: u32_at(bytes, 12)?,
            min_recovery_point: Lsn(u64_at(bytes, 136)?),
            min_recovery_timeline: u32_at(bytes, 144)?,
            backup_start: Lsn(u64_at(bytes, 152)?),
            backup_end: Lsn(u64_at(bytes, 160)?),
            full_page_writes: array_at::<1>(bytes, 56)? != [0],
            block_size: u32_at(bytes, 216)?,
            blocks_in_file: u32_at(bytes, 220)?,
            wal_block_size: u32_at(bytes, 224)?,
            wal_segment_size: u32_at(bytes, 228)?,
        },
    })
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ControlError> {
    let field = bytes.get(at..at + N).ok_or(ControlError::Short)?;
    field.try_into().map_err(|_| ControlError::Short)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, ControlError> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, ControlError> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

fn major(catalog_version: u32) -> &'static str {
    match catalog_version {
        201_909_212 => "12",
        202_007_201 => "13",
        202_107_181 => "14",
        202_209_061 => "15",
        202_307_071 => "16",
        202_406_281 => "17",
        202_506_291 => "18",
        _ => "unknown",
    }
}

fn state(state: u32) -> &'static str {
    match state {
        0 => "starting up",
        1 => "shut down",
        2 => "shut down in recovery",
        3 => "shutting down",
        4 => "in crash recovery",
        5 => "in archive recovery",
        6 => "in production",
        _ => "unknown",
    }
}

fn wal_level(level: u32) -> &'static str {
    match level {
        0 => "minimal",
        1 => "replica",
        2 => "logical",
        _ => "unknown",
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
