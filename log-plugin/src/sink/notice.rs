//! What a sink says in the stream itself about lines that it will never see.

use crate::frame::LogEntry;
use crate::journal::Dropped;

/// An entry that stands where lines are missing. Its time is that of the next entry, so that the
/// same is said again after a kill.
pub(super) fn of(dropped: Dropped, next: Option<&LogEntry>) -> LogEntry {
    let Dropped { lines, uncounted } = dropped;
    let count = match (lines, uncounted) {
        (0, _) => "lines are missing here, nobody counted how many".to_owned(),
        (1, false) => "1 line is missing here".to_owned(),
        (lines, false) => format!("{lines} lines are missing here"),
        (lines, true) => format!("{lines} lines and more are missing here"),
    };
    let line = format!(
        "pglog: {count}: they were removed by max-size and max-file before they could be delivered"
    );
    LogEntry {
        source: "stderr".to_owned(),
        time_nano: next.map_or(0, |entry| entry.time_nano),
        line: line.into_bytes(),
        ..LogEntry::default()
    }
}
