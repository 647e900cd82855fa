//! What copying files goes by: until when it may take, whether somebody still wants it, and how far it is.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// How far a copy is, for those who wait for it.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

/// See the module. Clones go by the same.
#[derive(Debug, Clone)]
pub struct Pace {
    deadline: Option<Instant>,
    progress: Arc<Progress>,
}

/// Nobody wants it any more.
#[derive(Debug, thiserror::Error)]
#[error("it was cancelled")]
struct Cancelled;

impl Progress {
    /// Bytes that are copied; of what has to be begun anew only the present try's.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes that there are to copy; none while that is not known.
    pub fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0)
    }

    /// There is so much to copy.
    pub fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Nothing is copied, again.
    pub fn begin_anew(&self) {
        self.done.store(0, Ordering::Relaxed);
    }

    /// Nobody wants it any more: it ends at its next step.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether that was said.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Pace {
    /// To be done at `deadline`, with nobody who looks at how far it is.
    pub fn until(deadline: Instant) -> Self {
        Self { deadline: Some(deadline), progress: Arc::default() }
    }

    /// As long as it takes, or until `deadline`, with those who look at `progress`.
    pub fn shown(progress: Arc<Progress>, deadline: Option<Instant>) -> Self {
        Self { deadline, progress }
    }

    /// The same, to be done at `deadline` too.
    #[must_use]
    pub fn by(&self, deadline: Instant) -> Self {
        let earlier = self.deadline.map_or(deadline, |before| before.min(deadline));
        Self { deadline: Some(earlier), ..self.clone() }
    }

    /// When it has to be done, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether to go on: `TimedOut` once the time is over, another error where it was cancelled.
    pub fn go_on(&self) -> io::Result<()> {
        if self.progress.is_cancelled() {
            return Err(io::Error::other(Cancelled));
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// So many bytes more are copied.
    pub fn copied(&self, bytes: u64) {
        self.progress.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_and_cancelling_are_told_apart() {
        let progress = Arc::new(Progress::default());
        let pace = Pace::shown(Arc::clone(&progress), None);
        pace.go_on().unwrap();
        let late = pace.by(Instant::now());
        assert_eq!(late.go_on().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(late.by(Instant::now() + Duration::from_mins(1)).deadline(), late.deadline());
        progress.cancel();
        for pace in [&pace, &late] {
            let error = pace.go_on().unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (ErrorKind::Other, "it was cancelled".into())
            );
        }
    }

    #[test]
    fn what_is_copied_is_counted_for_all_who_look() {
        let progress = Arc::new(Progress::default());
        let pace = Pace::shown(Arc::clone(&progress), None);
        assert_eq!(progress.total(), None);
        progress.expect(7);
        pace.copied(3);
        pace.by(Instant::now()).copied(1);
        assert_eq!((progress.done(), progress.total()), (4, Some(7)));
        progress.begin_anew();
        assert_eq!(pace.progress().done(), 0);
    }
}
