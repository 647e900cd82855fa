//! Forgetting the sinks of a container whose log is deleted: its segments are numbered from the beginning
//! again, and a ledger of the old ones would take the new for delivered. The log goes first: a sink that was
//! forgotten with its log still there would deliver all of it again. A ledger that a kill leaves behind is
//! beyond the log's end, and a reader begins anew then.

use std::io;
use std::path::{Path, PathBuf};

use super::{Sinks, take_off};
use crate::names::ContainerId;

/// Why sinks are not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// One is at work.
    #[error(
        "a sink has not delivered all of the log yet, as `docker pglog status` shows; \
         `docker pglog rm --undelivered` gives that up"
    )]
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
    /// Ends the sinks of `container`, however far they have come, and waits until they have ended.
    pub async fn give_up(&self, container: &ContainerId) {
        let at_work: Vec<_> = {
            let running = self.running();
            let own = running.iter().filter(|((of, _), _)| of == container);
            own.map(|(key, running)| (key.clone(), running.clone())).collect()
        };
        for (key, running) in at_work {
            running.replaced.cancel();
            running.ended.cancelled().await;
            // Not before: who begins meanwhile waits for its end too.
            take_off(&mut self.running(), &key, &running);
        }
    }

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
        let listed = self.cursors(container).map_err(|source| {
            let path = self.directory.clone();
            ForgetError::System { path, source }
        });
        for path in listed?.into_iter().chain([self.record_path(container)]) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|source| ForgetError::System { path, source })?,
            }
        }
        drop(running);
        Ok(removed)
    }

    /// The ledgers that `container` has, however many sinks of a kind there were.
    fn cursors(&self, container: &ContainerId) -> io::Result<Vec<PathBuf>> {
        let prefix = format!("{container}.");
        let is_own = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".cursor"))
        };
        let all = std::fs::read_dir(&self.directory)?.map(|entry| Ok(entry?.path()));
        all.filter(|path| path.as_ref().map_or(true, |path| is_own(path))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::SinkId;
    use super::super::{Host, SinkKind};
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
            Host { root: HostRoot::new(dir.path()), log_directory: "/logs".into(), no_files: None },
            Arc::new(Journals::new(dir.path().join("journals"))),
            runtime.handle().clone(),
            CancellationToken::new(),
        )
        .unwrap();
        let id = ContainerId::parse("c").unwrap();
        let numbered = |number| SinkId { kind: SinkKind::Syslog, number };
        let cursors = [SinkKind::File.into(), numbered(0), numbered(1)];
        let cursors = cursors.map(|sink| sinks.cursor_path(&id, sink));
        let other = sinks.cursor_path(&ContainerId::parse("cc").unwrap(), numbered(0));
        for cursor in cursors.iter().chain([&other]) {
            plugin_sdk::durable::write(cursor, b"how far it is").unwrap();
        }
        let refused = sinks.forget_after(&id, || Err::<(), _>(ForgetError::Behind));
        assert!(refused.is_err() && cursors.iter().all(|cursor| cursor.exists()));
        let removed = sinks.forget_after(&id, || {
            assert!(cursors[0].exists(), "the log goes first");
            Ok::<_, ForgetError>(7)
        });
        assert_eq!(removed.unwrap(), 7);
        assert!(!cursors.iter().any(|cursor| cursor.exists()) && other.exists());
    }
}
