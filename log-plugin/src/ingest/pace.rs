//! When to read a stream: at once while it is slow, in batches while it is busy.
//!
//! A reader that is as quick as its writer wakes for every few lines, and that costs more than
//! moving the bytes: a pause of two milliseconds between readiness and reading doubles what a
//! container can write. A line that comes alone must not wait for company.

use std::time::{Duration, Instant};

/// How long a busy stream may gather.
const PAUSE: Duration = Duration::from_millis(2);

/// Two turns closer together than this make a stream busy.
const CLOSE: Duration = Duration::from_millis(4);

/// Turns that follow closely before the first pause, so that a burst of a few lines is not held.
const PATIENCE: u32 = 4;

/// The rhythm of one stream.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    close_turns: u32,
}

impl Pace {
    /// The stream is ready at `now`: how long to wait before reading it.
    pub(super) fn before_turn(&mut self, now: Instant) -> Option<Duration> {
        let close = self.last.is_some_and(|last| now.duration_since(last) < CLOSE);
        self.close_turns = if close { self.close_turns.saturating_add(1) } else { 0 };
        (self.close_turns >= PATIENCE).then_some(PAUSE)
    }

    /// The stream was read until it was empty.
    pub(super) fn after_turn(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_streams_never_wait_and_busy_ones_do() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        for _ in 0..10 {
            assert_eq!(pace.before_turn(now), None);
            pace.after_turn(now);
            now += Duration::from_millis(10);
        }
        let paused = (0..10).filter(|_| {
            now += Duration::from_micros(50);
            let pause = pace.before_turn(now);
            now += pause.unwrap_or_default();
            pace.after_turn(now);
            pause.is_some()
        });
        assert_eq!(paused.count(), 6);
        now += Duration::from_secs(1);
        assert_eq!(pace.before_turn(now), None);
    }
}
