//! What becomes of the trash: it is shown, and it goes, when its time is over, when somebody says
//! so, or when a pool fills, the oldest first.
//!
//! A record is renamed before anything of its volume is deleted, and removed when all of it is; a
//! start goes on where a killed process was. One volume is deleted at a time, so that the disk
//! is left to the servers on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::catalog::{Entry, Record};
use super::error::VolumeError;
use super::removal::{self, Kept};
use super::room::GIVEN_BACK;
use super::service::Service;
use super::trash::{self, Stage, Target, Trashed};
use crate::name::ShareName;
use crate::pool::{Description, PoolName, Space};
use crate::sys::step;
use plugin_sdk::chain::chain;

/// How often pools are looked at while there is trash that could make room: one write of a whole
/// tenth of a pool takes longer.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// How long after a failure a volume is tried again.
const AGAIN: Duration = Duration::from_mins(1);

/// A pool with a file system of its own is short of space with less than a tenth of it free, and less than this.
const ENOUGH: u64 = 4 << 30;

/// Keeps changes of the trash apart.
#[derive(Debug, Default)]
pub(super) struct Purger {
    changed: Notify,
    turn: Mutex<()>,
    deleting: Mutex<()>,
}

impl Purger {
    /// There is something to do.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits until nobody else decides on what is in the trash.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

/// Which of the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// What is named; by a volume's name each of that name.
    These(Vec<Target>),
    /// Everything.
    All,
}

/// What a round of purging leaves for the next.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(super) failed: HashMap<ShareName, Instant>,
    free: BTreeMap<PoolName, u64>,
    /// Until when no snapshot goes for room in these.
    held: BTreeMap<PoolName, Instant>,
    /// When what was removed then goes, found out when it was first seen: no later jump of the
    /// clock brings that nearer.
    due: HashMap<(ShareName, Timestamp), Instant>,
}

impl Rounds {
    /// For `time` from now on no snapshot goes for room in `pool`.
    fn hold(&mut self, pool: &PoolName, time: Duration) {
        let until = Instant::now() + time;
        let held = self.held.entry(pool.clone()).or_insert(until);
        *held = until.max(*held);
    }
}

#[cfg(test)]
impl Rounds {
    /// `time` goes by.
    pub(super) fn pass(&mut self, time: Duration) {
        for due in self.due.values_mut() {
            *due -= time;
        }
    }
}

impl Service {
    /// Purges what is to be purged, for ever.
    pub async fn keep_trash(self: Arc<Self>) {
        let mut rounds = Rounds::default();
        loop {
            self.purge_round(&mut rounds).await;
            let sleep = async {
                // Nothing there is nothing to look for.
                if self.catalog.trash().is_empty() && !self.catalog.has_scheduled() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(LOOK).await;
            };
            tokio::select! {
                () = self.purger.changed.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// Purges what is to be purged now.
    pub(crate) async fn purge_round(self: &Arc<Self>, rounds: &mut Rounds) {
        rounds.failed.retain(|_, at| at.elapsed() < AGAIN);
        rounds.held.retain(|_, until| *until > Instant::now());
        let all = self.catalog.trash();
        rounds.due.retain(|(share, since), _| {
            all.iter().any(|(found, trashed)| found == share && trashed.since() == Some(*since))
        });
        for (share, trashed) in all {
            if self.is_over(&share, &trashed, rounds) && !rounds.failed.contains_key(&share) {
                self.purge_logged(&share, rounds).await;
            }
        }
        for pool in self.pools.names().cloned().collect::<Vec<_>>() {
            let Some(description) = self.describe(&pool).await else { continue };
            // The host's disk is filled by others too: deleting what little is ours may not help.
            if !description.is_alone() {
                continue;
            }
            // It grows before anything is deleted.
            let mut space = description.space;
            space.free += description.growable;
            let before = rounds.free.insert(pool.clone(), space.free);
            // Space that is still being given back may be enough.
            let settled = before.is_none_or(|before| space.free <= before);
            // Of what a snapshot had it is given back over some seconds.
            if !settled && rounds.held.contains_key(&pool) {
                rounds.hold(&pool, GIVEN_BACK);
            }
            if !is_short(space) || !settled {
                continue;
            }
            if let Some(oldest) = self.oldest(&pool, rounds) {
                tracing::warn!(%pool, free = space.free, volume = %oldest.record.name, "the pool fills: purging the oldest of the trash");
                self.purge_logged(&oldest.record.share, rounds).await;
                rounds.hold(&pool, GIVEN_BACK);
            } else if !rounds.held.contains_key(&pool) {
                let pause = self.drop_for_room(&pool, rounds).await;
                rounds.hold(&pool, pause);
            }
        }
    }

    /// Begins to delete `which` of the trash and tells the ids; the rest is done behind.
    pub async fn purge(self: Arc<Self>, which: Which) -> Result<Vec<String>, VolumeError> {
        let mut meant = Vec::new();
        match which {
            Which::All => meant = self.all_kept(),
            Which::These(targets) => {
                for target in targets {
                    let found = self.kept(&target);
                    if found.is_empty() {
                        return Err(VolumeError::NotInTrash(target));
                    }
                    meant.extend(found);
                }
            }
        }
        let mut ids = Vec::new();
        for Kept { record, .. } in meant {
            self.begin_purge(&record.share).await?;
            ids.push(trash::id(&record.share));
            self.purger.wake();
        }
        Ok(ids)
    }

    fn is_over(&self, share: &ShareName, trashed: &Trashed, rounds: &mut Rounds) -> bool {
        let Stage::Kept { since } = trashed.stage else { return trashed.record.is_ok() };
        // Who meant to keep it for longer has mistyped it.
        if self.bad_settings.is_some() {
            return false;
        }
        let left = || Instant::now() + self.trash_time.left(since, Timestamp::now());
        let due = *rounds.due.entry((share.clone(), since)).or_insert_with(left);
        trashed.record.is_ok() && due <= Instant::now()
    }

    /// The oldest that takes space in `pool` and was not tried in vain.
    pub(super) fn oldest(&self, pool: &PoolName, rounds: &Rounds) -> Option<Kept> {
        let tried = |kept: &Kept| rounds.failed.contains_key(&kept.record.share);
        self.all_kept().into_iter().find(|kept| lives_in(&kept.record, pool) && !tried(kept))
    }

    /// What is being deleted of `pool`.
    pub(super) fn leaving(&self, pool: &PoolName) -> Vec<ShareName> {
        let leaves = |trashed: &Trashed| {
            let record = trashed.record.as_ref();
            trashed.stage == Stage::Purging && record.is_ok_and(|record| lives_in(record, pool))
        };
        let all = self.catalog.trash().into_iter();
        all.filter(|(_, trashed)| leaves(trashed)).map(|(share, _)| share).collect()
    }

    pub(super) async fn purge_logged(self: &Arc<Self>, share: &ShareName, rounds: &mut Rounds) {
        let purged = match self.kept_share(share) {
            Some(_) => self.begin_purge(share).await,
            None => Ok(()),
        };
        let purged = match purged {
            Ok(()) => self.end_purge(share).await,
            Err(error) => Err(error),
        };
        if let Err(error) = purged {
            tracing::error!(share = %share, error = chain(&error), "what was removed cannot be deleted yet");
            rounds.failed.insert(share.clone(), Instant::now());
        }
    }

    /// From here on it is deleted, unless somebody has it mounted by other ways than ours.
    async fn begin_purge(self: &Arc<Self>, share: &ShareName) -> Result<(), VolumeError> {
        let _turn = self.purger.turn().await;
        let Some(Kept { record, stage, .. }) = self.kept_share(share) else { return Ok(()) };
        let shares = self.shares(&record).await?;
        self.blocking(move |service| {
            service.refuse_if_used(&record.name, &shares)?;
            service.catalog.begin_purge(record, stage)?;
            Ok(step("purge.noted")?)
        })
        .await
    }

    async fn end_purge(self: &Arc<Self>, share: &ShareName) -> Result<(), VolumeError> {
        let _deleting = self.purger.deleting.lock().await;
        // Somebody may have done it meanwhile.
        let Some(record) = self.purging(share) else { return Ok(()) };
        self.purge_snapshots(&record).await?;
        let shares = self.shares(&record).await?;
        self.blocking(move |service| {
            removal::delete(&shares)?;
            service.catalog.end_purge(&record.share)?;
            step("purge.forgotten")?;
            tracing::info!(volume = %record.name, share = %record.share, "deleted");
            Ok(())
        })
        .await
    }

    /// Deletes the snapshots of a volume that is being deleted, those among the trash too: nobody could
    /// have them back, and the next volume to get the share's name would be taken for theirs.
    async fn purge_snapshots(self: &Arc<Self>, of: &Record) -> Result<(), VolumeError> {
        let mut going = Vec::new();
        for (_, entry) in self.catalog.snapshots(&of.share) {
            let Entry::Volume(record) = entry else { continue };
            going.push((self.shares(&record).await?, record, None));
        }
        for (share, trashed) in self.catalog.trash() {
            let is_its = share.snapshot().is_some_and(|(found, _)| found == of.share);
            if let Ok(record) = trashed.record
                && is_its
            {
                going.push((self.shares(&record).await?, record, Some(trashed.stage)));
            }
        }
        self.blocking(move |service| {
            for (shares, record, stage) in going {
                removal::delete(&shares)?;
                match stage {
                    None => service.catalog.forget(&record)?,
                    Some(Stage::Purging) => service.catalog.end_purge(&record.share)?,
                    Some(stage) => {
                        service.catalog.begin_purge(record.clone(), stage)?;
                        service.catalog.end_purge(&record.share)?;
                    }
                }
                step("purge.snapshot-gone")?;
            }
            Ok(())
        })
        .await
    }

    /// Whether `pool`, a file system of its own, fills.
    pub(crate) async fn is_pool_short(self: &Arc<Self>, pool: &PoolName) -> bool {
        let described = self.describe(pool).await;
        described.is_some_and(|found| found.is_alone() && is_short(found.space))
    }

    fn purging(&self, share: &ShareName) -> Option<Record> {
        let mut all = self.catalog.trash().into_iter();
        let (_, trashed) = all.find(|(found, _)| found == share)?;
        if trashed.stage == Stage::Purging { trashed.record.ok() } else { None }
    }

    pub(super) async fn space(self: &Arc<Self>, pool: &PoolName) -> Option<Space> {
        Some(self.describe(pool).await?.space)
    }

    /// What there is to tell of a pool that is open.
    pub(super) async fn describe(self: &Arc<Self>, pool: &PoolName) -> Option<Description> {
        let pool = self.pools.open_already(pool)?;
        self.blocking(move |_| Ok(pool.describe().ok())).await.ok()?
    }
}

/// Whether a share of the volume is in `pool`.
pub(crate) fn lives_in(record: &Record, pool: &PoolName) -> bool {
    record.shares().iter().any(|(home, _)| home.pool == *pool)
}

fn is_short(space: Space) -> bool {
    space.free < ENOUGH.min(space.total / 10)
}

#[cfg(test)]
#[path = "purge_tests.rs"]
mod tests;
