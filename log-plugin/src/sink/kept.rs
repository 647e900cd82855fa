//! The record of a container's sinks: what the next life of the process takes them up by.
//!
//! A full disk keeps no container from starting, so a record that cannot be written is written
//! later, unless its sinks have delivered everything by then.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};

use plugin_sdk::{durable, record};
use serde::{Deserialize, Serialize};

use super::target::Targets;
use super::{RETRY, Sinks};
use crate::names::ContainerId;

pub(crate) const KIND: &str = "pglog-sinks";
/// 2: a fluentd, and labels of a file. 3: delivery to all of several syslog servers. A program that
/// does not know these would forget them.
pub(crate) const VERSION: u32 = 3;

/// A container's sinks, as they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) container: String,
    pub(super) name: String,
    pub(super) targets: Targets,
}

impl Sinks {
    pub(super) fn record_path(&self, container: &ContainerId) -> PathBuf {
        self.directory.join(format!("{container}.record"))
    }

    /// Writes the record of `container`, now or as soon as the disk takes it.
    pub(super) fn keep(self: &Arc<Self>, container: &ContainerId, record: Record) {
        // An older one must not be written after this.
        self.unkept().remove(container);
        if let Err(error) = self.write(container, &record) {
            tracing::error!(%error, %container, "the record of sinks cannot be written yet");
            self.unkept().insert(container.clone(), record);
            self.runtime.spawn(Arc::clone(self).keep_later(container.clone()));
        }
    }

    async fn keep_later(self: Arc<Self>, container: ContainerId) {
        loop {
            tokio::time::sleep(RETRY).await;
            // Held, so that one that begins meanwhile is written after this.
            let mut unkept = self.unkept();
            let Some(record) = unkept.get(&container) else { return };
            let ended = !self.running().keys().any(|(running, _)| *running == container);
            if ended || self.write(&container, record).is_ok() {
                unkept.remove(&container);
                return;
            }
        }
    }

    fn write(&self, container: &ContainerId, record: &Record) -> io::Result<()> {
        let path = self.record_path(container);
        let bytes = record::encode(KIND, VERSION, record).map_err(io::Error::other)?;
        if std::fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        durable::write(&path, &bytes)
    }

    fn unkept(&self) -> MutexGuard<'_, HashMap<ContainerId, Record>> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
