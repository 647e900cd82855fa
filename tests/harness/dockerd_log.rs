//! The log of dockerd, in which what plugins print arrives as `msg="..." plugin=ID`.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

/// The log file of an engine; it grows over restarts of dockerd.
#[derive(Debug)]
pub struct DockerdLog {
    path: PathBuf,
}

impl DockerdLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// How many bytes it has now, to read from there later.
    pub fn position(&self) -> Result<usize> {
        Ok(fs::read(&self.path)?.len())
    }

    /// What plugins printed after `position`, a line each.
    pub fn plugin_lines(&self, position: usize) -> Result<Vec<String>> {
        let bytes = fs::read(&self.path)?;
        let text = String::from_utf8_lossy(bytes.get(position..).unwrap_or_default());
        Ok(text.lines().filter_map(plugin_message).collect())
    }

    /// What dockerd itself said after `position`, a line each.
    pub fn own_lines(&self, position: usize) -> Result<Vec<String>> {
        let bytes = fs::read(&self.path)?;
        let text = String::from_utf8_lossy(bytes.get(position..).unwrap_or_default());
        let own = text.lines().filter(|line| plugin_message(line).is_none());
        Ok(own.map(str::to_owned).collect())
    }

    /// Lines after `position` by which a plugin says that something is wrong, less those that
    /// contain one of `tolerated`. A line that is not one of its JSON lines counts (a panic).
    pub fn complaints(&self, position: usize, tolerated: &[&str]) -> Result<Vec<String>> {
        let mut lines = self.plugin_lines(position)?;
        lines
            .retain(|line| is_complaint(line) && !tolerated.iter().any(|part| line.contains(part)));
        Ok(lines)
    }

    /// The last lines that are dockerd's own.
    pub(crate) fn tail(&self, count: usize) -> Result<String> {
        let own = self.own_lines(0)?;
        Ok(own[own.len().saturating_sub(count)..].join("\n"))
    }

    /// The last lines that plugins printed.
    pub fn plugin_tail(&self, count: usize) -> Result<String> {
        let lines = self.plugin_lines(0)?;
        Ok(lines[lines.len().saturating_sub(count)..].join("\n"))
    }
}

fn is_complaint(line: &str) -> bool {
    serde_json::from_str::<Value>(line)
        .map_or(true, |value| matches!(value["level"].as_str(), Some("WARN" | "ERROR") | None))
}

/// What a plugin printed, out of a line of dockerd's log; nothing for dockerd's own lines.
fn plugin_message(line: &str) -> Option<String> {
    // dockerd itself also names plugins, but with further fields; what a plugin prints has
    // exactly the message and the identifier.
    let (_, rest) = line.split_once(" msg=")?;
    let (message, identifier) = rest.rsplit_once(" plugin=")?;
    if identifier.len() != 64 || !identifier.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let Some(quoted) = message.strip_prefix('"') else { return Some(message.to_owned()) };
    // Go quotes as JSON does for everything that a JSON line can hold.
    let text = serde_json::from_str(message).unwrap_or_else(|_| quoted.to_owned());
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn finds_what_a_plugin_printed() {
        let line = format!(r#"time="x" level=info msg="{{\"level\":\"WARN\"}}" plugin={ID}"#);
        assert_eq!(plugin_message(&line).as_deref(), Some(r#"{"level":"WARN"}"#));
        assert_eq!(
            plugin_message(&format!("level=info msg=word plugin={ID}")).as_deref(),
            Some("word")
        );
        assert_eq!(plugin_message(r#"level=info msg="API listen on x""#), None);
    }

    #[test]
    fn complains_about_warnings_and_about_what_is_no_json() {
        assert!(is_complaint(r#"{"level":"WARN"}"#));
        assert!(is_complaint("thread 'main' panicked"));
        assert!(!is_complaint(r#"{"level":"INFO"}"#));
    }
}
