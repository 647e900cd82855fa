//! Room in a pool that is full or fills: it grows, or something goes for it, one thing after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catalog::Record;
use super::purge::{LOOK, Rounds};
use super::service::Service;
use crate::pool::{Description, PoolName, Space};

/// How long whoever needs room waits for the file system to give back what was deleted.
pub(super) const GIVEN_BACK: Duration = Duration::from_secs(3);

/// How long no snapshot goes after one that gave nothing back: the next most likely gives as little, and who
/// writes may have taken what it gave.
const NOTHING: Duration = Duration::from_secs(10);

/// How long whoever needs room waits for a pool that can grow.
const GROWN: Duration = Duration::from_secs(20);

impl Service {
    /// Deletes the oldest snapshot that may go, for a pool that fills; tells how long no other does.
    pub(super) async fn drop_for_room(
        self: &Arc<Self>,
        pool: &PoolName,
        rounds: &mut Rounds,
    ) -> Duration {
        let Some(Space { free: before, .. }) = self.space(pool).await else { return LOOK };
        if !self.drop_oldest_scheduled(pool).await {
            return LOOK;
        }
        for share in self.leaving(pool) {
            self.purge_logged(&share, rounds).await;
        }
        if self.has_grown(pool, before).await {
            return GIVEN_BACK;
        }
        tracing::warn!(%pool, "that gave no space back: no other goes for a while");
        NOTHING
    }

    /// Purges the oldest volume of the trash that takes space in `pool`, for somebody who found
    /// it full; tells whether there is more room now. Deleting what gives nothing back ends it:
    /// then something else is wrong, and the rest of the trash would be lost for nothing.
    pub(crate) async fn make_room(self: &Arc<Self>, pool: &PoolName) -> bool {
        self.make_room_by(pool, Instant::now() + GROWN).await
    }

    /// The same, waiting for the pool to grow until `deadline` at most.
    pub(crate) async fn make_room_by(self: &Arc<Self>, pool: &PoolName, deadline: Instant) -> bool {
        let Some(Space { free: before, .. }) = self.space(pool).await else { return false };
        if self.grows(pool, before, deadline).await {
            return true;
        }
        let mut rounds = Rounds::default();
        let leaving = self.leaving(pool);
        for share in &leaving {
            self.purge_logged(share, &mut rounds).await;
        }
        if leaving.iter().any(|share| !rounds.failed.contains_key(share))
            && self.has_grown(pool, before).await
        {
            return true;
        }
        while let Some(oldest) = self.oldest(pool, &rounds) {
            let Record { name, share, .. } = &oldest.record;
            tracing::warn!(%pool, volume = %name, "the pool is full: purging the oldest of the trash");
            self.purge_logged(share, &mut rounds).await;
            if !rounds.failed.contains_key(share) {
                return self.has_grown(pool, before).await;
            }
        }
        false
    }

    /// Whether `pool` has more than `before` free by growing. Waits until `deadline` for whoever is making it
    /// larger already, which takes a while under load.
    async fn grows(self: &Arc<Self>, pool: &PoolName, before: u64, deadline: Instant) -> bool {
        while !self.tend(pool).await.is_ok_and(|grown| grown) {
            let Some(Description { space, growable, .. }) = self.describe(pool).await else {
                return false;
            };
            if space.free > before {
                return true;
            }
            if growable == 0 || Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(GIVEN_BACK / 30).await;
        }
        true
    }

    /// Waits until `pool` has more than `before` free, as long as a file system may take.
    async fn has_grown(self: &Arc<Self>, pool: &PoolName, before: u64) -> bool {
        let begun = Instant::now();
        loop {
            if self.space(pool).await.is_some_and(|space| space.free > before) {
                return true;
            }
            if begun.elapsed() >= GIVEN_BACK {
                return false;
            }
            tokio::time::sleep(GIVEN_BACK / 30).await;
        }
    }
}
