//! The file itself: opened, found again after a kill, rotated, opened anew when it was moved.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::encode::Unfinished;
use super::rotation;
use super::{FileError, Receipt, lock};
use crate::sink::ledger::Ledger;
use crate::sink::target::FileTarget;
use crate::sys::{HostDir, HostRoot, NO_FOLLOW};

/// Permissions of directories that are made.
const DIRECTORY_MODE: u32 = 0o755;

/// How much is compared at a time with what the file has.
const COMPARED: usize = 64 * 1024;

/// In how many files at least the lines of `file-max-age` are: what is kept longer is a part of it.
const TURNS: u32 = 4;

/// How often old files are looked for.
const SWEEP: Duration = Duration::from_mins(1);

/// A file of the host that only this process writes to.
#[derive(Debug)]
pub(super) struct Output {
    host: HostRoot,
    directory: PathBuf,
    target: FileTarget,
    ledger: Arc<Mutex<Ledger>>,
    /// What is known of the file by the ledger, until it is opened.
    receipt: Receipt,
    open: Option<Open>,
    /// When old files were last looked for.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    directory: HostDir,
    file: File,
    inode: u64,
    size: u64,
    /// When it was made, where its file system tells.
    begun: Option<SystemTime>,
    /// How much of the file, from `size` on, may be what is to be written next.
    known: u64,
    /// Whether its last line has no end, and not because it is still being written.
    torn: bool,
}

impl Output {
    pub(super) fn new(
        host: HostRoot,
        directory: PathBuf,
        target: FileTarget,
        ledger: Arc<Mutex<Ledger>>,
        receipt: Receipt,
    ) -> Self {
        Self { host, directory, target, ledger, receipt, open: None, swept: None }
    }

    /// How much of a batch of `length` is in earlier files already.
    pub(super) fn skip(&mut self, length: usize) -> usize {
        let skipped = usize::try_from(self.receipt.skip).unwrap_or(usize::MAX).min(length);
        self.receipt.skip -= skipped as u64;
        skipped
    }

    pub(super) fn receipt(&self, skip: u64, unfinished: Option<Unfinished>) -> Receipt {
        match &self.open {
            Some(open) => Receipt { inode: open.inode, size: open.size, skip, unfinished },
            None => Receipt { skip, unfinished, ..self.receipt.clone() },
        }
    }

    /// Writes `pending` from `written` on. `before` is the line that was unfinished when the
    /// batch began.
    pub(super) fn write(
        &mut self,
        pending: &[u8],
        written: &mut usize,
        before: Option<&Unfinished>,
    ) -> Result<(), FileError> {
        if self.open.is_some() && self.was_moved()? {
            (self.open, self.receipt) = (None, Receipt::default());
            // What a full disk took of a line before the file was moved is written anew.
            let line_end = pending[..*written].iter().rposition(|&byte| byte == b'\n');
            *written = line_end.map_or(0, |at| at + 1);
        }
        self.remove_old();
        while *written < pending.len() {
            if self.is_full(&pending[..*written], before) {
                self.keep(*written, before);
                self.rotate()?;
            }
            if self.open.is_none() {
                self.open = Some(self.opened()?);
                self.keep(*written, before);
            }
            let (path, max_size) = (self.path(), self.target.max_size);
            let Some(open) = &mut self.open else { break };
            let end = piece_end(pending, *written, max_size.saturating_sub(open.size));
            let step = open.step(&pending[*written..end]);
            *written += step.map_err(|source| FileError::Write { path, source })?;
        }
        Ok(())
    }

    /// The whole path on the host.
    fn path(&self) -> PathBuf {
        self.directory.join(&self.target.path)
    }

    fn name(&self) -> String {
        let name = self.target.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Whether the path leads to another file by now, or to none.
    fn was_moved(&self) -> Result<bool, FileError> {
        let path = self.path();
        // The directory too may have been moved.
        let directory = self.open_directory()?;
        match fs::symlink_metadata(directory.entry(&self.name())) {
            Ok(found) => Ok(self.open.as_ref().is_none_or(|open| !open.is(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(source) => Err(FileError::Open { path, source }),
        }
    }

    fn open_directory(&self) -> Result<HostDir, FileError> {
        let path = self.path();
        let parent = path.parent().unwrap_or(&self.directory);
        let below = self.target.path.parent().unwrap_or(Path::new(""));
        self.host
            .directory(&self.directory, below, DIRECTORY_MODE)
            .map_err(|source| FileError::Directory { path: parent.to_owned(), source })
    }

    fn opened(&self) -> Result<Open, FileError> {
        let (directory, path) = (self.open_directory()?, self.path());
        let failed = |source| FileError::Open { path: path.clone(), source };
        let file = open_file(&directory.entry(&self.name()), &self.target).map_err(failed)?;
        let found = Open::find(directory, file, &self.receipt).map_err(failed)?;
        found.ok_or(FileError::NoFile { path })
    }

    /// Whether the next line belongs into a new file.
    fn is_full(&self, written: &[u8], before: Option<&Unfinished>) -> bool {
        let Some(open) = &self.open else { return false };
        let between_lines = match written.last() {
            Some(last) => *last == b'\n',
            None => before.is_none(),
        };
        let max = self.target.max_size;
        let turn = self.target.max_age.map(|age| age / TURNS);
        let old = |begun: SystemTime| {
            turn.is_some_and(|turn| begun.elapsed().is_ok_and(|age| age >= turn))
        };
        let done = open.size >= max || open.size > 0 && open.begun.is_some_and(old);
        open.known == 0 && (done && between_lines || open.size >= max.saturating_mul(2))
    }

    /// Gives the file a number, so that a new one takes its name.
    fn rotate(&mut self) -> Result<(), FileError> {
        if let Some(open) = &self.open {
            let (name, files) = (self.name(), self.target.max_files);
            rotation::shift(&open.directory, &name, files)
                .map_err(|source| FileError::Rotate { path: self.path(), source })?;
            if self.target.compress
                && files > 1
                && let Err(error) = rotation::compress(&open.directory, &name)
            {
                // It is there, only larger.
                tracing::warn!(%error, path = %self.path().display(), "a file stays uncompressed");
            }
        }
        (self.open, self.receipt) = (None, Receipt::default());
        Ok(())
    }

    /// Removes files that are too old, every now and then.
    fn remove_old(&mut self) {
        let due = self.swept.is_none_or(|at| at.elapsed() >= SWEEP);
        let (Some(age), true) = (self.target.max_age, due) else { return };
        self.swept = Some(Instant::now());
        let removed = self.open_directory().map(|directory| {
            rotation::remove_old(&directory, &self.name(), self.target.max_files, age)
        });
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, path = %self.path().display(), "old files stay");
        }
    }

    /// Notes how much of the batch is in files before this one, when a file begins and ends.
    fn keep(&self, written: usize, before: Option<&Unfinished>) {
        let mut ledger = lock(&self.ledger);
        ledger.note(self.receipt(written as u64, before.cloned()));
        if let Err(error) = ledger.keep() {
            // A kill right now would double a batch.
            tracing::warn!(%error, path = %self.path().display(), "keep how far a file is written");
        }
    }
}

impl Open {
    /// What `file` is, and how it goes with `receipt`; `None` for what is no regular file.
    fn find(directory: HostDir, mut file: File, receipt: &Receipt) -> io::Result<Option<Self>> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Ok(None);
        }
        let (inode, length, begun) = (found.ino(), found.len(), found.created().ok());
        if inode == receipt.inode && receipt.size <= length {
            let (size, known) = (receipt.size, length - receipt.size);
            let torn = false;
            return Ok(Some(Self { directory, file, inode, size, begun, known, torn }));
        }
        let torn = is_torn(&mut file, length)?;
        Ok(Some(Self { directory, file, inode, size: length, begun, known: 0, torn }))
    }

    fn is(&self, found: &fs::Metadata) -> bool {
        found.ino() == self.inode && self.file.metadata().is_ok_and(|own| own.dev() == found.dev())
    }

    /// Writes some of `bytes`, or finds that they are written already; tells how many.
    fn step(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.known > 0 {
            return self.compare(bytes);
        }
        if self.torn {
            self.size += self.file.write(b"\n")? as u64;
            self.torn = false;
        }
        match self.file.write(bytes) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => {
                self.size += taken as u64;
                // Somebody may have cut the file in place.
                self.size = self.size.min(self.file.metadata()?.len());
                Ok(taken)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Moves over those of `bytes` that the file has at this place. From the first line that
    /// differs on it is somebody else's, and everything more goes to the file's end.
    fn compare(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(COMPARED).min(usize::try_from(self.known).unwrap_or(COMPARED));
        let mut held = vec![0; length];
        self.file.seek(SeekFrom::Start(self.size))?;
        match self.file.read_exact(&mut held) {
            // Somebody has cut the file meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => held.clear(),
            read => read?,
        }
        let same = held.iter().zip(bytes).take_while(|(held, byte)| held == byte).count();
        self.size += same as u64;
        self.known -= same as u64;
        if same < length {
            self.size = self.file.metadata()?.len();
            self.known = 0;
            self.torn = is_torn(&mut self.file, self.size)?;
            let line_end = bytes[..same].iter().rposition(|&byte| byte == b'\n');
            return Ok(line_end.map_or(0, |at| at + 1));
        }
        Ok(same)
    }
}

/// Whether a file of `length` ends within a line.
fn is_torn(file: &mut File, length: u64) -> io::Result<bool> {
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
    }
    Ok(last != [b'\n'])
}

/// Where a piece of `pending` ends that begins at `from`: with the line that fills `room`.
fn piece_end(pending: &[u8], from: usize, room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let at_least = from.saturating_add(room.saturating_sub(1)).min(pending.len());
    let line_end = pending[at_least..].iter().position(|&byte| byte == b'\n');
    line_end.map_or(pending.len(), |end| at_least + end + 1)
}

fn open_file(path: &PathBuf, target: &FileTarget) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Without waiting for a reader, should it be a FIFO.
    options.read(true).append(true).mode(target.mode).custom_flags(NO_FOLLOW);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
        Ok(file) => {
            fchown(&file, Some(target.uid), Some(target.gid))?;
            file.set_permissions(fs::Permissions::from_mode(target.mode))?;
            Ok(file)
        }
    }
}
