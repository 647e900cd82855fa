//! What volumes may hold: given at create, changed while they are in use, told to the pool again at
//! each start, and lent a little more when a server has filled it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_sdk::chain::chain;

use super::catalog::Record;
use super::error::VolumeError;
use super::options::OptionError;
use super::service::Service;
use super::share::Share;
use super::size::Size;
use super::spec::Role;
use super::usage;
use crate::name::VolumeName;
use crate::pool::{Charge, Count};
use crate::sys::beneath::Dir;
use crate::sys::{Doing, step};

/// How long measuring a volume may take whose size changes; longer, and the pool's count is all
/// there is.
const MEASURE: Duration = Duration::from_secs(15);

/// The alarm of a volume begins with less of its size left than one in so many.
const ALARM: u64 = 5;

impl Service {
    /// Brings the sizes in `record`, which are new, into force.
    pub(super) async fn resize(self: &Arc<Self>, mut record: Record) -> Result<(), VolumeError> {
        let shares = self.shares(&record).await?;
        self.blocking(move |service| {
            let before = service.ready(&record.name)?;
            let old = &before.spec.sizes;
            // A role that keeps its size may have filled what it was lent.
            let keeps =
                |role: &Role| old.of(role).is_some() && old.of(role) == record.spec.sizes.of(role);
            let kept = record.spec.roles().iter().any(|(role, _)| keeps(role));
            record.spec.sizes.released = old.released && kept;
            for share in &shares {
                let Some(role) = share.sized() else { continue };
                let size = record.spec.sizes.of(role);
                if size == before.spec.sizes.of(role) {
                    continue;
                }
                let mut before_counting = 0;
                if let Some(size) = size {
                    share.prepare_limit()?;
                    before_counting = uncounted(share, role, size)?;
                }
                if *role == Role::Data {
                    record.spec.sizes.uncounted = before_counting;
                }
            }
            service.catalog.put(record.clone())?;
            let sizes = &record.spec.sizes;
            let told = step("resize.recorded").map_err(VolumeError::from);
            let told = told.and_then(|()| shares.iter().try_for_each(|share| share.limit(sizes)));
            if let Err(error) = told {
                service.catalog.put(before.clone())?;
                for share in &shares {
                    // As far as it can be taken back.
                    share.limit(&before.spec.sizes).ok();
                }
                return Err(error);
            }
            tracing::info!(volume = %record.name, ?sizes, "resized");
            Ok(())
        })
        .await
    }

    /// Lets `name` fill what is held back of its sizes, until it holds less or is resized.
    pub async fn release_reserve(self: Arc<Self>, name: VolumeName) -> Result<(), VolumeError> {
        let _turn = self.turn(&name).await;
        let mut record = self.ready(&name)?;
        if !is_limited(&record) {
            return Err(VolumeError::Unlimited(name));
        }
        record.spec.sizes.released = true;
        self.enforce(record).await
    }

    /// Puts the changed record, and what it says of sizes into force.
    async fn enforce(self: &Arc<Self>, record: Record) -> Result<(), VolumeError> {
        let shares = self.shares(&record).await?;
        self.blocking(move |service| {
            service.catalog.put(record.clone())?;
            step("reserve.recorded")?;
            shares.iter().try_for_each(|share| share.limit(&record.spec.sizes))?;
            let released = record.spec.sizes.released;
            tracing::info!(volume = %record.name, released, "what is held back of its size");
            Ok(())
        })
        .await
    }

    /// Tells the pools all sizes, after a start.
    pub(super) async fn enforce_limits(self: &Arc<Self>) {
        for (name, record) in self.limited() {
            let _turn = self.turn(&name).await;
            let told = match self.shares(&record).await {
                Ok(shares) => {
                    let limit = move |share: &Share| share.limit(&record.spec.sizes);
                    self.blocking(move |_| shares.iter().try_for_each(limit)).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                tracing::error!(volume = %name, error = chain(&error), "a volume's size is not in force");
            }
        }
    }

    /// Looks how full volumes with a size are: alarms, and holds back again what was released and
    /// is not needed any more.
    pub(super) async fn look_at_limits(self: &Arc<Self>) {
        let mut alarms = BTreeMap::new();
        for (name, record) in self.limited() {
            let mut full = Vec::new();
            let mut has_room = true;
            for (role, size, left) in self.left(&record).await {
                let Some(left) = left else {
                    has_room = false;
                    continue;
                };
                if left < size.bytes() / ALARM {
                    let percent = 100 - left * 100 / size.bytes();
                    full.push(format!("{role}: {percent} % of its size is in use"));
                }
                has_room &= left > 2 * size.reserve();
            }
            if !full.is_empty() {
                alarms.insert(name.clone(), full.join(", "));
            }
            if record.spec.sizes.released && has_room {
                self.hold_back(&name).await;
            }
        }
        self.upkeep.fills(alarms);
    }

    /// What is left to each role of its size, as far as that is known.
    async fn left(self: &Arc<Self>, record: &Record) -> Vec<(Role, Size, Option<u64>)> {
        let mut all = Vec::new();
        for (role, home) in record.spec.roles() {
            let Some(size) = record.spec.sizes.of(&role) else { continue };
            let share = record.share_at(&home);
            let charge = match self.pools.open_already(&home.pool) {
                Some(pool) => self.blocking(move |_| Ok(pool.charge(&share).ok().flatten())).await,
                None => Ok(None),
            };
            let left = match charge {
                Ok(Some(Charge { charged, limit: Some(limit), .. })) => {
                    Some(limit.saturating_sub(charged))
                }
                _ => None,
            };
            all.push((role, size, left));
        }
        all
    }

    async fn hold_back(self: &Arc<Self>, name: &VolumeName) {
        // Whoever works on it may take hours, and all other volumes are looked at behind this one.
        let Some(_turn) = self.turn_now(name) else { return };
        let Ok(mut record) = self.ready(name) else { return };
        record.spec.sizes.released = false;
        if let Err(error) = self.enforce(record).await {
            tracing::error!(volume = %name, error = chain(&error), "what was released is not held back again");
        }
    }

    /// The volumes that have a size.
    fn limited(&self) -> Vec<(VolumeName, Record)> {
        let records = self.catalog.records(is_limited);
        records.into_iter().map(|record| (record.name.clone(), record)).collect()
    }
}

/// Nobody writes to a snapshot, whatever its volume may hold.
fn is_limited(record: &Record) -> bool {
    !record.spec.sizes.is_empty() && !record.is_snapshot()
}

/// What `share` holds that its pool has not counted, being older; refused where all that it holds
/// does not fit into `size`.
fn uncounted(share: &Share, role: &Role, size: Size) -> Result<u64, VolumeError> {
    let charge = share.charge()?;
    let charged = charge.map_or(0, |charge| charge.charged);
    let root = share.locate()?;
    let measured = Dir::open(&root)
        .and_then(|dir| usage::used(&dir, Instant::now() + MEASURE))
        .doing(|| format!("measure {}", root.display()))?;
    let held = measured.unwrap_or(charged);
    if held > size.bytes() - size.reserve() {
        return Err(OptionError::Value {
            key: role.size_key(),
            value: size.option(),
            allowed: format!(
                "it holds {} MiB, and {} MiB of its size are held back",
                held >> 20,
                size.reserve() >> 20
            ),
        }
        .into());
    }
    // What a clone has of its origin is never charged to it: it is new where it is overwritten.
    let counted = charge.is_some_and(|charge| charge.captured || charge.count != Count::Newer);
    Ok(if counted { 0 } else { held.saturating_sub(charged) })
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
