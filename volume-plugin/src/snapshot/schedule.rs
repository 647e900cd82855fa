//! When scheduled snapshots are taken: a cron expression of five fields, as crontab(5) has them, with
//! the time zone in front as cron itself takes it: `TZ=Europe/Berlin 30 3 * * *`. Without one it is UTC,
//! since a container knows nothing of the host's.

use std::fmt;
use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A schedule, with the words that it was given in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule {
    text: String,
    cron: Box<Cron>,
    zone: TimeZone,
}

/// A value of `snapshot.schedule` that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not what cron reads.
    #[error(
        "allowed are the five fields of crontab (minute, hour, day of the month, month, day of the week) or \
         @hourly, @daily, @weekly, @monthly, @yearly, such as `0 3 * * *` or `TZ=Europe/Berlin @daily`"
    )]
    Pattern,
    /// No zone of this name.
    #[error("there is no time zone `{0}`; allowed are names such as Europe/Berlin")]
    Zone(String),
    /// February has no 30th.
    #[error("that never comes")]
    Never,
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        let (zone, pattern) = match text.strip_prefix("TZ=") {
            Some(rest) => {
                let (name, pattern) = rest.split_once(' ').unwrap_or((rest, ""));
                let zone = TimeZone::get(name).map_err(|_| ScheduleError::Zone(name.to_owned()))?;
                (zone, pattern.trim())
            }
            None => (TimeZone::UTC, text),
        };
        // A day field that begins with a star restricts nothing by itself: cron wants both then, else one of them.
        let both = [2, 4].iter().any(|&field| {
            pattern.split_whitespace().nth(field).is_some_and(|field| field.starts_with('*'))
        });
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .dom_and_dow(both)
            .build();
        // The library's words are about more than is allowed here.
        let cron = parser.parse(pattern).map_err(|_| ScheduleError::Pattern)?;
        let schedule = Self { text: text.to_owned(), cron: Box::new(cron), zone };
        schedule.next(Timestamp::UNIX_EPOCH).ok_or(ScheduleError::Never)?;
        Ok(schedule)
    }
}

/// By the words.
impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Schedule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, ScheduleError> {
        text.parse()
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.text
    }
}

impl Schedule {
    /// The first time after `moment`; none when there is none within the years that are known.
    pub fn next(&self, moment: Timestamp) -> Option<Timestamp> {
        let from = moment.to_zoned(self.zone.clone());
        Some(self.cron.find_next_occurrence(&from, false).ok()?.timestamp())
    }

    /// The zone that its hours and days are of.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, moment: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        schedule.next(moment.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_after_the_moment() {
        assert_eq!(next("0 3 * * *", "2026-11-27T03:00:00Z"), "2026-11-28T03:00:00Z");
        assert_eq!(next("0 3 * * *", "2026-11-27T02:59:59.5Z"), "2026-11-27T03:00:00Z");
        assert_eq!(next("*/15 * * * 1-5", "2026-11-27T23:50:00Z"), "2026-11-30T00:00:00Z");
        assert_eq!(next("@hourly", "2026-11-27T23:50:00Z"), "2026-11-28T00:00:00Z");
    }

    #[test]
    fn days_are_those_of_either_field_unless_one_begins_with_a_star() {
        let after = |schedule| next(schedule, "2026-11-01T12:00:00Z");
        // A Monday and an odd day, as cron has it.
        assert_eq!(after("0 0 */2 * 1"), "2026-11-09T00:00:00Z");
        assert_eq!(after("0 0 9-12 * */2"), "2026-11-10T00:00:00Z");
        assert_eq!(after("0 0 * * 1"), "2026-11-02T00:00:00Z");
        assert_eq!(after("0 0 9 * *"), "2026-11-09T00:00:00Z");
        assert_eq!(after("0 0 9 * 1"), "2026-11-02T00:00:00Z");
    }

    #[test]
    fn a_zone_has_its_own_clock() {
        let berlin = "TZ=Europe/Berlin 30 3 * * *";
        assert_eq!(next(berlin, "2026-11-27T00:00:00Z"), "2026-11-27T02:30:00Z");
        assert_eq!(next(berlin, "2026-07-27T00:00:00Z"), "2026-07-27T01:30:00Z");
        // A night without half past two: it is done all the same.
        let gap = next("TZ=Europe/Berlin 30 2 * * *", "2026-03-28T12:00:00Z");
        assert_eq!(gap, "2026-03-29T01:00:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_what_is_allowed() {
        for text in ["", "* * * *", "* * * * * *", "60 * * * *", "0 3 * * * 2027", "@often"] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains("0 3 * * *"), "{text}: {error}");
        }
        let error = "TZ=Europe/Paris2 0 3 * * *".parse::<Schedule>().unwrap_err();
        assert_eq!(error, ScheduleError::Zone("Europe/Paris2".to_owned()));
        assert_eq!("0 0 30 2 *".parse::<Schedule>().unwrap_err(), ScheduleError::Never);
    }

    #[test]
    fn is_stored_in_its_own_words() {
        let schedule: Schedule = "TZ=Europe/Berlin  0 3 * * *".parse().unwrap();
        let json = serde_json::to_string(&schedule).unwrap();
        assert_eq!(json, r#""TZ=Europe/Berlin  0 3 * * *""#);
        assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
        assert!(serde_json::from_str::<Schedule>(r#""x""#).is_err());
    }
}
