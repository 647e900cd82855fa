//! Names as Docker gives them, parsed once. dockerd checks none of them for a plugin, so `../x`,
//! the empty name of a retried request and anything else arrives here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a volume, in bytes.
const LONGEST: usize = 128;

/// Longest mount id taken; Docker's have 64.
const LONGEST_ID: usize = 256;

/// A volume's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}`, so always a file name and never hidden.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

/// A name that no volume can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was said.
    #[error("the request names no volume")]
    Empty,
    /// The name of a snapshot.
    #[error("`{0}`: snapshots (VOLUME@SNAPSHOT) are not built yet")]
    Snapshot(String),
    /// Another character, or too many.
    #[error(
        "`{0}` is no volume name: allowed are 1 to 128 letters, digits, `_`, `.` and `-`, \
         the first a letter or digit"
    )]
    Malformed(String),
    /// Not what Docker sends as id.
    #[error("the request has no usable mount id")]
    MountId,
}

impl VolumeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_plain(text) {
            return Ok(Self(text.to_owned()));
        }
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        match text.split_once('@') {
            Some((volume, _)) if is_plain(volume) => Err(NameError::Snapshot(shown(text))),
            _ => Err(NameError::Malformed(shown(text))),
        }
    }
}

impl TryFrom<String> for VolumeName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_plain(text: &str) -> bool {
    let first = text.bytes().next();
    text.len() <= LONGEST
        && first.is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The beginning of what came, printable, for a message.
fn shown(text: &str) -> String {
    text.escape_debug().take(LONGEST).collect()
}

/// The id of a Mount, which its Unmount repeats. Docker uses one id several times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MountId(String);

impl fmt::Display for MountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MountId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let usable =
            (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if usable { Ok(Self(text.to_owned())) } else { Err(NameError::MountId) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_name_is_told_apart() {
        let error = |text: &str| text.parse::<VolumeName>().unwrap_err();
        assert_eq!(error(""), NameError::Empty);
        assert!(matches!(error("appdb@nightly"), NameError::Snapshot(_)));
        for text in
            ["..", ".hidden", "a/b", "../x", "@s", "a b", "é", "-a", "a\0", &"x".repeat(129)]
        {
            assert!(matches!(error(text), NameError::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn an_id_is_what_docker_sends() {
        assert!("".parse::<MountId>().is_err());
        assert!("a b".parse::<MountId>().is_err());
        assert!("0f".repeat(32).parse::<MountId>().is_ok());
    }

    proptest! {
        #[test]
        fn a_name_is_one_visible_path_component(text in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}") {
            let name: VolumeName = text.parse().unwrap();
            prop_assert_eq!(name.as_str(), &text);
            let path = std::path::Path::new("/x").join(&text);
            prop_assert_eq!(path.parent(), Some(std::path::Path::new("/x")));
            prop_assert_eq!(path.components().count(), 3);
        }

        #[test]
        fn nothing_else_is_taken_and_nothing_panics(text in "\\PC{0,200}") {
            if let Ok(name) = text.parse::<VolumeName>() {
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)));
            }
        }
    }
}
