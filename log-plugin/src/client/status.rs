//! `docker pglog status`.

use plugin_sdk::cli::{Failure, Nothing, Session, text};

use super::container::short;
use crate::api::answers::{self, Dropped, Sink};

/// Takes nothing.
#[derive(Debug, clap::Args)]
pub struct Status {}

impl Status {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self {} = self;
        session.show(session.call("/Pglog.Status", &Nothing {})?, render)
    }
}

fn render(status: answers::Status) -> String {
    let formats = status.formats.iter().map(|(kind, version)| (kind, version.to_string()));
    let mut lines = vec![
        ("version", status.version),
        ("formats", text::pairs(formats)),
        ("settings", text::pairs(&status.settings)),
    ];
    lines.extend(status.settings_error.map(|error| ("settings error", error)));
    if let Some(error) = status.error {
        lines.push(("error", error));
        return text::fields(lines);
    }
    let Dropped { messages, bytes, removed, garbled } = status.dropped;
    let room = if removed > 0 {
        format!(", and {removed} stored before, to make room")
    } else {
        String::new()
    };
    lines.extend([
        ("streams", format!("{} open", status.streams)),
        ("stored", format!("{} of {} containers", text::bytes(status.bytes), status.containers)),
        ("dropped", format!("{messages} messages, {}{room}", text::bytes(bytes))),
    ]);
    if garbled > 0 {
        let garbled = text::bytes(garbled);
        lines.push(("garbled", format!("{garbled} of streams were no part of a message")));
    }
    if !status.non_blocking.is_empty() {
        let names = status.non_blocking.join(" ");
        lines.push(("non-blocking", format!("{names} (dockerd itself drops lines of these)")));
    }
    let mut shown = text::fields(lines);
    if !status.sinks.is_empty() {
        shown.push('\n');
        shown.push_str(&sinks(status.sinks));
    }
    shown
}

fn sinks(sinks: Vec<Sink>) -> String {
    let row = |sink: Sink| {
        [
            if sink.name.is_empty() { short(&sink.container).to_owned() } else { sink.name },
            sink.sink,
            sink.target,
            text::bytes(sink.lag_bytes),
            sink.lines.to_string(),
            dropped(sink.dropped_lines, sink.dropped_doubtful, sink.dropped_uncounted),
            state(sink.error, &sink.ignored),
        ]
    };
    text::table(
        ["CONTAINER", "SINK", "TARGET", "LAG", "LINES", "DROPPED", "STATE"],
        sinks.into_iter().map(row),
    )
}

/// What is missing for sure, what at most, and whether there is more.
fn dropped(lines: u64, doubtful: u64, uncounted: bool) -> String {
    let most = if doubtful > 0 { format!("-{}", lines + doubtful) } else { String::new() };
    format!("{lines}{most}{}", if uncounted { "+" } else { "" })
}

fn state(error: Option<String>, ignored: &[String]) -> String {
    let state = error.unwrap_or_else(|| "ok".to_owned());
    if ignored.is_empty() {
        state
    } else {
        format!("{state} (without a meaning here: {})", ignored.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_shown() {
        let status = answers::Status {
            version: "1.0.0".to_owned(),
            formats: [("pglog-state".to_owned(), 1)].into(),
            settings: [("LOG_LEVEL".to_owned(), "info".to_owned())].into(),
            streams: 1,
            containers: 2,
            bytes: 3 << 20,
            dropped: Dropped { messages: 7, bytes: 70, removed: 3, garbled: 9 },
            sinks: vec![Sink {
                name: "app".to_owned(),
                sink: "file".to_owned(),
                target: "/var/log/pglog/app.log".to_owned(),
                lag_bytes: 1 << 20,
                lines: 5,
                dropped_lines: 2,
                dropped_doubtful: 3,
                dropped_uncounted: true,
                error: Some("no space".to_owned()),
                ..Sink::default()
            }],
            ..answers::Status::default()
        };
        assert_eq!(
            render(status),
            "version:    1.0.0\n\
             formats:    pglog-state=1\n\
             settings:   LOG_LEVEL=info\n\
             streams:    1 open\n\
             stored:     3.0 MiB of 2 containers\n\
             dropped:    7 messages, 70 B, and 3 stored before, to make room\n\
             garbled:    9 B of streams were no part of a message\n\
             \n\
             CONTAINER   SINK   TARGET                   LAG       LINES   DROPPED   STATE\n\
             app         file   /var/log/pglog/app.log   1.0 MiB   5       2-5+      no space\n"
        );
    }

    #[test]
    fn a_state_that_cannot_be_used_is_the_answer() {
        let error = Some("another pglog uses it".to_owned());
        let text = render(answers::Status { error, ..answers::Status::default() });
        assert!(text.contains("another pglog uses it") && !text.contains("stored"), "{text}");
    }
}
