//! The record of all that was said: a line of JSON for each event, in the order of arrival.
//!
//! Both plugins append to one file, a single write(2) for each line, so that their events have an
//! order among themselves. An event is `started`, `told to end`, `probed` (a connection that said
//! nothing), `call` (with `path` and `body`) or `answer` (with `status`, `body`, and the `number`
//! of its call); a `status` of 0 is a connection that the plugin closed without an answer.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// One plugin's way to the record.
#[derive(Debug)]
pub(crate) struct Journal {
    plugin: String,
    file: File,
    calls: AtomicU32,
}

impl Journal {
    /// The record in `directory`, which is made.
    pub(crate) fn open(directory: &Path, plugin: &str) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let path = directory.join("trace");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self {
            plugin: plugin.to_owned(),
            file: file.with_context(|| path.display().to_string())?,
            calls: AtomicU32::new(0),
        })
    }

    /// Appends an event.
    pub(crate) fn note(&self, event: &Value) -> Result<()> {
        let mut event = event.clone();
        event["plugin"] = json!(self.plugin);
        (&self.file).write_all(format!("{event}\n").as_bytes()).context("write the record")
    }

    /// Appends a call and gives the number that its answer is to have.
    pub(crate) fn call(&self, path: &str, body: &[u8]) -> Result<String> {
        // Of this life of the plugin and of no other one.
        let count = self.calls.fetch_add(1, Ordering::Relaxed);
        let number = format!("{}.{count}", std::process::id());
        let body = String::from_utf8_lossy(body);
        self.note(&json!({"event": "call", "number": number, "path": path, "body": body}))?;
        Ok(number)
    }

    /// Appends the answer to a call; one that streams has no body here.
    pub(crate) fn answer(&self, number: &str, status: u16, body: &[u8]) -> Result<()> {
        let body = String::from_utf8_lossy(body);
        let event = json!({"event": "answer", "number": number, "status": status, "body": body});
        self.note(&event)
    }
}
