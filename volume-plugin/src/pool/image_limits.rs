//! What shares of the image may hold, by quotas of btrfs.
//!
//! By simple quotas a share is charged with what it holds and with what only snapshots of it still
//! have. So after a snapshot everything that is overwritten in place is charged a second time, until
//! the limit is reached and the server's overwriting fails, although the volume has not grown. The
//! groups of kernels without simple quotas charge it with what it refers to, which comes to the same
//! for as long as any part of an extent that a snapshot has is not overwritten. The limit on the
//! charge is therefore the size plus what the share was charged with when the last snapshot was
//! made: so much, and no more, can come to be held by snapshots alone. A share that does not
//! overwrite can grow into that meanwhile; quotas know no difference. When snapshots are deleted the
//! charge goes down, and the limit after it; what has not been overwritten since is still written to
//! a new place once, also when the last snapshot is gone, so the limit stays above the size. By how
//! much stands beside it, in the file system: what the share has grown by since the last snapshot
//! must not become more of it with each start and each new size.
//!
//! Groups are counted whole by the kernel when they are switched on, and again when it has lost
//! count; until that is done a charge is too low to go by.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::{Charge, Limit, PoolError};
use crate::name::ShareName;
use crate::sys::quota::{self, Count};
use crate::sys::{Doing, SysError};

/// How often limits are lowered that need not be as high any more.
const LOOK: Duration = Duration::from_secs(10);

/// How long a first limit waits for all that there is to be counted, and how often it looks.
const COUNT: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub(super) struct Limits {
    root: PathBuf,
    device: PathBuf,
    /// Of the shares that have one, as they were told since the start.
    told: Mutex<BTreeMap<ShareName, Limit>>,
    lowered: Mutex<Instant>,
    /// Had alone from the look at a charge to the limit that follows from it: a snapshot that is made
    /// in between makes that wrong.
    capturing: RwLock<()>,
}

impl Limits {
    /// Of the shares in the file system at `root` on `device`.
    pub(super) fn new(root: PathBuf, device: PathBuf) -> Self {
        let lowered = Mutex::new(Instant::now());
        Self { root, device, told: Mutex::default(), lowered, capturing: RwLock::default() }
    }

    /// Whether there can be limits; from here on charges are counted.
    pub(super) fn prepare(&self) -> Result<(), PoolError> {
        self.prepare_by(Instant::now() + COUNT)
    }

    fn prepare_by(&self, deadline: Instant) -> Result<(), PoolError> {
        while self.count()? == Count::Unfinished {
            if Instant::now() >= deadline {
                return Err(PoolError::NoLimits(
                    "the kernel is still counting what the pool holds; please try again later",
                ));
            }
            self.count_again()?;
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn count(&self) -> Result<Count, SysError> {
        quota::count(&self.root).doing(|| format!("count charges in {}", self.root.display()))
    }

    fn count_again(&self) -> Result<(), SysError> {
        quota::count_again(&self.root).doing(|| format!("count again in {}", self.root.display()))
    }

    /// The share `name` at `path` may hold `limit` from here on; none for as much as there is.
    pub(super) fn set(
        &self,
        name: &ShareName,
        path: &Path,
        limit: Option<Limit>,
    ) -> Result<(), PoolError> {
        let Some(limit) = limit else {
            let _changing = self.change();
            if self.charge(path)?.is_some() {
                quota::unlimit(path).doing(|| format!("end the limit of {}", path.display()))?;
            }
            self.told().remove(name);
            return Ok(());
        };
        self.count()?;
        let _changing = self.change();
        let charge = self.charge(path)?.ok_or_else(|| PoolError::Missing(name.clone()))?;
        limit_to(path, own(limit, charge), beside(limit, charge))?;
        self.told().insert(name.clone(), limit);
        Ok(())
    }

    /// Forgets the share `name`, which is deleted.
    pub(super) fn forget(&self, name: &ShareName) {
        self.told().remove(name);
    }

    /// Held while a snapshot or a clone is made, by any number: limits are raised, and otherwise left.
    pub(super) fn capture(&self) -> RwLockReadGuard<'_, ()> {
        self.capturing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called before a snapshot or a clone of the share `name` at `path` is made, and again afterwards
    /// for what was written in between, by whoever holds [`Limits::capture`]: all that the share holds may be charged a second time.
    pub(super) fn raise(&self, name: &ShareName, path: &Path) -> Result<(), PoolError> {
        let Some(charge @ Charge { limit: Some(now), .. }) = self.charge(path)? else {
            return Ok(());
        };
        let noted = now.saturating_sub(charge.beside.unwrap_or(0));
        // Too much, where the size is not known yet, is lowered once it is.
        let own = self.told().get(name).map_or(noted, |limit| limit.to_fill());
        let beside = at_least(own, charge);
        if own.saturating_add(beside) > now {
            limit_to(path, own, beside)?;
        }
        Ok(())
    }

    /// As [`Limits::lower`], now and then.
    pub(super) fn tend(&self) -> Result<(), PoolError> {
        let mut lowered = self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        if lowered.elapsed() < LOOK {
            return Ok(());
        }
        *lowered = Instant::now();
        drop(lowered);
        match quota::counted(&self.root).doing(|| format!("look at {}", self.root.display()))? {
            None => Ok(()),
            Some(Count::Unfinished) => Ok(self.count_again()?),
            Some(Count::Newer | Count::Whole) => self.lower(),
        }
    }

    /// Lowers the limits that charges have left behind.
    pub(super) fn lower(&self) -> Result<(), PoolError> {
        let told = self.told().clone();
        for (name, limit) in told {
            let path = self.root.join(name.as_str());
            let _changing = self.change();
            let Some(charge) = self.charge(&path)? else { continue };
            if charge.count == Count::Unfinished {
                continue;
            }
            let (own, beside) = (own(limit, charge), beside(limit, charge));
            if charge.limit.is_some_and(|now| own.saturating_add(beside) < now) {
                limit_to(&path, own, beside)?;
                tracing::debug!(share = %name, ?limit, ?charge, beside, "lowered the limit");
            }
        }
        Ok(())
    }

    /// What the share at `path` is charged with; none where that was never counted.
    pub(super) fn charge(&self, path: &Path) -> Result<Option<Charge>, SysError> {
        let charge = match quota::charge(path, &self.device) {
            // Deleted meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other,
        };
        charge.doing(|| format!("look what {} is charged with", path.display()))
    }

    fn change(&self) -> RwLockWriteGuard<'_, ()> {
        self.capturing.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<ShareName, Limit>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit_to(path: &Path, own: u64, beside: u64) -> Result<(), SysError> {
    quota::limit(path, own, beside).doing(|| format!("limit {}", path.display()))
}

/// What the share may be charged with beside what snapshots may come to hold alone. What is older than
/// the count is charged when it is written anew, as after a snapshot.
fn own(limit: Limit, charge: Charge) -> u64 {
    let uncounted = if charge.captured { 0 } else { limit.uncounted };
    limit.to_fill().saturating_sub(uncounted)
}

/// The least beside that which lets the whole share be overwritten: no more than it is charged with, and
/// no more than there was at the last snapshot.
fn beside(limit: Limit, charge: Charge) -> u64 {
    match (charge.beside, charge.count) {
        _ if !charge.captured => 0,
        (Some(noted @ 1..), Count::Unfinished) => noted,
        (Some(noted @ 1..), _) => noted.min(charge.charged),
        (None | Some(0), _) => at_least(limit.size, charge),
    }
}

/// What `charge` comes to once it is counted, or more, for a share that holds no more than `size`.
fn at_least(size: u64, charge: Charge) -> u64 {
    match charge.count {
        Count::Newer | Count::Whole => charge.charged,
        Count::Unfinished => charge.charged.max(size),
    }
}

#[cfg(test)]
#[path = "image_limits_tests.rs"]
mod tests;
