//! Misbehaviour on order: what a plugin is made to do to dockerd that it would not do by itself.
//!
//! An order is a file `faults/PLUGIN/CALL` such as `faults/pgvol/VolumeDriver.Mount`, JSON:
//! `answer` with `status` and `body` instead of the plugin's, `hang_up`, `before` or `after` the
//! plugin has acted, or `hold_ms`, for so long before the plugin is asked. `times` says for how many calls it holds; without it, until the file is gone.
//! Being a file it holds over a restart and can be there before the plugin is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// One thing to do wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answer with this status and body; the plugin is not asked.
    Answer(u16, String),
    /// Close the connection; the plugin is not asked.
    HangUpBefore,
    /// Have the plugin act and close the connection in place of its answer.
    HangUpAfter,
    /// Ask the plugin only after this time.
    Hold(Duration),
}

/// The orders for one plugin.
#[derive(Debug)]
pub(crate) struct Faults {
    /// Held while an order is used, so that `times` counts right.
    directory: Mutex<PathBuf>,
}

impl Faults {
    /// The orders for `plugin` below `state`.
    pub(crate) fn of(state: &Path, plugin: &str) -> Self {
        Self { directory: Mutex::new(state.join("faults").join(plugin)) }
    }

    /// The order for a call, which is used up by one.
    pub(crate) fn take(&self, call: &str) -> Option<Fault> {
        let directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        let file = directory.join(call);
        let mut order: Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        if let Some(times) = order["times"].as_u64() {
            order["times"] = json!(times - 1);
            // Seen by whoever waits for it to be used up.
            if times == 1 { fs::remove_file(&file) } else { fs::write(&file, order.to_string()) }
                .ok()?;
        }
        if let Some(time) = order["hold_ms"].as_u64() {
            return Some(Fault::Hold(Duration::from_millis(time)));
        }
        match order["hang_up"].as_str() {
            Some("before") => Some(Fault::HangUpBefore),
            Some("after") => Some(Fault::HangUpAfter),
            _ => {
                let status = order["answer"]["status"].as_u64()?;
                let body = order["answer"]["body"].as_str()?;
                Some(Fault::Answer(u16::try_from(status).ok()?, body.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_for_as_many_calls_as_it_says() {
        let state = tempfile::tempdir().unwrap();
        let faults = Faults::of(state.path(), "pgvol");
        assert_eq!(faults.take("VolumeDriver.Get"), None);
        let directory = state.path().join("faults/pgvol");
        fs::create_dir_all(&directory).unwrap();
        let order = r#"{"times": 2, "answer": {"status": 500, "body": "no"}}"#;
        fs::write(directory.join("VolumeDriver.Get"), order).unwrap();
        fs::write(directory.join("VolumeDriver.List"), r#"{"hang_up": "before"}"#).unwrap();
        fs::write(directory.join("VolumeDriver.Path"), r#"{"hold_ms": 7}"#).unwrap();
        for _ in 0..2 {
            let expected = Fault::Answer(500, "no".to_owned());
            assert_eq!(faults.take("VolumeDriver.Get"), Some(expected));
            assert_eq!(faults.take("VolumeDriver.List"), Some(Fault::HangUpBefore));
        }
        let hold = Fault::Hold(Duration::from_millis(7));
        assert_eq!(faults.take("VolumeDriver.Path"), Some(hold));
        assert_eq!(faults.take("VolumeDriver.Get"), None);
        assert_eq!(faults.take("VolumeDriver.List"), Some(Fault::HangUpBefore));
    }
}
