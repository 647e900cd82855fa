//! Larger pipes for the streams that fill theirs.
//!
//! A pipe of 64 KiB is full in half a millisecond at full speed. All enlarged pipes together stay
//! below [`TOTAL`]: beyond 64 MiB per user the kernel cuts down the pipes of every other process
//! of root's.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys;

/// What a pipe holds when nobody has asked for more.
const USUAL: usize = 64 * 1024;

/// What an enlarged pipe holds; more needs a privilege.
pub(super) const LARGE: usize = 1 << 20;

/// All enlarged pipes together.
const TOTAL: usize = 32 << 20;

/// What is left for enlarging pipes.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
}

/// One enlarged pipe's part of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Grant {
    budget: Arc<Budget>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: AtomicUsize::new(TOTAL) }
    }

    /// Enlarges the pipe behind `fifo`, if there is something left for it and the kernel lets us:
    /// it does not once root has 64 MiB of pipes, such as those of some 350 containers. A small
    /// pipe is read as well. One that an earlier life of the process enlarged is still large and
    /// is counted in.
    pub(super) fn enlarge(self: &Arc<Self>, fifo: &OwnedFd) -> Option<Grant> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(LARGE));
        taken.ok()?;
        let grant = Grant { budget: Arc::clone(self) };
        let enlarged = match sys::pipe_size(fifo) {
            Ok(size) if size >= LARGE => Ok(()),
            _ => sys::set_pipe_size(fifo, LARGE),
        };
        enlarged
            .inspect_err(|error| tracing::debug!(%error, "a pipe stays as it is"))
            .is_ok()
            .then_some(grant)
    }
}

impl Grant {
    /// Makes the pipe as it was; `Err(self)` while it holds too much for that.
    pub(super) fn give_back(self, fifo: &OwnedFd) -> Result<(), Self> {
        sys::set_pipe_size(fifo, USUAL).map_err(|_| self)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.left.fetch_add(LARGE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing;

    #[test]
    fn pipes_grow_within_the_budget_and_shrink() {
        let dir = tempfile::tempdir().unwrap();
        let budget = Arc::new(Budget { left: AtomicUsize::new(LARGE + 1) });
        let open = |name| {
            let path = dir.path().join(name);
            (testing::fifo(&path), sys::open_fifo(&path).unwrap())
        };
        let (one, two) = (open("one"), open("two"));
        let grant = budget.enlarge(&one.1).unwrap();
        assert_eq!(sys::pipe_size(&one.0).unwrap(), LARGE);
        assert!(budget.enlarge(&two.1).is_none());
        grant.give_back(&one.1).unwrap();
        assert_eq!(sys::pipe_size(&one.0).unwrap(), USUAL);
        assert!(budget.enlarge(&two.1).is_some());
    }

    /// The kernel refuses when root has 64 MiB of pipes, such as those of some 350 containers.
    #[test]
    fn a_kernel_that_refuses_keeps_the_pipe_as_it_is() {
        let budget = Arc::new(Budget::new());
        let no_pipe = OwnedFd::from(tempfile::tempfile().unwrap());
        assert!(budget.enlarge(&no_pipe).is_none());
        assert_eq!(budget.left.load(Ordering::Relaxed), TOTAL);
    }
}
