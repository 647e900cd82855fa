//! What was removed and can still be had back: how it is called on disk and by the user, and when
//! its time is over.
//!
//! A volume in the trash is its record under another name: `SHARE.SECONDS.trashed`, the second in
//! which it was removed. So removing and undeleting are one rename each, which needs no space and
//! is done or not done, whatever is killed meanwhile. No share is touched: it keeps its name,
//! and a new volume of the old name gets a share of another.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use super::catalog::Record;
use crate::name::{NameError, ShareName, VolumeName};

/// Ending of the record of a volume in the trash.
const KEPT: &str = ".trashed";

/// Ending of the record of a volume whose shares are being deleted.
const PURGING: &str = ".removing";

/// How long what was removed is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrashTime(Duration);

/// What a user is told of a bad [`TrashTime`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed are 0 and whole numbers with s, m, h or d, such as 24h, up to 3650d")]
pub struct TrashTimeError;

/// The longest [`TrashTime`]: ten years, far from any end of the calendar.
const LONGEST: Duration = Duration::from_hours(3650 * 24);

/// How long a process that finds something in the trash keeps it at least, unless all of
/// [`TrashTime`] is shorter.
const GRACE: Duration = Duration::from_hours(1);

impl TrashTime {
    /// Whether nothing is kept.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// When what was removed at `since` goes.
    pub fn end(self, since: Timestamp) -> Timestamp {
        since.saturating_add(self.0).unwrap_or(Timestamp::MAX)
    }

    /// How long from `now` on what was removed at `since` is still kept. The clock may be wrong
    /// now or have been wrong then: never less than [`GRACE`], nor more than all of it.
    pub fn left(self, since: Timestamp, now: Timestamp) -> Duration {
        let left = Duration::try_from(now.duration_until(self.end(since))).unwrap_or_default();
        left.clamp(self.0.min(GRACE), self.0)
    }
}

impl FromStr for TrashTime {
    type Err = TrashTimeError;

    fn from_str(text: &str) -> Result<Self, TrashTimeError> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let at = text.len().checked_sub(1).filter(|&at| text.is_char_boundary(at));
        let (number, unit) = text.split_at(at.ok_or(TrashTimeError)?);
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            _ => return Err(TrashTimeError),
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = number.parse().ok().filter(|_| digits).ok_or(TrashTimeError)?;
        let time = number.checked_mul(seconds).map(Duration::from_secs);
        time.filter(|time| *time <= LONGEST).map(Self).ok_or(TrashTimeError)
    }
}

/// How far a volume in the trash has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It can be had back.
    Kept {
        /// When it was removed.
        since: Timestamp,
    },
    /// Its shares are being deleted, which is not taken back.
    Purging,
}

/// A volume in the trash.
#[derive(Debug, Clone)]
pub struct Trashed {
    /// How far it has come.
    pub stage: Stage,
    /// Its record, or why that cannot be read: such a one is shown and never touched.
    pub record: Result<Record, String>,
}

impl Trashed {
    /// When it was removed; `None` once it is being deleted.
    pub fn since(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Kept { since } => Some(since),
            Stage::Purging => None,
        }
    }
}

/// The name of the file that has the record of `share` at `stage`.
pub(super) fn file_name(share: &ShareName, stage: Stage) -> String {
    match stage {
        Stage::Kept { since } => format!("{share}.{}{KEPT}", since.as_second()),
        Stage::Purging => format!("{share}{PURGING}"),
    }
}

/// What the name of a file says; `None` for one that is not of the trash.
pub(crate) fn parse_file_name(file: &str) -> Option<(ShareName, Stage)> {
    if let Some(share) = file.strip_suffix(PURGING) {
        return Some((share.parse().ok()?, Stage::Purging));
    }
    let (share, seconds) = file.strip_suffix(KEPT)?.rsplit_once('.')?;
    let since = Timestamp::from_second(seconds.parse().ok()?).ok()?;
    Some((share.parse().ok()?, Stage::Kept { since }))
}

/// How a user names something in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By the volume's name, of which there may be several.
    Name(VolumeName),
    /// By the id that the trash is listed with: its share's name, always with a number.
    Id(ShareName),
}

impl FromStr for Target {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(volume) = text.strip_suffix("~0") {
            return Ok(Self::Id(volume.parse::<VolumeName>()?.into()));
        }
        if text.contains('~') { text.parse().map(Self::Id) } else { text.parse().map(Self::Name) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(share) => f.write_str(&id(share)),
        }
    }
}

/// The id of `share`, which [`Target`] reads.
pub fn id(share: &ShareName) -> String {
    if share.as_str().contains('~') { share.to_string() } else { format!("{share}~0") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_or_refused() {
        let seconds = |text: &str| text.parse::<TrashTime>().map(|time| time.0.as_secs());
        for (text, expected) in
            [("0", 0), ("0h", 0), ("90s", 90), ("5m", 300), ("24h", 86400), ("7d", 604_800)]
        {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in
            ["", "h", "24", "-1h", "+1h", "1.5h", "1w", "3651d", "99999999999999999999d", "é"]
        {
            assert_eq!(seconds(text), Err(TrashTimeError), "{text}");
        }
    }

    #[test]
    fn a_clock_that_is_wrong_ends_no_time() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let left = |time: &str, since, now| {
            time.parse::<TrashTime>().unwrap().left(at(since), at(now)).as_secs()
        };
        let now = 1_795_000_000;
        assert_eq!(left("24h", now - 3600, now), 23 * 3600);
        // Removed while the clock was at its beginning, or looked at then.
        assert_eq!((left("24h", 0, now), left("24h", now, 0)), (3600, 24 * 3600));
        assert_eq!((left("5s", 0, now), left("0", now, now)), (5, 0));
    }

    #[test]
    fn one_of_several_has_an_id_of_its_own() {
        let target = |text: &str| text.parse::<Target>().unwrap();
        assert_eq!(target("v"), Target::Name("v".parse().unwrap()));
        assert_eq!(target("v~0"), Target::Id("v".parse().unwrap()));
        assert_eq!(target("v~2"), Target::Id("v~2".parse().unwrap()));
        assert_eq!(
            (target("v~0").to_string(), target("v~2").to_string()),
            ("v~0".into(), "v~2".into())
        );
        for text in ["", "~0", "v~", "v~00", "v~x", "../v~0", "v~0~0"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn other_files_are_none_of_the_trash() {
        for file in
            ["v.record", "v.trashed", "v.1x.trashed", ".1.trashed", "v~0.1.trashed", "v.tmp"]
        {
            assert_eq!(parse_file_name(file), None, "{file}");
        }
    }

    proptest! {
        #[test]
        fn a_file_name_is_read_as_it_was_written(
            name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", at in 0_usize..3, seconds in 0_i64..4_000_000_000,
        ) {
            let share = ShareName::candidates(&name.parse().unwrap()).nth(at).unwrap();
            let since = Timestamp::from_second(seconds).unwrap();
            for stage in [Stage::Kept { since }, Stage::Purging] {
                let file = file_name(&share, stage);
                prop_assert!(file.len() <= 255 - plugin_sdk::durable::TEMPORARY.len());
                prop_assert_eq!(parse_file_name(&file), Some((share.clone(), stage)));
            }
        }
    }
}
