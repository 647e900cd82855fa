//! Names as Docker gives them, parsed once. dockerd checks none of them for a plugin, so `../x`,
//! the empty name of a retried request and anything else arrives here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a volume, in bytes.
const LONGEST: usize = 128;

/// Longest name of a snapshot, in bytes: with its volume's and what files add it is still a file name.
const LONGEST_SNAPSHOT: usize = 64;

/// Longest mount id taken; Docker's have 64.
const LONGEST_ID: usize = 256;

/// The name of a volume, `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}`, or of a snapshot, which is a volume too:
/// `VOLUME@SNAPSHOT`. Always a file name and never hidden.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

/// A name that no volume can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was said.
    #[error("the request names no volume")]
    Empty,
    /// Not the name of a snapshot, although it has the sign of one.
    #[error(
        "`{0}` is no name of a snapshot: allowed is VOLUME@SNAPSHOT, each of letters, digits, `_`, \
         `.` and `-`, the first a letter or digit, at most 128 and 64 of them"
    )]
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

    /// The volume: this one, or the one that this is a snapshot of.
    #[must_use]
    pub fn volume(&self) -> Self {
        Self(self.0.split_once('@').map_or(self.as_str(), |(volume, _)| volume).to_owned())
    }

    /// Which snapshot of [`VolumeName::volume`] it is, if it is one.
    pub fn snapshot(&self) -> Option<SnapshotName> {
        self.0.split_once('@').map(|(_, snapshot)| SnapshotName(snapshot.to_owned()))
    }

    /// The name of a snapshot of this volume.
    #[must_use]
    pub fn at(&self, snapshot: &SnapshotName) -> Self {
        Self(format!("{}@{snapshot}", self.volume()))
    }

    /// Whether it is one of those that Docker makes up for a volume that nobody named: 64
    /// hexadecimal digits.
    pub fn is_anonymous(&self) -> bool {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        self.0.len() == 64 && self.0.bytes().all(digit)
    }
}

impl FromStr for VolumeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        match text.split_once('@') {
            None if is_plain(text) => Ok(Self(text.to_owned())),
            Some((volume, snapshot)) if is_plain(volume) => {
                let snapshot: Result<SnapshotName, _> = snapshot.parse();
                snapshot
                    .map(|_| Self(text.to_owned()))
                    .map_err(|_| NameError::Snapshot(shown(text)))
            }
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

/// What a snapshot is called among those of its volume: `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

impl FromStr for SnapshotName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_plain(text) && text.len() <= LONGEST_SNAPSHOT {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Snapshot(shown(text)))
        }
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a volume's share is called in each pool, for as long as the volume lives, in the trash too:
/// like the volume that it was made for, with a number where a share of that name is still there. The
/// share of a snapshot, `SHARE@SNAPSHOT`, has that of its volume in its name: whatever happens to the
/// volume's name, trash included, its snapshots are its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShareName(String);

impl ShareName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names that a share of a volume, or of a snapshot, may have, the plainest first.
    pub fn candidates(name: &VolumeName) -> impl Iterator<Item = Self> + use<> {
        Self(name.0.clone()).numbered()
    }

    /// Likewise of the snapshot `name` of the volume with this share.
    pub fn snapshot_candidates(&self, name: &SnapshotName) -> impl Iterator<Item = Self> + use<> {
        Self(format!("{self}@{name}")).numbered()
    }

    /// The share of the volume that this is a snapshot's of, and which; `None` for a volume's.
    pub fn snapshot(&self) -> Option<(Self, SnapshotName)> {
        let (of, snapshot) = self.0.split_once('@')?;
        let name = snapshot.split_once('~').map_or(snapshot, |(name, _)| name);
        Some((Self(of.to_owned()), SnapshotName(name.to_owned())))
    }

    /// The share that a role of the volume with this one has for itself; `of` is 1 to 42 of a-z, 0-9, `_`,
    /// `-` and `.`. No volume and no snapshot has a share of this name.
    #[must_use]
    pub fn part(&self, of: &str) -> Self {
        Self(format!("{self}+{of}"))
    }

    fn numbered(self) -> impl Iterator<Item = Self> {
        (0..=u32::MAX).map(move |number| match number {
            0 => self.clone(),
            number => Self(format!("{self}~{number}")),
        })
    }
}

impl From<VolumeName> for ShareName {
    fn from(volume: VolumeName) -> Self {
        Self(volume.0)
    }
}

impl FromStr for ShareName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (volume, snapshot) = match text.split_once('@') {
            None => (text, None),
            Some((volume, snapshot)) => (volume, Some(snapshot)),
        };
        let plain: VolumeName = without_number(volume)?.parse()?;
        match snapshot {
            None => {}
            Some(_) if plain.snapshot().is_some() => {
                return Err(NameError::Snapshot(shown(text)));
            }
            Some(snapshot) => drop(without_number(snapshot)?.parse::<SnapshotName>()?),
        }
        Ok(Self(text.to_owned()))
    }
}

/// `name` without the number of a share, which is written in one way only, so that two names are never
/// one directory.
fn without_number(name: &str) -> Result<&str, NameError> {
    let Some((plain, number)) = name.split_once('~') else { return Ok(name) };
    match number.parse::<u32>() {
        Ok(parsed) if parsed > 0 && parsed.to_string() == number => Ok(plain),
        _ => Err(NameError::Malformed(shown(name))),
    }
}

impl TryFrom<String> for ShareName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ShareName> for String {
    fn from(share: ShareName) -> Self {
        share.0
    }
}

impl fmt::Display for ShareName {
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
        for text in
            ["appdb@", "appdb@-a", "appdb@a@b", "appdb@a~1", &format!("a@{}", "x".repeat(65))]
        {
            assert!(matches!(error(text), NameError::Snapshot(_)), "{text}");
        }
        for text in
            ["..", ".hidden", "a/b", "../x", "@s", "a b", "é", "-a", "a\0", &"x".repeat(129)]
        {
            assert!(matches!(error(text), NameError::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn a_snapshot_is_named_after_its_volume() {
        let name: VolumeName = "appdb@before-upgrade".parse().unwrap();
        assert_eq!(name.volume().as_str(), "appdb");
        assert_eq!(name.volume().at(&name.snapshot().unwrap()), name);
        assert_eq!(name.volume().snapshot(), None);
        let share: ShareName = "appdb~2".parse().unwrap();
        let snapshot = "s1".parse().unwrap();
        let spelt: Vec<_> = share.snapshot_candidates(&snapshot).take(2).collect();
        for (candidate, text) in spelt.iter().zip(["appdb~2@s1", "appdb~2@s1~1"]) {
            assert_eq!(candidate, &text.parse().unwrap());
            assert_eq!(candidate.snapshot(), Some((share.clone(), snapshot.clone())));
        }
        assert_eq!(share.snapshot(), None);
    }

    #[test]
    fn a_share_has_one_spelling() {
        let volume: VolumeName = "a.b-c".parse().unwrap();
        let first: Vec<_> = ShareName::candidates(&volume).take(3).collect();
        let spelt: Vec<_> = first.iter().map(ToString::to_string).collect();
        assert_eq!(spelt, ["a.b-c", "a.b-c~1", "a.b-c~2"]);
        for (share, text) in first.iter().zip(&spelt) {
            assert_eq!(&text.parse::<ShareName>().unwrap(), share);
        }
        for text in [
            "",
            "~1",
            "a~",
            "a~0",
            "a~01",
            "a~+1",
            "a~1~1",
            "a~4294967296",
            "../a~1",
            "a@",
            "a@s~0",
            "a@s@t",
            "a~0@s",
            "@s",
        ] {
            assert!(text.parse::<ShareName>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_docker_made_up_is_told_from_what_somebody_chose() {
        let anonymous = |text: &str| text.parse::<VolumeName>().unwrap().is_anonymous();
        assert!(anonymous(&"0f".repeat(32)));
        for text in [&"0F".repeat(32), &"0f".repeat(31), &"0g".repeat(32), "appdb"] {
            assert!(!anonymous(text), "{text}");
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
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-@".contains(&b)));
            }
        }
    }
}
