//! Forgetting the sinks of a container whose log is about to be deleted: its segments are numbered from the
//! beginning again, and a ledger of the old ones would take the new for delivered.

use std::io;
use std::path::PathBuf;

use super::{SinkKind, Sinks};
use crate::names::ContainerId;

/// Why sinks are not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// One is at work.
    #[error("a sink has not delivered all of the log yet; `docker pglog status` shows it")]
    Behind,
    /// The system refused.
    #[error("remove {}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Sinks {
    /// Forgets the sinks of `container`; refused while one is at work.
    pub fn forget(&self, container: &ContainerId) -> Result<(), ForgetError> {
        // Held to the end: none is launched meanwhile.
        let running = self.running();
        if running.keys().any(|(at_work, _)| at_work == container) {
            return Err(ForgetError::Behind);
        }
        let cursors = SinkKind::ALL.map(|kind| self.cursor_path(container, kind));
        for path in cursors.into_iter().chain([self.record_path(container)]) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|source| ForgetError::System { path, source })?,
            }
        }
        drop(running);
        Ok(())
    }
}
