//! Times as `docker logs` takes them: one of a clock, or how long ago.

use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// At this time.
    At(Timestamp),
    /// So long before now.
    Ago(SignedDuration),
}

impl Moment {
    /// The time that is meant at `now`.
    pub(super) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.checked_sub(duration).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

impl FromStr for Moment {
    type Err = &'static str;

    /// Without an offset it is this machine's own time, as `docker logs` has it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ago(text)
            .map(Self::Ago)
            .or_else(|| seconds(text).or_else(|| clock(text)).map(Self::At))
            .ok_or(
                "allowed are times such as 2026-11-22T12:00:00Z, 2026-11-22T12:00 or 2026-11-22, \
                 seconds since 1970, and how long ago, such as 1h30m",
            )
    }
}

fn clock(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let local: DateTime = text.parse().ok()?;
    Some(local.to_zoned(TimeZone::system()).ok()?.timestamp())
}

/// Seconds since 1970, maybe with a fraction.
fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(whole.parse().ok()?, nanoseconds).ok()
}

/// A duration in Go's notation: numbers, each with its unit.
fn ago(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut total = SignedDuration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let nanoseconds: u32 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" | "m" | "h" => 1_000_000_000,
            _ => return None,
        };
        let times = match unit {
            "m" => 60,
            "h" => 3600,
            _ => 1,
        };
        let count: f64 = digits.parse().ok()?;
        let seconds = count * f64::from(nanoseconds) / 1e9 * f64::from(times);
        total = total.checked_add(SignedDuration::try_from_secs_f64(seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        for (text, milliseconds) in
            [("10m", 600_000), ("1h30m", 5_400_000), ("1.5h", 5_400_000), ("300ms", 300), ("0s", 0)]
        {
            let duration = SignedDuration::from_millis(milliseconds);
            assert_eq!(text.parse(), Ok(Moment::Ago(duration)), "{text}");
        }
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let moment: Moment = "10m".parse().unwrap();
        assert_eq!(moment.before(now).to_string(), "2026-11-22T11:50:00Z");
    }

    #[test]
    fn times_have_an_offset_or_are_this_machine_s() {
        let at = |text: &str| match text.parse() {
            Ok(Moment::At(time)) => time,
            other => panic!("{text}: {other:?}"),
        };
        for text in ["2026-11-22T12:00:00Z", "2026-11-22T14:00:00.000+02:00", "1795348800"] {
            assert_eq!(at(text).as_second(), 1_795_348_800, "{text}");
        }
        assert_eq!(at("1795348800.5").as_millisecond(), 1_795_348_800_500);
        let noon = at("2026-11-22T12:00").to_zoned(TimeZone::system());
        assert_eq!((noon.hour(), noon.minute()), (12, 0));
        assert_eq!(at("2026-11-22").to_zoned(TimeZone::system()).hour(), 0);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "m", "10", "1d", "10m5", "yesterday", "2026-13-01", "1..5s", "-5m"] {
            let parsed = text.parse::<Moment>();
            assert!(parsed.is_err() || text == "10", "{text}: {parsed:?}");
        }
    }
}
