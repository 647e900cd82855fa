//! Making clones: volumes of their own with the content of another volume or of a snapshot.

use std::sync::Arc;

use super::capture::{clusters, read_control};
use super::facts::Origin;
use super::taking::Copies;
use super::{Consistency, Taken, links, sanitise};
use crate::name::VolumeName;
use crate::pool::Captured;
use crate::sys::Doing;
use crate::volume::catalog::{Entry, Phase, Record};
use crate::volume::copies::{self, CloneSize, CloneSpec, Sanitise};
use crate::volume::error::VolumeError;
use crate::volume::options::RawOptions;
use crate::volume::service::Service;
use crate::volume::share::Share;

impl Service {
    /// Makes the clone `name`; again of the same origin is success.
    pub(crate) async fn make_clone(
        self: Arc<Self>,
        name: VolumeName,
        raw: &RawOptions,
    ) -> Result<(), VolumeError> {
        let asked = copies::clone(raw)?;
        // In the order of names, or two clones of each other would wait for ever.
        let mut names = vec![name.clone(), asked.from.volume()];
        names.sort();
        names.dedup();
        let mut turns = Vec::new();
        for name in &names {
            turns.push(self.turn(name).await);
        }
        match self.catalog.get(&name) {
            None => {}
            Some(Entry::Unreadable(reason)) => {
                return Err(VolumeError::Unreadable { name, reason });
            }
            Some(Entry::Volume(record)) if record.phase == Phase::Ready => {
                return match differences(&record, &asked) {
                    None => Ok(()),
                    Some(differences) => Err(VolumeError::Conflict { name, differences }),
                };
            }
            Some(Entry::Volume(record)) => self.clear_away(record).await?,
        }
        self.refuse_bad_settings()?;
        let of = self.settled(&asked.from).await?;
        let mut spec = of.spec.clone();
        spec.labels = asked.labels;
        spec.access = asked.access;
        let data = match asked.size {
            CloneSize::AsOrigin => of.spec.sizes.data,
            CloneSize::Given(size) => size,
        };
        spec.sizes = of.spec.sizes.of_copy(data);
        (spec.schedule, spec.keep) = (asked.schedule, asked.keep);
        let share = self.catalog.free_share(&name);
        let record = Record {
            wal_directories: of.wal_directories.clone(),
            ..Record::creating(name, share, spec)
        };
        self.refuse_when_short(&record).await?;
        let (live, copy) = (self.shares(&of).await?, self.shares(&record).await?);
        self.blocking(move |service| {
            copy.iter().try_for_each(Share::prepare_limit)?;
            let copies = Copies { of: &of, live: &live, copy: &copy, kind: Captured::Writable };
            service.make_copy(record, &copies, Consistency::Auto, |record, taken| {
                let origin = settle(record, &of, &copy, &taken, asked.sanitise)?;
                record.origin = Some(Box::new(origin));
                copy.iter().try_for_each(Share::begin_limit)
            })
        })
        .await?;
        self.schedules.wake();
        Ok(())
    }
}

/// What `record`, a clone, has that is not what is asked for.
fn differences(record: &Record, asked: &CloneSpec) -> Option<String> {
    let from = record.origin.as_ref().map(|origin| origin.from.to_string());
    if from.as_deref() == Some(asked.from.as_str()) {
        return None;
    }
    let from = from.map_or_else(|| "unset".to_owned(), |from| format!("`{from}`"));
    Some(format!("`from` is {from}, not `{}`", asked.from))
}

/// Makes of the copy what a server can run on beside that of the original.
fn settle(
    record: &Record,
    of: &Record,
    copy: &[Share],
    taken: &Taken,
    wanted: Sanitise,
) -> Result<Origin, VolumeError> {
    let mut disarmed = Vec::new();
    for cluster in clusters(of, &copy[0])? {
        let doing = || format!("prepare the cluster in {}", record.name);
        let (_, control) = read_control(&cluster.dir)?;
        let home = links::home(&cluster.dir);
        links::make_relative(&of.data(), &cluster, home.as_deref()).doing(doing)?;
        sanitise::forget_server(&cluster).doing(doing)?;
        if wanted == Sanitise::On {
            let told = sanitise::sanitise(&cluster, &record.name, control.version);
            disarmed.extend(told.doing(doing)?);
        }
    }
    Ok(Origin {
        from: of.name.clone(),
        at: record.created,
        consistency: taken.consistency,
        sanitised: (wanted == Sanitise::On).then_some(disarmed),
    })
}
