//! Copies that were being made while nobody waited when the plugin ended, which its next start begins anew.
//!
//! What there is of such a copy is worth nothing: WAL that was held for it and a backup of the server went with
//! the process. It is deleted, and the copy is made once more, of what there is by then. Its record, which
//! has what was asked for, stays all the while, so that no further kill loses it; and whoever looks sees
//! what is being made. After [`MOST_STARTS`] of them it is given up: what ends the plugin each time may be this.

use std::sync::Arc;

use plugin_sdk::chain::chain;
use serde::{Deserialize, Serialize};

use super::{SnapshotError, Waiting};
use crate::name::{ShareName, VolumeName};
use crate::volume::catalog::{Entry, Phase, Record};
use crate::volume::error::VolumeError;
use crate::volume::options::RawOptions;
use crate::volume::removal;
use crate::volume::service::Service;

/// How many starts begin a copy anew.
pub(super) const MOST_STARTS: u32 = 5;

/// What was asked for, of a copy that is made while nobody waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unattended {
    /// As after `-o`.
    pub options: RawOptions,
    /// How many starts of the plugin have found it unfinished.
    #[serde(default)]
    pub starts: u32,
}

/// What there is under the name of a copy that is asked for.
pub(super) enum Way {
    /// Nothing, or nothing any more; but of what is begun anew, its record.
    Free(Option<Left>),
    /// It is made.
    Made(Box<Record>),
    /// It was to be begun anew, and somebody has removed it.
    Gone,
}

/// What is kept of a copy that is begun anew.
pub(super) struct Left {
    pub(super) share: ShareName,
    pub(super) starts: u32,
}

impl Unattended {
    /// What is noted of a copy that is asked for by `options`, if anything is.
    pub(super) fn of(
        waiting: Waiting,
        options: &RawOptions,
        left: Option<&Left>,
    ) -> Option<Box<Self>> {
        let starts = left.map_or(0, |left| left.starts);
        let noted = || Box::new(Self { options: options.clone(), starts });
        matches!(waiting, Waiting::Nobody | Waiting::Restarted).then(noted)
    }
}

impl Record {
    /// Of what a copy is made that no process makes at present; none of anything else.
    pub(crate) fn left_of(&self) -> Option<VolumeName> {
        let asked = self.unattended.as_ref().filter(|_| self.phase == Phase::Creating)?;
        match self.name.snapshot() {
            Some(_) => Some(self.name.volume()),
            None => asked.options.get("from")?.parse().ok(),
        }
    }
}

impl Service {
    /// Of what the copy `name` is made, if it was being made when the last process ended and has not been begun
    /// anew yet.
    pub(crate) fn left_of(&self, name: &VolumeName) -> Option<VolumeName> {
        match self.catalog.get(name)? {
            // What this process began and did not end is another matter.
            Entry::Volume(record) if self.copies.last_of(name).is_none() => record.left_of(),
            _ => None,
        }
    }

    /// Clears the way for the copy `name`; the caller has its turn.
    pub(super) async fn way_for(
        self: &Arc<Self>,
        name: &VolumeName,
        waiting: Waiting,
    ) -> Result<Way, VolumeError> {
        match self.catalog.get(name) {
            None if waiting == Waiting::Restarted => Ok(Way::Gone),
            None => Ok(Way::Free(None)),
            Some(Entry::Unreadable(reason)) => {
                Err(VolumeError::Unreadable { name: name.clone(), reason })
            }
            Some(Entry::Volume(record)) if record.phase == Phase::Ready => {
                Ok(Way::Made(Box::new(record)))
            }
            Some(Entry::Volume(record)) if waiting == Waiting::Restarted => {
                let shares = self.shares(&record).await?;
                self.blocking(move |_| removal::delete(&shares)).await?;
                let starts = record.unattended.map_or(0, |asked| asked.starts);
                Ok(Way::Free(Some(Left { share: record.share, starts })))
            }
            Some(Entry::Volume(record)) => {
                self.clear_away(record).await?;
                Ok(Way::Free(None))
            }
        }
    }

    /// Begins anew what was being made while nobody waited when the last process ended. What cannot be is
    /// forgotten, and told.
    pub(crate) async fn begin_left_copies(self: &Arc<Self>) {
        for (name, entry) in self.catalog.all() {
            let Entry::Volume(record) = entry else { continue };
            let Some(of) = record.left_of() else { continue };
            let Err(error) = Box::pin(self.begin_anew(&name)).await else { continue };
            tracing::error!(volume = %name, error = chain(&error), "it is not begun anew");
            let why = chain(&error);
            if let Err(error) = self.forget_left(&name).await {
                tracing::error!(volume = %name, error = chain(&error), "an interrupted operation stays unfinished");
            }
            self.copies.begin(&name, &of, Waiting::Restarted).end(Err(why));
        }
    }

    async fn begin_anew(self: &Arc<Self>, name: &VolumeName) -> Result<(), VolumeError> {
        let turn = self.turn(name).await;
        let Some(Entry::Volume(mut record)) = self.catalog.get(name) else { return Ok(()) };
        let is_left = self.left_of(name).is_some();
        let Some(asked) = record.unattended.as_mut().filter(|_| is_left) else { return Ok(()) };
        asked.starts += 1;
        let Unattended { options, starts } = Unattended::clone(asked);
        if starts > MOST_STARTS {
            return Err(SnapshotError::GivenUp.into());
        }
        self.blocking(move |service| Ok(service.catalog.put(record)?)).await?;
        drop(turn);
        tracing::warn!(volume = %name, starts, "it was being made when the plugin ended, and is begun anew");
        let begun = Arc::clone(self).copy_for(name.clone(), &options, Waiting::Restarted);
        begun.await.map(drop)
    }

    /// Forgets a copy that no process makes; refused where there is none.
    pub(super) async fn forget_left(
        self: &Arc<Self>,
        name: &VolumeName,
    ) -> Result<(), VolumeError> {
        let _turn = self.turn(name).await;
        match self.catalog.get(name) {
            Some(Entry::Volume(record))
                if record.left_of().is_some() && self.copies.of(name).is_none() =>
            {
                self.clear_away(record).await
            }
            _ => Err(VolumeError::NotMade(name.clone())),
        }
    }
}

#[cfg(test)]
#[path = "anew_tests.rs"]
mod tests;
