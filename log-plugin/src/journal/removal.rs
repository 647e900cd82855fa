//! Deleting a whole journal.
//!
//! Its segments are taken out of the account first, under the lock, so that a stream that begins meanwhile
//! starts a segment of its own and never takes over one that is about to go. What a killed process leaves
//! of a journal is a journal still, and can be deleted again.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::segment::Segment;
use super::{Journal, kept_index, segment};

/// Why a journal is not deleted.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// Streams are open.
    #[error("the container is being logged; stop it first")]
    Live,
    /// The system refused.
    #[error("delete a journal")]
    System(#[from] io::Error),
}

impl Journal {
    /// Whether dockerd has a stream open whose frames come here.
    pub fn is_open(&self) -> bool {
        !self.state().streams.is_empty()
    }

    /// Deletes everything that is stored, and tells how many bytes that was.
    pub fn remove_all(&self) -> Result<u64, RemovalError> {
        self.list()?;
        let segments = {
            let mut state = self.state();
            if !state.streams.is_empty() {
                return Err(RemovalError::Live);
            }
            std::mem::take(&mut state.segments)
        };
        let bytes = segments.values().map(|segment| segment.disk).sum();
        let mut failed = None;
        for (sequence, segment) in segments {
            if let Err(error) = segment.delete(&self.dir) {
                // Still there, so still known.
                self.state().segments.insert(sequence, segment);
                failed.get_or_insert(error);
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.forget_about()?;
        self.gone.forget()?;
        if self.dir.is_dir() {
            plugin_sdk::durable::sweep(&self.dir)?;
            // With it go indexes of segments that went without them.
            segment::list(&self.dir)?;
        }
        match missing_is_fine(fs::remove_dir(&self.dir)) {
            // A stream has begun meanwhile.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            removed => removed?,
        }
        self.changed.send_replace(());
        Ok(bytes)
    }
}

impl Segment {
    /// Removes its file, and the index beside that.
    pub(super) fn delete(&self, dir: &Path) -> io::Result<()> {
        let path = self.path(dir);
        kept_index::remove(&path)?;
        missing_is_fine(fs::remove_file(path))
    }
}

pub(super) fn missing_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{About, Limits};
    use super::*;
    use crate::names::StreamId;
    use crate::options::SyncPolicy;
    use plugin_sdk::durable;
    use std::collections::BTreeMap;

    const LIMITS: Limits = Limits {
        segment: 1 << 20,
        full: 1 << 20,
        total: 4 << 20,
        turn: None,
        sync: SyncPolicy::Interval,
    };

    fn stream(name: &str) -> StreamId {
        StreamId::of_fifo(Path::new(name)).unwrap()
    }

    #[test]
    fn a_journal_is_deleted_unless_a_stream_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("c");
        durable::create_dir(&place, 0o700).unwrap();
        durable::write(&place.join(format!("{:020}.t", 4)), b"12345").unwrap();
        let journal = Journal::open(&place);
        journal.note(&About { name: "app".to_owned(), options: BTreeMap::new() }).unwrap();
        journal.attach(&stream("s"));
        assert!(matches!(journal.remove_all(), Err(RemovalError::Live)));
        assert_eq!(journal.inventory().bytes(), 5);
        journal.detach(&stream("s"));
        assert_eq!(journal.remove_all().unwrap(), 5);
        assert!(!place.exists() && journal.inventory().segments.is_empty());
        assert_eq!(journal.remove_all().unwrap(), 0);
        // It can be begun again, behind what was there.
        journal.attach(&stream("u"));
        assert_eq!(journal.begin(&stream("u"), LIMITS).unwrap().sequence, 5);
        assert!(place.exists());
    }

    #[test]
    fn what_cannot_be_deleted_is_still_known() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("c");
        // A directory in the place of a segment.
        durable::create_dir(&place.join(format!("{:020}.t", 1)), 0o700).unwrap();
        let journal = Journal::open(&place);
        assert!(matches!(journal.remove_all(), Err(RemovalError::System(_))));
        assert_eq!(journal.inventory().segments.len(), 1);
    }
}
