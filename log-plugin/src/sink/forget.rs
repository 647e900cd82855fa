//! Forgetting the sinks of a container whose log is deleted: its segments are numbered from the beginning
//! again, and a ledger of the old ones would take the new for delivered. The log goes first: a sink that was
//! forgotten with its log still there would deliver all of it again. A ledger that a kill leaves behind is
//! beyond the log's end, and a reader begins anew then.

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
    /// Has the log of `container` removed by `remove`, then forgets its sinks; refused while one is
    /// at work, and nothing is forgotten when `remove` fails.
    pub fn forget_after<T, E: From<ForgetError>>(
        &self,
        container: &ContainerId,
        remove: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        // Held to the end: none is launched meanwhile.
        let running = self.running();
        if running.keys().any(|(at_work, _)| at_work == container) {
            return Err(ForgetError::Behind.into());
        }
        let removed = remove()?;
        let cursors = SinkKind::ALL.map(|kind| self.cursor_path(container, kind));
        for path in cursors.into_iter().chain([self.record_path(container)]) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|source| ForgetError::System { path, source })?,
            }
        }
        drop(running);
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Host;
    use super::*;
    use crate::journal::Journals;
    use crate::sys::HostRoot;
    use std::sync::Arc;
    use tokio_util::sync::CancellationToken;

    #[test]
    fn what_cannot_be_removed_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sinks = Sinks::open(
            dir.path().join("sinks"),
            Host { root: HostRoot::new(dir.path()), log_directory: "/logs".into() },
            Arc::new(Journals::new(dir.path().join("journals"))),
            runtime.handle().clone(),
            CancellationToken::new(),
        )
        .unwrap();
        let id = ContainerId::parse("c").unwrap();
        let cursor = sinks.cursor_path(&id, SinkKind::File);
        plugin_sdk::durable::write(&cursor, b"how far it is").unwrap();
        let refused = sinks.forget_after(&id, || Err::<(), _>(ForgetError::Behind));
        assert!(refused.is_err() && cursor.exists());
        let removed = sinks.forget_after(&id, || {
            assert!(cursor.exists(), "the log goes first");
            Ok::<_, ForgetError>(7)
        });
        assert_eq!(removed.unwrap(), 7);
        assert!(!cursor.exists());
    }
}
