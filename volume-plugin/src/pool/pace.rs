//! What copying files goes by: until when it may take, whether somebody still wants it, and how far it is.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// How far a copy is, for those who wait for it.
#[derive(Debug)]
pub struct Progress {
    done: AtomicU64,
    /// Of what may be written for one try, all and what is left.
    allowed: AtomicU64,
    room: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
    /// What it has a server keep meanwhile takes the room that this needs.
    crowds: AtomicBool,
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

/// A server needs the place of what is kept for it.
#[derive(Debug, thiserror::Error)]
#[error("the WAL that the server keeps for it leaves too little room for more")]
struct Crowds;

/// It would take more than there is for it.
#[derive(Debug, thiserror::Error)]
#[error("copying would leave less than a twentieth of the pool free")]
struct NoRoom;

impl Default for Progress {
    fn default() -> Self {
        Self {
            done: AtomicU64::new(0),
            allowed: AtomicU64::new(u64::MAX),
            room: AtomicU64::new(u64::MAX),
            total: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            crowds: AtomicBool::new(false),
        }
    }
}

impl Progress {
    /// Bytes that are copied; of what has to be begun anew only the present try's.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes that there are to copy; none while that is not known.
    pub fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0)
    }

    /// No more than so many bytes may be written for each try.
    pub fn allow(&self, room: u64) {
        self.allowed.store(room, Ordering::Relaxed);
        self.room.store(room, Ordering::Relaxed);
    }

    /// There is so much to copy.
    pub fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Nothing is copied, again.
    pub fn begin_anew(&self) {
        self.done.store(0, Ordering::Relaxed);
        self.room.store(self.allowed.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Nobody wants it any more: it ends at its next step.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// It has a server keep what there is no more room for: it ends at its next step.
    pub fn crowd(&self) {
        self.crowds.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
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
        if self.progress.crowds.load(Ordering::Relaxed) {
            return Err(io::Error::new(ErrorKind::StorageFull, Crowds));
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// So many bytes are about to be written; an error where that is more than what is left for it.
    pub fn write(&self, bytes: u64) -> io::Result<()> {
        let room = &self.progress.room;
        let left = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
            u64::MAX => Some(left),
            left => left.checked_sub(bytes),
        });
        left.map(drop).map_err(|_| io::Error::new(ErrorKind::StorageFull, NoRoom))
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
        let crowded = Pace::shown(Arc::default(), None);
        crowded.progress().crowd();
        assert_eq!(crowded.go_on().unwrap_err().kind(), ErrorKind::StorageFull);
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

    #[test]
    fn no_more_is_written_than_there_is_room_for() {
        let pace = Pace::shown(Arc::default(), None);
        pace.write(u64::MAX).unwrap();
        pace.write(1).unwrap();
        pace.progress().allow(3);
        pace.write(3).unwrap();
        let error = pace.write(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(error.to_string().contains("a twentieth"), "{error}");
        pace.progress().begin_anew();
        pace.write(3).unwrap();
    }
}
