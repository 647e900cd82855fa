//! Prepared snapshots: what a server has made of a clone of a snapshot by recovering and ending cleanly,
//! so that whoever makes a clone of that snapshot need not wait for the same recovery again.
//!
//! It is a snapshot of its own, `VOLUME@SNAPSHOT-prepared`: seen, counted and removed like any other, and
//! made by the same steps. What was captured stays as it is. Clones are asked for by the name of the
//! original, and get what was prepared unless they say otherwise, or are to keep what was disarmed.

use std::sync::Arc;
use std::time::Instant;

use super::taking::{Copies, Order};
use super::trying::clone_of;
use super::{Consistency, Level, Prepared, Taken, Waiting, Work};
use crate::name::VolumeName;
use crate::pool::Captured;
use crate::volume::catalog::{Entry, Phase, Record};
use crate::volume::error::VolumeError;
use crate::volume::service::Service;

/// What the name of what was prepared ends in.
const ENDING: &str = "-prepared";

impl Service {
    /// Makes what a server has left in `clone`, a clone of the snapshot `of`, the prepared one of that;
    /// gives its name. One that is there already is success.
    pub async fn prepare(
        self: Arc<Self>,
        of: VolumeName,
        clone: VolumeName,
    ) -> Result<VolumeName, VolumeError> {
        let begun = Instant::now();
        let name = prepared_name(&of)?;
        let in_the_way = |work: &Work| work.name == name || work.of == clone;
        let turns = self.turns_without(&[&of, &clone], in_the_way).await?;
        // The name may be that of what a restore has yet to write.
        self.settle_restore_of(&of).await?;
        let original = self.ready(&of)?;
        if original.taken.as_ref().is_some_and(|taken| taken.prepared.is_some()) {
            return Err(VolumeError::Unprepared { name: of, reason: "it is prepared".to_owned() });
        }
        if self.prepared(&original).is_some_and(|found| found.name == name) {
            return Ok(name);
        }
        match self.catalog.get(&name) {
            None => {}
            Some(Entry::Volume(record)) if record.phase == Phase::Creating => {
                self.clear_away(record).await?;
            }
            Some(_) => {
                let reason = format!("there is a snapshot {name} already");
                return Err(VolumeError::Unprepared { name: of, reason });
            }
        }
        self.refuse_bad_settings()?;
        let served = self.settled(&clone).await?;
        let Some(sanitised) = clone_of(&original, &served).and_then(|it| it.sanitised.clone())
        else {
            return Err(VolumeError::NoClone { clone, of });
        };
        let record = Record {
            created: original.created,
            wal_directories: served.wal_directories.clone(),
            ..Record::creating(name.clone(), self.catalog.free_share(&name), original.spec.clone())
        };
        self.refuse_when_short(&record, begun).await?;
        let copies = Copies {
            live: self.shares(&served).await?,
            copy: self.shares(&record).await?,
            of: served,
            kind: Captured::ReadOnly,
            wanted: Consistency::Offline,
        };
        let command = format!("docker pgvol prepare {of}");
        let order = Order { copies, waiting: Waiting::Nobody, begun, command };
        let making = self.make_copy(record, order, turns, move |record, _, taken| {
            refuse_unrecovered(&original, &taken)?;
            let snapshot = original.name.snapshot();
            let of = snapshot.ok_or(VolumeError::NoSnapshot(original.name))?;
            let prepared = Some(Prepared { of, sanitised });
            record.taken = Some(Box::new(Taken { prepared, ..taken }));
            Ok(())
        });
        making.made().await?;
        Ok(name)
    }

    /// What the snapshot of `record` was prepared to, if it was.
    pub(super) fn prepared(&self, record: &Record) -> Option<Record> {
        // By shares: a volume may have another name by now.
        let (volume, of) = record.share.snapshot()?;
        let is_its = |found: &Record| {
            let prepared = found.taken.as_ref().and_then(|taken| taken.prepared.as_ref());
            // Another of the same name may have been taken since.
            found.share.snapshot().is_some_and(|(found, _)| found == volume)
                && found.created == record.created
                && prepared.is_some_and(|prepared| prepared.of == of)
        };
        self.catalog.records(is_its).pop()
    }
}

fn prepared_name(of: &VolumeName) -> Result<VolumeName, VolumeError> {
    let unprepared = |reason: String| VolumeError::Unprepared { name: of.clone(), reason };
    let Some(snapshot) = of.snapshot() else { return Err(VolumeError::NoSnapshot(of.clone())) };
    let name = format!("{snapshot}{ENDING}");
    let name =
        name.parse().map_err(|_| unprepared(format!("`{name}` would be too long a name")))?;
    Ok(of.at(&name))
}

/// Whether it is what the snapshot was, and nothing is left to recover.
fn refuse_unrecovered(original: &Record, taken: &Taken) -> Result<(), VolumeError> {
    let refused = |reason: &str| VolumeError::Unprepared {
        name: original.name.clone(),
        reason: reason.to_owned(),
    };
    let clusters = |taken: &Taken| -> Vec<_> {
        let of = taken.clusters.iter();
        of.map(|one| (one.directory.clone(), one.system_identifier.clone())).collect()
    };
    if taken.clusters.is_empty() {
        return Err(refused("there is no cluster in it"));
    }
    if taken.consistency != Level::Offline {
        return Err(refused("its server did not end cleanly"));
    }
    if original.taken.as_deref().map(clusters) != Some(clusters(taken)) {
        return Err(refused("its clone holds other clusters"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "preparing_tests.rs"]
mod tests;
