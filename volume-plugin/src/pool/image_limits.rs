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
//! a new place once, also when the last snapshot is gone, so the limit stays above the size.
//!
//! Groups are counted whole by the kernel when they are switched on, and again when it has lost
//! count; until that is done a charge is too low to go by.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
}

impl Limits {
    /// Of the shares in the file system at `root` on `device`.
    pub(super) fn new(root: PathBuf, device: PathBuf) -> Self {
        Self { root, device, told: Mutex::default(), lowered: Mutex::new(Instant::now()) }
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
            if self.charge(path)?.is_some() {
                limit_to(path, None)?;
            }
            self.told().remove(name);
            return Ok(());
        };
        self.count()?;
        let charge = self.charge(path)?.ok_or_else(|| PoolError::Missing(name.clone()))?;
        limit_to(path, Some(bound(limit, charge)))?;
        self.told().insert(name.clone(), limit);
        Ok(())
    }

    /// Forgets the share `name`, which is deleted.
    pub(super) fn forget(&self, name: &ShareName) {
        self.told().remove(name);
    }

    /// Called before a snapshot or a clone of the share `name` at `path` is made, and again afterwards
    /// for what was written in between: all that the share holds may be charged a second time.
    pub(super) fn raise(&self, name: &ShareName, path: &Path) -> Result<(), PoolError> {
        let Some(charge @ Charge { limit: Some(now), .. }) = self.charge(path)? else {
            return Ok(());
        };
        // Too much, where the size is not known yet, is lowered once it is.
        let size = self.told().get(name).map_or(now, |limit| limit.to_fill());
        let bound = size.saturating_add(at_least(size, charge));
        if bound > now {
            limit_to(path, Some(bound))?;
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
            let Some(charge) = self.charge(&path)? else { continue };
            if charge.count == Count::Unfinished {
                continue;
            }
            let bound = bound(limit, charge);
            if charge.limit.is_some_and(|now| bound < now) {
                limit_to(&path, Some(bound))?;
                tracing::debug!(share = %name, ?limit, ?charge, bound, "lowered the limit");
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

    fn told(&self) -> MutexGuard<'_, BTreeMap<ShareName, Limit>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit_to(path: &Path, limit: Option<u64>) -> Result<(), SysError> {
    quota::limit(path, limit).doing(|| format!("limit {}", path.display()))
}

/// The lowest limit on the charge that lets the whole share be overwritten. What is older than the
/// count is charged when it is written anew, as after a snapshot.
fn bound(limit: Limit, charge: Charge) -> u64 {
    if charge.captured {
        limit.to_fill().saturating_add(at_least(limit.size, charge))
    } else {
        limit.to_fill().saturating_sub(limit.uncounted)
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
