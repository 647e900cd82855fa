//! Entries as syslog messages, laid out as Docker's driver does it; the time is that of the line.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::frame::LogEntry;
use crate::options::SyslogFormat;

/// Severities that Docker's driver knows.
const ERROR: u8 = 3;
const INFO: u8 = 6;

/// Most characters that RFC 5424 allows of each.
const HOST: usize = 255;
const APP_NAME: usize = 48;
const MSGID: usize = 32;

/// Who sends, and how.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) format: SyslogFormat,
    pub(super) facility: u8,
    pub(super) host: &'a str,
    pub(super) tag: &'a str,
    pub(super) pid: u32,
    /// An element of structured data, for the formats that have them.
    pub(super) structured: Option<&'a str>,
    /// In which RFC 3164 tells the time.
    pub(super) zone: TimeZone,
}

/// What all messages of a container have in common.
#[derive(Debug)]
pub(super) struct Layout {
    format: SyslogFormat,
    zone: TimeZone,
    /// All before the time, of what stdout says and of what stderr says.
    info: String,
    error: String,
    /// All between the time and the line.
    middle: String,
    /// The last second that was told: many lines have it, and telling it is most of the work.
    second: Second,
}

#[derive(Debug)]
struct Second {
    since_1970: i64,
    /// Up to the second, and what comes after fractions of it.
    text: String,
    offset: String,
}

impl Layout {
    pub(super) fn new(facts: Facts<'_>) -> Self {
        let Facts { format, facility, host, tag, pid, structured, zone } = facts;
        // A newline, from a label that an image brings, would begin another message.
        let tag: String = tag.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
        let middle = match format {
            SyslogFormat::Local => format!(" {tag}[{pid}]: "),
            SyslogFormat::Rfc3164 => format!(" {host} {tag}[{pid}]: "),
            SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro => {
                let (host, app, msgid) =
                    (field(host, HOST), field(&tag, APP_NAME), field(&tag, MSGID));
                format!(" {host} {app} {pid} {msgid} {} ", structured.unwrap_or("-"))
            }
        };
        let version = if is_5424(format) { "1 " } else { "" };
        let head = |severity: u8| format!("<{}>{version}", facility * 8 + severity);
        let (info, error) = (head(INFO), head(ERROR));
        let second = Second::of(0, format, &zone);
        Self { format, zone, info, error, middle, second }
    }

    /// Appends the message for `entry` to `out`, with a newline at its end. An empty line has
    /// none, as with Docker.
    pub(super) fn message(&mut self, entry: &LogEntry, out: &mut Vec<u8>) {
        if entry.line.is_empty() {
            return;
        }
        let since_1970 = entry.time_nano.div_euclid(1_000_000_000);
        if since_1970 != self.second.since_1970 {
            self.second = Second::of(since_1970, self.format, &self.zone);
        }
        let head = if entry.source == "stderr" { &self.error } else { &self.info };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.second.text.as_bytes());
        if self.format == SyslogFormat::Rfc5424Micro {
            let microseconds = entry.time_nano.rem_euclid(1_000_000_000) / 1000;
            out.extend_from_slice(format!(".{microseconds:06}").as_bytes());
        }
        out.extend_from_slice(self.second.offset.as_bytes());
        out.extend_from_slice(self.middle.as_bytes());
        out.extend_from_slice(&entry.line);
        if !entry.line.ends_with(b"\n") {
            out.push(b'\n');
        }
    }
}

impl Second {
    fn of(since_1970: i64, format: SyslogFormat, zone: &TimeZone) -> Self {
        let time = Timestamp::from_second(since_1970).unwrap_or_default().to_zoned(zone.clone());
        if is_5424(format) {
            let text = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            Self { since_1970, text, offset: offset(&time) }
        } else {
            let text = time.strftime("%b %e %H:%M:%S").to_string();
            Self { since_1970, text, offset: String::new() }
        }
    }
}

fn is_5424(format: SyslogFormat) -> bool {
    matches!(format, SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro)
}

/// The offset from UTC as RFC 3339 writes it.
fn offset(time: &jiff::Zoned) -> String {
    let seconds = time.offset().seconds();
    if seconds == 0 {
        return "Z".to_owned();
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// `text` as a field of RFC 5424: printable ASCII without a space, so long at most, `-` for none.
fn field(text: &str, longest: usize) -> String {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let field: String = text.chars().take(longest).map(printable).collect();
    if field.is_empty() { "-".to_owned() } else { field }
}

/// Appends `message` to a stream by octet counting.
pub(super) fn frame(message: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{} ", message.len()).as_bytes());
    out.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::line;

    fn message(format: SyslogFormat, zone: TimeZone, entry: &LogEntry) -> String {
        with(format, zone, None, entry)
    }

    fn with(
        format: SyslogFormat,
        zone: TimeZone,
        structured: Option<&str>,
        entry: &LogEntry,
    ) -> String {
        let (host, tag) = ("box", "0123456789ab");
        let facts = Facts { format, facility: 3, host, tag, pid: 7, structured, zone };
        let (mut layout, mut out) = (Layout::new(facts), Vec::new());
        layout.message(entry, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn layouts_are_docker_s() {
        let entry = line(1_795_354_221_000_002_999, "hello");
        let utc = |format| message(format, TimeZone::UTC, &entry);
        assert_eq!(utc(SyslogFormat::Local), "<30>Nov 22 13:30:21 0123456789ab[7]: hello\n");
        assert_eq!(utc(SyslogFormat::Rfc3164), "<30>Nov 22 13:30:21 box 0123456789ab[7]: hello\n");
        assert_eq!(
            utc(SyslogFormat::Rfc5424),
            "<30>1 2026-11-22T13:30:21Z box 0123456789ab 7 0123456789ab - hello\n"
        );
        assert_eq!(
            utc(SyslogFormat::Rfc5424Micro),
            "<30>1 2026-11-22T13:30:21.000002Z box 0123456789ab 7 0123456789ab - hello\n"
        );
    }

    #[test]
    fn structured_data_is_there_in_rfc_5424() {
        let told =
            |format, structured| with(format, TimeZone::UTC, structured, &line(1_500_000_000, "x"));
        let element = Some("[a@1 b=\"c\"]");
        assert_eq!(
            told(SyslogFormat::Rfc5424Micro, element),
            "<30>1 1970-01-01T00:00:01.500000Z box 0123456789ab 7 0123456789ab [a@1 b=\"c\"] x\n"
        );
        for format in [SyslogFormat::Local, SyslogFormat::Rfc3164] {
            assert_eq!(told(format, element), told(format, None));
        }
    }

    /// Also where clocks are put back, and before 1970.
    #[test]
    fn each_line_has_its_own_time() {
        let (host, tag, zone) = ("box", "t", TimeZone::UTC);
        let format = SyslogFormat::Rfc5424Micro;
        let facts = Facts { format, facility: 3, host, tag, pid: 7, structured: None, zone };
        let (mut layout, mut out) = (Layout::new(facts), Vec::new());
        for time in [1_999_999_999, 2_000_000_000, 1_000_001_000, -1_000, 0] {
            layout.message(&line(time, "x"), &mut out);
        }
        let text = String::from_utf8(out).unwrap();
        let times: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(
            times,
            [
                "1970-01-01T00:00:01.999999Z",
                "1970-01-01T00:00:02.000000Z",
                "1970-01-01T00:00:01.000001Z",
                "1969-12-31T23:59:59.999999Z",
                "1970-01-01T00:00:00.000000Z"
            ]
        );
    }

    #[test]
    fn stderr_is_an_error_and_zones_are_told() {
        let zone =
            TimeZone::fixed(jiff::tz::offset(-3).saturating_sub(jiff::Span::new().minutes(30)));
        let entry = LogEntry { source: "stderr".to_owned(), ..line(1_000_000_000, "x") };
        assert_eq!(
            message(SyslogFormat::Rfc5424, zone.clone(), &entry),
            "<27>1 1969-12-31T20:30:01-03:30 box 0123456789ab 7 0123456789ab - x\n"
        );
        let day = message(SyslogFormat::Local, zone, &line(86_400_000_000_000 * 3, "x"));
        assert!(day.starts_with("<30>Jan  3 20:30:00 "), "{day}");
        assert_eq!(message(SyslogFormat::Local, TimeZone::UTC, &line(0, "")), "");
    }

    /// It may come from a label, and an image brings labels.
    #[test]
    fn a_tag_begins_no_message_of_its_own() {
        for format in [SyslogFormat::Local, SyslogFormat::Rfc3164, SyslogFormat::Rfc5424] {
            let (host, tag, zone) = ("box", "a\n<0>Nov 22 13:30:21 sshd[1]: root", TimeZone::UTC);
            let facts = Facts { format, facility: 3, host, tag, pid: 7, structured: None, zone };
            let mut out = Vec::new();
            Layout::new(facts).message(&line(0, "x"), &mut out);
            assert_eq!(String::from_utf8(out).unwrap().lines().count(), 1, "{format:?}");
        }
    }

    #[test]
    fn fields_keep_within_their_limits() {
        assert_eq!(field("", 48), "-");
        assert_eq!(field("a b\u{e9}\u{7}c", 48), "a_b__c");
        assert_eq!(field(&"x".repeat(99), 48).len(), 48);
    }

    #[test]
    fn the_length_counts_the_newline() {
        let mut out = Vec::new();
        frame(b"abc\n", &mut out);
        frame(b"d\n", &mut out);
        assert_eq!(out, b"4 abc\n2 d\n");
    }
}
