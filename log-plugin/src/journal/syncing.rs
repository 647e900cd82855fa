//! Bringing what was stored to the disk, for the sake of power cuts: a kill of the process needs
//! none of it.

use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError, Weak};

use super::{Journal, Journals};

impl Journal {
    /// The segment numbered `sequence` has grown.
    pub(super) fn to_be_synced(&self, sequence: u64) {
        self.state().unsynced.insert(sequence);
    }

    /// Brings to the disk what has grown since this was last done; what could not be is tried again.
    fn sync(&self) -> io::Result<()> {
        let (grown, mut failed) = (std::mem::take(&mut self.state().unsynced), Ok(()));
        for sequence in grown {
            let path = {
                let state = self.state();
                state.segments.get(&sequence).map(|segment| segment.path(&self.dir))
            };
            match path.map(File::open) {
                // Removed, or renamed just now, and then it is noted again with the next frame.
                Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Some(opened) => {
                    if let Err(error) = opened.and_then(|file| file.sync_data()) {
                        failed = Err(error);
                        self.to_be_synced(sequence);
                    }
                }
                None => {}
            }
        }
        failed
    }
}

impl Journals {
    /// Brings to the disk what has grown, of all journals that ask for it. Blocks for as long as
    /// the disk takes.
    pub fn sync(&self) {
        let open: Vec<Arc<Journal>> = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.values().filter_map(Weak::upgrade).collect()
        };
        for journal in open {
            if let Err(error) = journal.sync() {
                tracing::warn!(%error, journal = %journal.dir.display(), "bring a log to the disk");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Writer};
    use super::*;
    use crate::frame::testing::{frames, line};
    use crate::names::{ContainerId, StreamId};
    use crate::options::{LogSpec, SyncPolicy};
    use crate::sys::testing::fifo;
    use std::io::Write;

    #[test]
    fn what_has_grown_is_noted_until_it_is_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let journals = Journals::new(dir.path().join("journals"));
        for (name, sync, noted) in [
            ("a", SyncPolicy::Interval, 1),
            ("b", SyncPolicy::Always, 0),
            ("c", SyncPolicy::None, 0),
        ] {
            let journal = journals.get(&ContainerId::parse(name).unwrap());
            let path = dir.path().join(name);
            let mut pipe = fifo(&path);
            pipe.write_all(&frames([&line(1, "x")])).unwrap();
            let stream = StreamId::of_fifo(&path).unwrap();
            let limits = Limits::from(&LogSpec { sync, ..LogSpec::default() });
            let mut writer = Writer::new(Arc::clone(&journal), stream, limits);
            writer.fill(&pipe.into()).unwrap();
            assert_eq!(journal.state().unsynced.len(), noted, "{name}");
            journals.sync();
            assert!(journal.state().unsynced.is_empty());
            // One that retention has removed meanwhile is none to worry about.
            journal.to_be_synced(1);
            journal.to_be_synced(99);
            journal.free(1).unwrap();
            journal.sync().unwrap();
        }
    }
}
