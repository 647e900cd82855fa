//! What a segment holds, however it is stored.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::index::Index;
use super::packed::Packed;
use crate::frame::Source;

/// A segment, open for reading.
#[derive(Debug)]
pub enum Contents {
    /// As dockerd's frames came.
    Plain(File),
    /// Compressed.
    Packed(Packed),
}

impl Contents {
    /// How many bytes it has, which only a plain one's number may grow.
    pub fn len(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Packed(packed) => Ok(packed.len()),
        }
    }

    /// Whether that is none.
    pub fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|length| length == 0)
    }

    /// What is where in it, where that came with it.
    pub fn index(&self) -> Option<&Index> {
        match self {
            Self::Plain(_) => None,
            Self::Packed(packed) => Some(packed.index()),
        }
    }

    /// The file that it is stored in.
    pub(super) fn file(&self) -> &File {
        match self {
            Self::Plain(file) => file,
            Self::Packed(packed) => packed.file(),
        }
    }
}

impl Source for Contents {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Plain(file) => FileExt::read_exact_at(file, out, offset),
            Self::Packed(packed) => packed.read_exact_at(out, offset),
        }
    }
}
