//! Values of options in Docker's syntax.

use std::path::PathBuf;
use std::time::Duration;

use super::Fault;

/// What templates are, in words.
pub(super) const A_TEMPLATE: &str = "a template such as `{{.Name}}/{{.ID}}`, as Docker's drivers take it: of \
    .ID, .FullID, .Name, .Command, .ImageID, .ImageFullID, .ImageName, .Hostname, .DaemonName and the \
    container's own fields";

/// What [`size`] takes.
pub(crate) const A_SIZE: &str = "a size such as 500k, 10m or 1g";

/// How many files there may be at most.
pub(super) fn count(text: &str) -> Option<u32> {
    // Go's Atoi takes a sign.
    text.parse().ok().filter(|&count| count > 0)
}

/// What Go's `strconv.ParseBool` takes.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A boolean that has to be one.
pub(super) fn truth(text: &str) -> Result<bool, Fault> {
    boolean(text).ok_or(Fault::Malformed("true or false"))
}

/// A path of the host.
pub(super) fn path(text: &str) -> Result<PathBuf, Fault> {
    let path = Some(PathBuf::from(text)).filter(|path| path.is_absolute());
    path.ok_or(Fault::Malformed("an absolute path of the host"))
}

/// What Go's `time.ParseDuration` takes, less signs and fractions: numbers with units.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit = match unit {
            "ns" => Duration::from_nanos(1),
            "us" | "µs" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return None,
        };
        sum = sum.checked_add(unit.checked_mul(number.parse().ok()?)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

/// What [`age`] takes.
pub(crate) const AN_AGE: &str = "a number above 0 with `s`, `m`, `h` or `d`, such as 12h or 7d";

/// A time for which something is kept.
pub(crate) fn age(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok().filter(|&number| number > 0)?;
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

/// A size as Docker's `units.RAMInBytes` reads it: a number, which may have a fraction, at most
/// one space, and a binary unit `b`, `k`, `m`, `g`, `t` or `p` in either case, which but for `b`
/// may be followed by `b` or `ib`.
pub(crate) fn size(text: &str) -> Option<u64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')? + 1;
    let (number, unit) = text.split_at(end);
    let number = number.strip_suffix(' ').unwrap_or(number);
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let unit = unit.to_ascii_lowercase();
    let mut letters = unit.chars();
    let shift = match (letters.next(), letters.as_str()) {
        (None, _) | (Some('b'), "") => 0,
        (Some(letter), "" | "b" | "ib") => 10 * ("kmgtp".find(letter)? + 1),
        _ => return None,
    };
    let scale = 1u64 << shift;
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(scale).filter(|&size| i64::try_from(size).is_ok()),
        Err(_) => scaled(number.parse().ok()?, scale),
    }
}

/// `number` times a power of two, cut to a whole number.
fn scaled(number: f64, scale: u64) -> Option<u64> {
    #[expect(clippy::cast_precision_loss, reason = "powers of two up to 2^50 are exact")]
    let size = number * scale as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "cut to a whole number on purpose, after a check of the range"
    )]
    let cut = size as u64;
    (0.0..9.2e18).contains(&size).then_some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        let seconds = |text| duration(text).map(|taken| taken.as_secs_f64());
        assert_eq!(seconds("90s"), Some(90.0));
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("250ms"), Some(0.25));
        assert_eq!(seconds("0s"), Some(0.0));
        for text in ["", "5", "s", "5x", "1h5", "-1s", "99999999999999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn ages_have_a_unit() {
        assert_eq!(age("90s"), Some(Duration::from_secs(90)));
        assert_eq!(age("2d"), Some(Duration::from_hours(48)));
        for text in ["", "7", "0d", "d", "1.5h", "-1d", "1w", "99999999999999999999d"] {
            assert_eq!(age(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_docker_s() {
        for (text, expected) in [
            ("32", 32),
            ("32b", 32),
            ("32 B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32 KiB", 32 << 10),
            ("10m", 10 << 20),
            ("1g", 1 << 30),
            ("2T", 2 << 40),
            ("1P", 1 << 50),
            ("32.5 kb", 33_280),
            (".5k", 512),
            ("1.", 1),
        ] {
            assert_eq!(size(text), Some(expected), "{text}");
        }
        for text in [
            "", "m", "10x", "10mbb", "10 mbib", "10bb", " 10", "10  k", "-1", "1e3", "0x10",
            "9999p",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
