//! What a sink says in the stream itself about lines that it will never see.

use crate::frame::LogEntry;
use crate::journal::Dropped;

/// An entry that stands where lines are missing. Its time is that of the next entry, so that the
/// same is said again after a kill.
pub(super) fn of(dropped: Dropped, next: Option<&LogEntry>) -> LogEntry {
    let count = match dropped {
        Dropped { lines: 0, doubtful: 0, .. } => {
            "lines are missing here, nobody counted how many".to_owned()
        }
        Dropped { lines: 1, doubtful: 0, uncounted: false } => "1 line is missing here".to_owned(),
        Dropped { lines, doubtful, uncounted } => {
            let lines = match (lines, doubtful) {
                (lines, 0) => lines.to_string(),
                (0, doubtful) => format!("up to {doubtful}"),
                (lines, doubtful) => format!("{lines} to {}", lines + doubtful),
            };
            let more = if uncounted { " and more" } else { "" };
            format!("{lines} lines{more} are missing here")
        }
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
