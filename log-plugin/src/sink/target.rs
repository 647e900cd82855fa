//! Where a container's log goes, rendered for that container: what sinks work by, and what is
//! kept on disk so that the next life of the process goes on.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::Container;
use crate::options::{BadOption, BadOptions, FileFormat, FileSpec, LogSpec};

/// All sinks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// The file, if there is one.
    #[serde(default)]
    pub file: Option<FileTarget>,
}

/// A file of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTarget {
    /// Below the log directory; names only.
    pub path: PathBuf,
    /// What is written for an entry.
    pub format: FileFormat,
    /// From this size on the next line goes to a new file.
    pub max_size: u64,
    /// How many files there are at most, the current one included.
    pub max_files: u32,
    /// Permissions of files that are made.
    pub mode: u32,
    /// Owner of files that are made.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// Attributes for the format `json`, a JSON object.
    #[serde(default)]
    pub attributes: Option<String>,
}

impl Targets {
    /// What `spec` asks for, for `container`; or why its options cannot be had.
    pub fn of(spec: &LogSpec, container: &Container) -> Result<Self, BadOptions> {
        let file = spec.file.as_ref().map(|file| file_target(file, container)).transpose();
        file.map(|file| Self { file }).map_err(|bad| BadOptions(vec![bad]))
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.file.is_none()
    }
}

fn file_target(spec: &FileSpec, container: &Container) -> Result<FileTarget, BadOption> {
    let rendered = spec.path.render(container).map_err(|error| BadOption::Malformed {
        key: "file-path".to_owned(),
        value: spec.path_text.clone(),
        allowed: format!("a template that this container can be put into: {error}").into(),
    })?;
    let path = below(&rendered).ok_or_else(|| BadOption::Malformed {
        key: "file-path".to_owned(),
        value: rendered.clone(),
        allowed: "a path below the log directory, without `..`, that does not end as a rotated \
                  file's does (`.1`, `.1.gz`)"
            .into(),
    })?;
    Ok(FileTarget {
        path,
        format: spec.format,
        max_size: spec.max_size,
        max_files: spec.max_files,
        mode: spec.mode,
        uid: spec.uid,
        gid: spec.gid,
        attributes: None,
    })
}

/// `text` as a path of names only, if it is one that cannot be taken for a rotated file.
fn below(text: &str) -> Option<PathBuf> {
    const LONGEST_NAME: usize = 240;
    let text = text.strip_prefix('/').unwrap_or(text);
    let path = Path::new(text);
    let good = |part: Component<'_>| match part {
        Component::Normal(name) => name.len() <= LONGEST_NAME,
        _ => false,
    };
    let name = path.file_name()?.to_str()?;
    let number = name.strip_suffix(".gz").unwrap_or(name).rsplit_once('.');
    let rotated = number
        .is_some_and(|(_, end)| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit()));
    let whole = path.components().all(good) && !text.ends_with('/') && !text.contains('\0');
    (whole && !rotated).then(|| path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_log_directory() {
        for (text, path) in [
            ("web/web.log", "web/web.log"),
            ("/web.log", "web.log"),
            ("a//b/./c", "a/b/c"),
            ("v1.2/log.1x", "v1.2/log.1x"),
        ] {
            assert_eq!(below(text), Some(PathBuf::from(path)), "{text}");
        }
        let long = "a".repeat(241);
        for text in ["", "/", "..", "../a", "a/../b", "a/", "//a", "a.1", "a.23.gz", &long, "a\0"] {
            assert_eq!(below(text), None, "{text}");
        }
    }
}
