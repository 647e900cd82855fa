//! How much of a log is kept, as the options say it.

use std::time::Duration;

use crate::options::{LogSpec, SyncPolicy};

/// Largest segment whatever `max-size` says: the tail of a log is found by walking its last
/// segment, and what is kept is dropped a segment at a time.
const LARGEST: u64 = 64 << 20;

/// By how much a segment may outgrow the size at which it is ended: the frame that was being
/// written, of dockerd's 16 KiB and what it says about them.
const LAST_FRAME: u64 = 17 << 10;

/// In how many segments at least the lines of `max-age` are: what is kept longer is a part of it.
const TURNS: u32 = 4;

/// How much of a container's log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A segment of this size is followed by the next.
    pub segment: u64,
    /// What it has grown to by then at most, as far as room for the oldest is concerned.
    pub full: u64,
    /// All segments together; the oldest go so that this holds when the newest is full.
    pub total: u64,
    /// A segment that was begun so long ago is followed by the next, so that it can be removed
    /// for its age.
    pub turn: Option<Duration>,
    /// When what was stored is brought to the disk.
    pub sync: SyncPolicy,
}

impl From<&LogSpec> for Limits {
    fn from(spec: &LogSpec) -> Self {
        let full = spec.max_size.min(LARGEST);
        Self {
            // Of tiny segments only a part is left for it: that of a line.
            segment: full - LAST_FRAME.min(full / 8),
            full,
            total: spec.max_size.saturating_mul(spec.max_file.into()),
            turn: spec.max_age.map(|age| age / TURNS),
            sync: spec.sync,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_options_product() {
        let limits = |max_size, max_file| {
            Limits::from(&LogSpec { max_size, max_file, ..LogSpec::default() })
        };
        let expected = |segment, full, total| Limits {
            segment,
            full,
            total,
            turn: None,
            sync: SyncPolicy::Interval,
        };
        assert_eq!(limits(1, 3), expected(1, 1, 3));
        assert_eq!(limits(80, 3), expected(70, 80, 240));
        let (segment, full) = (LARGEST - LAST_FRAME, LARGEST);
        assert_eq!(limits(1 << 30, 2), expected(segment, full, 2 << 30));
        assert_eq!(limits(u64::MAX, 5), expected(segment, full, u64::MAX));
        let aged = LogSpec { max_age: Some(Duration::from_secs(40)), ..LogSpec::default() };
        assert_eq!(Limits::from(&aged).turn, Some(Duration::from_secs(10)));
    }
}
