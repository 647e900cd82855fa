//! Which scheduled snapshots are kept: so many of each period, as `hourly=24+daily=7` says.
//!
//! Of each hour, day, week, month and year that has a snapshot the last one stands for it, and as many
//! of the newest periods are kept as are asked for. One snapshot may stand for several periods. A
//! period without a snapshot does not count, so that a machine that was off for a month keeps what it
//! had. Nothing here knows of disks or records.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

/// A length of time that snapshots are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Period {
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

const PERIODS: [(Period, &str); 5] = [
    (Period::Hourly, "hourly"),
    (Period::Daily, "daily"),
    (Period::Weekly, "weekly"),
    (Period::Monthly, "monthly"),
    (Period::Yearly, "yearly"),
];

/// The most that can be kept of one period.
const MOST: usize = 1000;

/// How many are kept of each period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keep(Vec<(Period, usize)>);

/// A value of `snapshot.keep` that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "allowed are hourly, daily, weekly, monthly and yearly, each once with a number from 1 to 1000, \
     such as hourly=24+daily=7"
)]
pub struct KeepError;

impl FromStr for Keep {
    type Err = KeepError;

    fn from_str(text: &str) -> Result<Self, KeepError> {
        let mut keep: Vec<(Period, usize)> = Vec::new();
        for part in text.split(['+', ',']) {
            let (name, count) = part.trim().split_once('=').ok_or(KeepError)?;
            let (period, _) = *PERIODS.iter().find(|(_, known)| *known == name).ok_or(KeepError)?;
            // Digits alone: no sign, no blank.
            let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
            let count = count.parse().ok().filter(|n| digits && (1..=MOST).contains(n));
            if keep.iter().any(|(other, _)| *other == period) {
                return Err(KeepError);
            }
            keep.push((period, count.ok_or(KeepError)?));
        }
        keep.sort_unstable();
        Ok(Self(keep))
    }
}

/// In the order of the periods.
impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (period, count)) in self.0.iter().enumerate() {
            let name =
                PERIODS.iter().find(|(known, _)| known == period).map_or("", |(_, name)| name);
            write!(f, "{}{name}={count}", if number > 0 { "+" } else { "" })?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Keep {
    type Error = KeepError;

    fn try_from(text: String) -> Result<Self, KeepError> {
        text.parse()
    }
}

impl From<Keep> for String {
    fn from(keep: Keep) -> Self {
        keep.to_string()
    }
}

impl Keep {
    /// Which of the snapshots taken at `times` are not kept, days and the like being those of `zone`.
    pub fn expired(&self, zone: &TimeZone, times: &[Timestamp]) -> BTreeSet<Timestamp> {
        let newest_first: BTreeSet<_> = times.iter().copied().collect();
        let mut expired = newest_first.clone();
        for (period, count) in &self.0 {
            let mut last = None;
            let mut kept = 0;
            for time in newest_first.iter().rev() {
                let of = Some(period.of(&time.to_zoned(zone.clone())));
                if of == last {
                    continue;
                }
                last = of;
                kept += 1;
                if kept > *count {
                    break;
                }
                expired.remove(time);
            }
        }
        expired
    }
}

impl Period {
    /// Which one of its kind `time` is in.
    fn of(self, time: &Zoned) -> (i64, i64) {
        let (date, offset) = (time.date(), i64::from(time.offset().seconds()));
        let year = i64::from(date.year());
        match self {
            // With the offset: in autumn an hour of the clock comes twice.
            Self::Hourly => ((time.timestamp().as_second() + offset).div_euclid(3600), offset),
            Self::Daily => (year, i64::from(date.day_of_year())),
            Self::Weekly => {
                let week = date.iso_week_date();
                (i64::from(week.year()), i64::from(week.week()))
            }
            Self::Monthly => (year, i64::from(date.month())),
            Self::Yearly => (year, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// What is kept of snapshots that were taken every `hours`, `count` times up to a Friday noon.
    fn kept(keep: &str, zone: &TimeZone, hours: i64, count: i64) -> Vec<String> {
        let end = at("2026-11-27T12:00:00Z").as_second();
        let times: Vec<_> =
            (0..count).map(|n| Timestamp::from_second(end - n * hours * 3600).unwrap()).collect();
        let expired = keep.parse::<Keep>().unwrap().expired(zone, &times);
        let kept = times.iter().rev().filter(|time| !expired.contains(time));
        kept.map(|time| time.strftime("%m-%dT%H").to_string()).collect()
    }

    #[test]
    fn reads_and_writes_what_is_kept() {
        for (text, same) in [
            ("hourly=24+daily=7", "hourly=24+daily=7"),
            ("weekly=4,daily=7", "daily=7+weekly=4"),
            ("yearly=1000", "yearly=1000"),
        ] {
            assert_eq!(text.parse::<Keep>().unwrap().to_string(), same);
        }
        let bad =
            "|hourly|hourly=|hourly=0|hourly=+1|hourly=1001|minutely=2|daily=1+daily=2|daily=1+";
        for text in bad.split('|') {
            assert_eq!(text.parse::<Keep>(), Err(KeepError), "{text}");
        }
    }

    #[test]
    fn the_last_of_each_period_stands_for_it() {
        let utc = TimeZone::UTC;
        assert_eq!(kept("hourly=3", &utc, 1, 100), ["11-27T10", "11-27T11", "11-27T12"]);
        assert_eq!(kept("daily=3", &utc, 1, 100), ["11-25T23", "11-26T23", "11-27T12"]);
        // Weeks end on Sundays.
        assert_eq!(kept("weekly=2", &utc, 6, 100), ["11-22T18", "11-27T12"]);
        assert_eq!(kept("monthly=2", &utc, 24, 100), ["10-31T12", "11-27T12"]);
        let both = kept("hourly=2+daily=3", &utc, 1, 100);
        assert_eq!(both, ["11-25T23", "11-26T23", "11-27T11", "11-27T12"]);
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let east = TimeZone::get("Asia/Tokyo").unwrap();
        assert_eq!(kept("daily=2", &east, 1, 100), ["11-26T14", "11-27T12"]);
    }

    #[test]
    fn periods_without_a_snapshot_do_not_count() {
        let times = [at("2024-03-01T00:00:00Z"), at("2026-11-01T00:00:00Z")];
        assert!("daily=2".parse::<Keep>().unwrap().expired(&TimeZone::UTC, &times).is_empty());
    }

    #[test]
    fn an_hour_that_comes_twice_is_two() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let times = [at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z")];
        assert!("hourly=2".parse::<Keep>().unwrap().expired(&zone, &times).is_empty());
    }

    proptest! {
        /// The newest is kept, no more than asked for is, and deciding again changes nothing.
        #[test]
        fn never_more_and_never_without_the_newest(
            seconds in proptest::collection::vec(1_700_000_000_i64..1_800_000_000, 1..200),
            hourly in 1_usize..30,
            weekly in 1_usize..10,
        ) {
            let times: Vec<_> =
                seconds.iter().map(|second| Timestamp::from_second(*second).unwrap()).collect();
            let keep: Keep = format!("hourly={hourly}+weekly={weekly}").parse().unwrap();
            let expired = keep.expired(&TimeZone::UTC, &times);
            let kept: BTreeSet<_> = times.iter().copied().filter(|t| !expired.contains(t)).collect();
            prop_assert!(kept.contains(times.iter().max().unwrap()));
            prop_assert!(kept.len() <= hourly + weekly);
            let again: Vec<_> = kept.into_iter().collect();
            prop_assert!(keep.expired(&TimeZone::UTC, &again).is_empty());
        }
    }
}
