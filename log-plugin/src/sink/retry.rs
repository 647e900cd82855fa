//! How long a sink that failed waits before it tries again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first wait is at most this long,
const FIRST: Duration = Duration::from_millis(500);

/// and each further one twice as long, up to this.
const LONGEST: Duration = Duration::from_secs(30);

/// The waits of one sink. Random, so that many sinks do not knock at one door at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It has failed again: how long to wait.
    pub(super) fn next(&mut self) -> Duration {
        let limit = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        // A new hasher's keys are random: enough for a delay.
        let share = RandomState::new().hash_one(self.failures) % 512;
        limit / 2 + limit / 1024 * u32::try_from(share).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits[39] >= LONGEST / 2 && waits[39] <= LONGEST);
        assert!(waits[20..].windows(2).any(|pair| pair[0] != pair[1]));
    }
}
