//! Entries as syslog messages, laid out as Docker's driver does it; the time is that of the line.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::frame::LogEntry;
use crate::options::{Framing, SyslogFormat};

/// Severities that Docker's driver knows.
const ERROR: u8 = 3;
const INFO: u8 = 6;

/// Most characters that RFC 5424 allows of each.
const HOST: usize = 255;
const APP_NAME: usize = 48;
const MSGID: usize = 32;

/// What all messages of a container have in common.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) format: SyslogFormat,
    pub(super) facility: u8,
    pub(super) host: String,
    pub(super) tag: String,
    pub(super) pid: u32,
    /// In which RFC 3164 tells the time.
    pub(super) zone: TimeZone,
}

impl Layout {
    /// Appends the message for `entry` to `out`, with a newline at its end. An empty line has
    /// none, as with Docker.
    pub(super) fn message(&self, entry: &LogEntry, out: &mut Vec<u8>) {
        if entry.line.is_empty() {
            return;
        }
        let severity = if entry.source == "stderr" { ERROR } else { INFO };
        let priority = self.facility * 8 + severity;
        let time = Timestamp::from_nanosecond(entry.time_nano.into()).unwrap_or_default();
        let zoned = time.to_zoned(self.zone.clone());
        let Self { host, tag, pid, .. } = self;
        let head = match self.format {
            SyslogFormat::Local => {
                format!("<{priority}>{} {tag}[{pid}]: ", zoned.strftime("%b %e %H:%M:%S"))
            }
            SyslogFormat::Rfc3164 => {
                format!("<{priority}>{} {host} {tag}[{pid}]: ", zoned.strftime("%b %e %H:%M:%S"))
            }
            SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro => {
                let micro = self.format == SyslogFormat::Rfc5424Micro;
                let format = if micro { "%Y-%m-%dT%H:%M:%S%.6f" } else { "%Y-%m-%dT%H:%M:%S" };
                let (host, app) = (field(host, HOST), field(tag, APP_NAME));
                let (time, msgid) = (zoned.strftime(format), field(tag, MSGID));
                let zone = offset(&zoned);
                format!("<{priority}>1 {time}{zone} {host} {app} {pid} {msgid} - ")
            }
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&entry.line);
        if !entry.line.ends_with(b"\n") {
            out.push(b'\n');
        }
    }
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

/// Appends `message` to a stream as `framing` has it.
pub(super) fn frame(framing: Framing, message: &[u8], out: &mut Vec<u8>) {
    if framing == Framing::OctetCounting {
        out.extend_from_slice(format!("{} ", message.len()).as_bytes());
    }
    out.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::line;

    fn message(format: SyslogFormat, zone: TimeZone, entry: &LogEntry) -> String {
        let (host, tag) = ("box".to_owned(), "0123456789ab".to_owned());
        let layout = Layout { format, facility: 3, host, tag, pid: 7, zone };
        let mut out = Vec::new();
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

    #[test]
    fn fields_keep_within_their_limits() {
        assert_eq!(field("", 48), "-");
        assert_eq!(field("a b\u{e9}\u{7}c", 48), "a_b__c");
        assert_eq!(field(&"x".repeat(99), 48).len(), 48);
    }

    #[test]
    fn the_length_counts_the_newline() {
        let mut out = Vec::new();
        frame(Framing::OctetCounting, b"abc\n", &mut out);
        frame(Framing::Lf, b"d\n", &mut out);
        assert_eq!(out, b"4 abc\nd\n");
    }
}
