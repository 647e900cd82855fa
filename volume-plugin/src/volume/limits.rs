//! What volumes may hold: given at create, changed while they are in use, told to the pool again at
//! each start, and lent a little more when a server has filled it.

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
use crate::pool::Charge;
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
            let share = &shares[0];
            record.spec.sizes.released = false;
            record.spec.sizes.uncounted = 0;
            if let Some(size) = record.spec.sizes.data {
                share.prepare_limit()?;
                record.spec.sizes.uncounted = uncounted(share, size)?;
            }
            service.catalog.put(record.clone())?;
            step("resize.recorded")?;
            share.limit(&record.spec.sizes)?;
            tracing::info!(volume = %record.name, size = ?record.spec.sizes.data, "resized");
            Ok(())
        })
        .await
    }

    /// Lets `name` fill what is held back of its size, until it holds less or is resized.
    pub async fn release_reserve(self: Arc<Self>, name: VolumeName) -> Result<(), VolumeError> {
        let _turn = self.turn(&name).await;
        let mut record = self.ready(&name)?;
        if record.spec.sizes.data.is_none() {
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
            shares[0].limit(&record.spec.sizes)?;
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
                Ok(shares) => self.blocking(move |_| shares[0].limit(&record.spec.sizes)).await,
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
        let mut alarms = std::collections::BTreeMap::new();
        for (name, record) in self.limited() {
            let Some(size) = record.spec.sizes.data else { continue };
            let Some(pool) = self.pools.open_already(&record.spec.pool) else { continue };
            let share = record.content().clone();
            let charge = self.blocking(move |_| Ok(pool.charge(&share).ok().flatten())).await;
            let Ok(Some(Charge { charged, limit: Some(limit), .. })) = charge else { continue };
            let left = limit.saturating_sub(charged);
            if left < size.bytes() / ALARM {
                let percent = 100 - left * 100 / size.bytes();
                alarms.insert(name.clone(), format!("data: {percent} % of its size is in use"));
            }
            if record.spec.sizes.released && left > 2 * size.reserve() {
                self.hold_back(&name).await;
            }
        }
        self.upkeep.fills(alarms);
    }

    async fn hold_back(self: &Arc<Self>, name: &VolumeName) {
        let _turn = self.turn(name).await;
        let Ok(mut record) = self.ready(name) else { return };
        record.spec.sizes.released = false;
        if let Err(error) = self.enforce(record).await {
            tracing::error!(volume = %name, error = chain(&error), "what was released is not held back again");
        }
    }

    /// The volumes that have a size.
    fn limited(&self) -> Vec<(VolumeName, Record)> {
        let records = self.catalog.records(|record| record.spec.sizes.data.is_some());
        records.into_iter().map(|record| (record.name.clone(), record)).collect()
    }
}

/// What `share` holds that its pool has not counted, being older; refused where all that it holds
/// does not fit into `size`.
fn uncounted(share: &Share, size: Size) -> Result<u64, VolumeError> {
    let charge = share.charge()?;
    let charged = charge.map_or(0, |charge| charge.charged);
    let root = share.locate()?;
    let measured = Dir::open(&root)
        .and_then(|dir| usage::used(&dir, Instant::now() + MEASURE))
        .doing(|| format!("measure {}", root.display()))?;
    let held = measured.unwrap_or(charged);
    if held > size.bytes() - size.reserve() {
        return Err(OptionError::Value {
            key: Role::Data.size_key(),
            value: size.option(),
            allowed: format!(
                "the volume holds {} MiB, and {} MiB of its size are held back",
                held >> 20,
                size.reserve() >> 20
            ),
        }
        .into());
    }
    // What a clone has of its origin is never charged to it: it is new where it is overwritten.
    let captured = charge.is_some_and(|charge| charge.captured);
    Ok(if captured { 0 } else { held.saturating_sub(charged) })
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
