//! The sink that writes a file of the host.
//!
//! Each line is in the files once, also over kills: what is written follows from the journal, so
//! after a kill the part of a batch that the file has already is recognised by its bytes and not
//! written again. A file that was moved or removed is opened anew before the next batch, so
//! logrotate needs to tell nobody.
//!
//! Absent: syncing the file to disk.

mod encode;
mod output;
mod rotation;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

pub(super) use self::encode::object as attributes;
use self::encode::{Encoder, Unfinished};
use self::output::Output;
use super::ledger::Ledger;
use super::notice;
use super::target::FileTarget;
use crate::frame::LogEntry;
use crate::journal::Dropped;
use crate::sys::HostRoot;

/// What a file holds of what the ledger calls delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// The file's inode, 0 for none.
    inode: u64,
    /// Its size by then.
    size: u64,
    /// Bytes that follow from what is not yet called delivered and are in files before this one.
    skip: u64,
    /// The line that is not finished.
    unfinished: Option<Unfinished>,
}

impl Receipt {
    /// The log has ended and all of it is written: what others write from now on is not to be
    /// taken for ours.
    pub(super) fn close(&mut self) {
        *self = Self { unfinished: self.unfinished.take(), ..Self::default() };
    }

    /// What comes next is not what was being written: nothing of it is in files yet, and it does
    /// not go on with a line of theirs.
    pub(super) fn pass(&mut self) {
        (self.skip, self.unfinished) = (0, None);
    }
}

/// Why nothing is written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("open the directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is no regular file", path.display())]
    NoFile { path: PathBuf },
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("rotate {}", path.display())]
    Rotate { path: PathBuf, source: io::Error },
}

/// The writer of one container's file.
#[derive(Debug)]
pub(super) struct FileOutlet {
    encoder: Encoder,
    /// As the encoder had it when the batch began.
    before: Option<Unfinished>,
    output: Output,
    /// The batch, encoded, and how much of it is written.
    pending: Vec<u8>,
    written: usize,
}

impl FileOutlet {
    /// A writer of `target` below `directory` of `host`, which goes on where `ledger` says.
    pub(super) fn new(
        host: HostRoot,
        directory: PathBuf,
        target: FileTarget,
        ledger: Arc<Mutex<Ledger>>,
    ) -> Self {
        let receipt = lock(&ledger).state.receipt.clone();
        let encoder = Encoder {
            format: target.format,
            attributes: target.attributes.clone(),
            unfinished: receipt.unfinished.clone(),
        };
        let before = receipt.unfinished.clone();
        let output = Output::new(host, directory, target, ledger, receipt);
        Self { encoder, before, output, pending: Vec::new(), written: 0 }
    }

    /// Takes a batch to be written; the one before is written by now.
    pub(super) fn accept(&mut self, entries: &[LogEntry], dropped: Dropped) {
        self.before.clone_from(&self.encoder.unfinished);
        if dropped.any() {
            let notice = notice::of(dropped, entries.first());
            self.encoder.entry(&notice, &mut self.pending);
        }
        for entry in entries {
            self.encoder.entry(entry, &mut self.pending);
        }
        self.written = self.output.skip(self.pending.len());
    }

    /// Writes what is left of the batch.
    pub(super) fn write(&mut self) -> Result<(), FileError> {
        self.output.write(&self.pending, &mut self.written, self.before.as_ref())?;
        self.pending = Vec::new();
        self.written = 0;
        Ok(())
    }

    /// What the file holds once the batch is written.
    pub(super) fn receipt(&self) -> Receipt {
        self.output.receipt(0, self.encoder.unfinished.clone())
    }
}

fn lock(ledger: &Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
