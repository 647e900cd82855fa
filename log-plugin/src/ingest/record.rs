//! What must outlive the process for a stream: dockerd keeps a FIFO open and goes on writing
//! when the plugin dies, but never says StartLogging again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use plugin_sdk::{durable, record};
use serde::{Deserialize, Serialize};

use crate::names::StreamId;

pub(crate) const KIND: &str = "pglog-stream";
pub(crate) const VERSION: u32 = 1;

/// One stream, as StartLogging asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// The FIFO, as a path inside the plugin.
    pub file: PathBuf,
    /// The container's full id.
    pub container: String,
    /// The container's name, for messages.
    pub name: String,
    /// The log options.
    pub options: BTreeMap<String, String>,
    /// When it began, in nanoseconds since 1970: the order in which streams of one container
    /// are taken up again.
    pub started: i64,
}

/// The records of all streams: one file each, in one directory.
#[derive(Debug)]
pub(super) struct Records {
    dir: PathBuf,
}

impl Records {
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        durable::create_dir(&dir, 0o700)?;
        durable::sweep(&dir)?;
        Ok(Self { dir })
    }

    /// Writes the record of `id`; it is there after a power cut once this has returned.
    pub(super) fn write(&self, id: &StreamId, stream: &StreamRecord) -> io::Result<()> {
        let bytes = record::encode(KIND, VERSION, stream).map_err(io::Error::other)?;
        durable::write(&self.path(id), &bytes)
    }

    /// Removes the record of `id`. Not durably: one that comes back after a power cut names a
    /// FIFO that nobody writes to, and is removed then.
    pub(super) fn remove(&self, id: &StreamId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// All records, the oldest stream first. One that cannot be read is left where it is: it may
    /// be a newer version's.
    pub(super) fn read_all(&self) -> io::Result<Vec<(StreamId, StreamRecord)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            match read(&path) {
                Ok(stream) => found.push(stream),
                Err(error) => {
                    tracing::error!(error = error.0, path = %path.display(), "stream record");
                }
            }
        }
        found.sort_by_key(|(_, stream)| stream.started);
        Ok(found)
    }

    fn path(&self, id: &StreamId) -> PathBuf {
        self.dir.join(id.as_str())
    }
}

/// Why a record cannot be read, in words for the log.
struct Unreadable(String);

impl<E: std::error::Error> From<E> for Unreadable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

fn read(path: &Path) -> Result<(StreamId, StreamRecord), Unreadable> {
    let id = StreamId::of_fifo(path)?;
    Ok((id, record::decode(KIND, VERSION, &fs::read(path)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_the_order_of_their_start() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path().join("streams")).unwrap();
        let stream = |name: &str, started| {
            let file = PathBuf::from("/run/docker/logging").join(name);
            let id = StreamId::of_fifo(&file).unwrap();
            let options = BTreeMap::from([("max-size".to_owned(), "1m".to_owned())]);
            let (container, name) = ("c".to_owned(), "n".to_owned());
            (id, StreamRecord { file, container, name, options, started })
        };
        let (one, two) = (stream("b", 1), stream("a", 2));
        for (id, stream) in [&two, &one] {
            records.write(id, stream).unwrap();
        }
        durable::write(&dir.path().join("streams/c.tmp"), b"torn").unwrap();
        durable::write(&dir.path().join("streams/d"), b"damaged").unwrap();
        assert_eq!(records.read_all().unwrap(), [one, two.clone()]);
        records.remove(&two.0).unwrap();
        records.remove(&two.0).unwrap();
        assert_eq!(records.read_all().unwrap().len(), 1);
    }
}
