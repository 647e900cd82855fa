//! What is done for pools all the time: room is made ahead of use, and where no more can be made
//! whoever runs the host is told while there is time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plugin_sdk::chain::chain;
use tokio::task::JoinSet;

use super::error::VolumeError;
use super::service::Service;
use crate::name::VolumeName;
use crate::pool::{Description, PoolName};

/// How often each pool is looked at: writing a quarter of one takes longer.
const LOOK: Duration = Duration::from_millis(500);

/// How often the volumes that have a size are looked at.
const LOOK_AT_LIMITS: Duration = Duration::from_secs(5);

/// How long after a failure a pool is left alone.
const AGAIN: Duration = Duration::from_secs(10);

/// Per cent of what a pool can ever hold, from which on there is an alarm, and below which it ends.
const ALARM: (u64, u64) = (80, 75);

/// The alarms in force.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    alarms: Mutex<BTreeMap<PoolName, String>>,
    /// Of volumes that have nearly filled their size.
    full: Mutex<BTreeMap<VolumeName, String>>,
}

impl Upkeep {
    /// What is to be told of `pool`.
    pub(super) fn alarm(&self, pool: &PoolName) -> Option<String> {
        self.alarms().get(pool).cloned()
    }

    /// What is to be told of the size of `volume`.
    pub(super) fn fullness(&self, volume: &VolumeName) -> Option<String> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner).get(volume).cloned()
    }

    /// These volumes fill, and no others.
    pub(super) fn fills(&self, now: BTreeMap<VolumeName, String>) {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        for (volume, alarm) in now.iter().filter(|(volume, _)| !full.contains_key(*volume)) {
            tracing::warn!(%volume, alarm, "the volume fills");
        }
        *full = now;
    }

    /// Raises or ends the alarm of `pool`, and logs either.
    fn judge(&self, pool: &PoolName, description: &Description) {
        // The host's disk is somebody else's, and watched as such.
        if !description.is_alone() {
            return;
        }
        let percent = fullness(description);
        let mut alarms = self.alarms();
        if percent < ALARM.1 {
            if alarms.remove(pool).is_some() {
                tracing::info!(%pool, percent, "the pool has room again");
            }
        } else if percent >= ALARM.0 || alarms.contains_key(pool) {
            let text = format!("{percent} % of all that it can grow to is in use");
            if alarms.insert(pool.clone(), text).is_none() {
                tracing::warn!(%pool, percent, "the pool fills, and cannot grow any further than is counted here");
            }
        }
    }

    fn alarms(&self) -> MutexGuard<'_, BTreeMap<PoolName, String>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Per cent in use of what the pool holds and can grow by.
fn fullness(description: &Description) -> u64 {
    let Description { space, growable, .. } = description;
    let used = u128::from(space.total.saturating_sub(space.free));
    let all = u128::from(space.total) + u128::from(*growable);
    u64::try_from(used * 100 / all.max(1)).unwrap_or(100)
}

/// A failure of the last round: when, and what was said.
type Failed = (Instant, String);

impl Service {
    /// Looks after every pool and every size, for ever. None waits for another: a disk that hangs
    /// must not keep the image on a disk that works from growing.
    pub async fn keep_pools(self: Arc<Self>) {
        let mut keepers = JoinSet::new();
        for pool in self.pools.names().cloned() {
            keepers.spawn(Arc::clone(&self).keep_pool(pool));
        }
        keepers.spawn(self.keep_limits());
        while let Some(ended) = keepers.join_next().await {
            tracing::error!(?ended, "a pool is not looked after any more");
        }
    }

    async fn keep_limits(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_AT_LIMITS).await;
            self.look_at_limits().await;
        }
    }

    async fn keep_pool(self: Arc<Self>, pool: PoolName) {
        let mut failed = None;
        loop {
            tokio::time::sleep(LOOK).await;
            self.look_after(&pool, &mut failed).await;
        }
    }

    async fn look_after(self: &Arc<Self>, pool: &PoolName, failed: &mut Option<Failed>) {
        if failed.as_ref().is_none_or(|(at, _)| at.elapsed() >= AGAIN) {
            let now = self.tend(pool).await.err().map(|error| chain(&error));
            if let Some(said) = &now
                && failed.as_ref().is_none_or(|(_, before)| before != said)
            {
                tracing::error!(%pool, error = said, "the pool cannot be looked after");
            }
            *failed = now.map(|said| (Instant::now(), said));
        }
        if let Some(description) = self.describe(pool).await {
            self.upkeep.judge(pool, &description);
        }
    }

    /// Makes room in `pool` ahead of use, and tells whether there is more now.
    pub(super) async fn tend(self: &Arc<Self>, pool: &PoolName) -> Result<bool, VolumeError> {
        let Some(open) = self.pools.open_already(pool) else { return Ok(false) };
        let name = pool.clone();
        self.blocking(move |_| {
            open.tend().map_err(|source| VolumeError::Pool { pool: name, source })
        })
        .await
    }

    /// Gives the host back what `pool` does not need ahead of use, and tells how many bytes.
    pub async fn give_back(self: Arc<Self>, pool: PoolName) -> Result<u64, VolumeError> {
        let said = |source| VolumeError::Pool { pool: pool.clone(), source };
        let open = self.pools.get(&pool).await.map_err(said)?;
        let given = tokio::task::spawn_blocking(move || open.give_back()).await;
        given.map_err(|panic| VolumeError::Internal(panic.to_string()))?.map_err(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Space;

    #[test]
    fn an_alarm_is_raised_at_80_per_cent_and_ends_below_75() {
        let (upkeep, pool) = (Upkeep::default(), PoolName::new("p"));
        let judged = |used: u64, growable, alone: bool| {
            let description = Description {
                kind: "image",
                path: "/image".into(),
                device: alone.then(|| "/dev/loop0".into()),
                space: Space { total: 100, free: 100 - used },
                growable,
            };
            upkeep.judge(&pool, &description);
            upkeep.alarm(&pool).is_some()
        };
        assert!(!judged(99, 0, false));
        assert!(!judged(79, 0, true));
        // It will have grown by then.
        assert!(!judged(99, 100, true));
        assert!(judged(80, 0, true) && judged(75, 0, true));
        assert_eq!(upkeep.alarm(&pool).unwrap(), "75 % of all that it can grow to is in use");
        assert!(!judged(74, 0, true) && !judged(79, 0, true));
    }
}
