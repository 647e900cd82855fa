//! FIFO to segments by splice(2), cut at frame boundaries, and found again after a kill.
//!
//! The size of the last segment is the only cursor: what is in it was taken from the pipe, what
//! is not is still there. `streams/FIFO` says which FIFOs to open again, `segments/FIFO/SEQ` are
//! the bytes, each beginning with a frame.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};
use serde_json::{Value, json};

use crate::STATE;

/// Small, so that a short test sees many boundaries.
const SEGMENT: u64 = 256 * 1024;
const PIPE: i32 = 1024 * 1024;

struct Running {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

static RUNNING: Mutex<BTreeMap<String, Running>> = Mutex::new(BTreeMap::new());

/// `StartLogging`: the record is there before the answer.
pub(crate) fn start(fifo: &str) -> Result<Value> {
    let name = Path::new(fifo).file_name().context("no FIFO")?.to_string_lossy().into_owned();
    fs::create_dir_all(Path::new(STATE).join("streams"))?;
    fs::write(Path::new(STATE).join("streams").join(&name), fifo)?;
    run(name, fifo)?;
    Ok(json!({}))
}

/// `StopLogging`: nothing more is written now, so empty is the end.
pub(crate) fn stop(fifo: &str) -> Result<Value> {
    let name = Path::new(fifo).file_name().context("no FIFO")?.to_string_lossy().into_owned();
    let stream = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    if let Some(stream) = stream {
        stream.stopping.store(true, Ordering::Relaxed);
        if let Ok(ended) = stream.thread.join() {
            ended?;
        }
    }
    drop(fs::remove_file(Path::new(STATE).join("streams").join(&name)));
    Ok(json!({}))
}

/// Opens again what an earlier life was reading; tells how each went.
pub(crate) fn reattach() -> Vec<String> {
    let Ok(records) = fs::read_dir(Path::new(STATE).join("streams")) else { return Vec::new() };
    let again = |record: fs::DirEntry| {
        let name = record.file_name().to_string_lossy().into_owned();
        let outcome = fs::read_to_string(record.path())
            .map_err(anyhow::Error::from)
            .and_then(|fifo| run(name.clone(), &fifo));
        match outcome {
            Ok(()) => format!("{name}: goes on"),
            Err(error) => format!("{name}: {error:#}"),
        }
    };
    records.flatten().map(again).collect()
}

fn run(name: String, fifo: &str) -> Result<()> {
    let fifo = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(fifo)
        .with_context(|| format!("open {fifo}"))?;
    fcntl(&fifo, FcntlArg::F_SETPIPE_SZ(PIPE)).context("enlarge the pipe")?;
    let directory = Path::new(STATE).join("segments").join(&name);
    fs::create_dir_all(&directory)?;
    let mut segment = Segment::last(&directory)?;
    let stopping = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stopping);
    let thread = thread::spawn(move || {
        loop {
            // Asked first: what was written before the question is drained after it.
            let last = asked.load(Ordering::Relaxed);
            if segment.take(&fifo, &directory)? {
                return Ok(()); // end of file: dockerd is gone
            }
            if last {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
    });
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.insert(name, Running { stopping, thread });
    Ok(())
}

struct Segment {
    file: File,
    sequence: u64,
    size: u64,
    /// Where the first frame begins that is not wholly in the file.
    boundary: u64,
}

impl Segment {
    fn last(directory: &Path) -> Result<Self> {
        let names = fs::read_dir(directory)?.flatten();
        let last = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max();
        Self::open(directory, last.unwrap_or(0))
    }

    fn open(directory: &Path, sequence: u64) -> Result<Self> {
        let path: PathBuf = directory.join(format!("{sequence:06}"));
        // Not for append: splice refuses that.
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let size = file.metadata()?.len();
        let mut segment = Self { file, sequence, size, boundary: 0 };
        segment.walk()?;
        Ok(segment)
    }

    /// Moves the boundary over the frames that are wholly there; tells how many bytes the next
    /// one needs to get further, be it its header or its rest.
    fn walk(&mut self) -> Result<u64> {
        loop {
            let have = self.size - self.boundary;
            if have < 4 {
                return Ok(4 - have);
            }
            let mut header = [0; 4];
            self.file.read_exact_at(&mut header, self.boundary)?;
            let frame = 4 + u64::from(u32::from_be_bytes(header));
            if have < frame {
                return Ok(frame - have);
            }
            self.boundary += frame;
        }
    }

    /// Takes all that the pipe holds; tells whether that was the end of file.
    fn take(&mut self, fifo: &File, directory: &Path) -> Result<bool> {
        loop {
            let needed = self.walk()?;
            let room = if self.size < SEGMENT {
                SEGMENT - self.size
            } else if self.boundary < self.size {
                needed // full, but in mid-frame: exactly the rest
            } else {
                *self = Self::open(directory, self.sequence + 1)?;
                continue;
            };
            let mut offset = self.size.try_into()?;
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
            match splice(fifo, None, &self.file, Some(&mut offset), room.try_into()?, flags) {
                Ok(0) => return Ok(true),
                Ok(taken) => self.size += u64::try_from(taken)?,
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("splice"),
            }
        }
    }
}
