//! When a stream is read at once, and when in batches.
//!
//! A reader that is as quick as its writer wakes for every few lines, and that costs more than
//! moving the bytes: reading every two milliseconds instead doubles what a container can write.
//! But a line that comes alone must not wait for company.

use std::time::{Duration, Instant};

/// How long a busy stream may gather before it is read again.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// So many pauses without anything to read make a stream quiet again.
pub(super) const EMPTY_TURNS: u32 = 4;

/// Turns closer together than this make a stream busy,
const CLOSE: Duration = Duration::from_millis(4);

/// if there are so many, so that a burst of a few lines is not held up.
const PATIENCE: u32 = 4;

/// The rhythm of a quiet stream.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    close_turns: u32,
}

impl Pace {
    /// The stream was read at `now`: whether it has become busy.
    pub(super) fn is_busy(&mut self, now: Instant) -> bool {
        let close = self.last.is_some_and(|last| now.duration_since(last) < CLOSE);
        self.close_turns = if close { self.close_turns + 1 } else { 0 };
        self.last = Some(now);
        self.close_turns >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy_after(every: Duration) -> Option<u32> {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        (0..1000).find(|_| {
            now += every;
            pace.is_busy(now)
        })
    }

    #[test]
    fn streams_are_busy_by_their_rhythm() {
        assert_eq!(busy_after(Duration::from_micros(10)), Some(PATIENCE));
        assert_eq!(busy_after(Duration::from_millis(3)), Some(PATIENCE));
        assert_eq!(busy_after(Duration::from_millis(5)), None);
    }
}
