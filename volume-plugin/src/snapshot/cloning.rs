//! Making clones: volumes of their own with the content of another volume or of a snapshot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::anew::{Unattended, Way};
use super::capture::read_control;
use super::checks::CLUSTERS;
use super::facts::{Origin, Original};
use super::inside::{self, Tablespace};
use super::live::search;
use super::taking::{Copies, Order};
use super::{
    Consistency, Making, SnapshotError, Taken, Waiting, Work, backing_up, links, sanitise,
};
use crate::name::VolumeName;
use crate::pool::Captured;
use crate::postgres::cluster::{self, Search};
use crate::sys::Doing;
use crate::volume::catalog::Record;
use crate::volume::copies::{self, CloneSize, CloneSpec, Sanitise};
use crate::volume::error::VolumeError;
use crate::volume::options::{self, RawOptions};
use crate::volume::service::Service;
use crate::volume::share::Share;

impl Service {
    /// Begins to make the clone `name`; none where it is there already, of the same origin.
    pub(crate) async fn make_clone(
        self: Arc<Self>,
        name: VolumeName,
        raw: &RawOptions,
        waiting: Waiting,
    ) -> Result<Option<Making>, VolumeError> {
        let begun = Instant::now();
        let asked = copies::clone(raw)?;
        let in_the_way = |work: &Work| {
            let same = work.of == asked.from && asked.from.snapshot().is_none();
            same || work.name == name
        };
        let turns = self.turns_without(&[&name, &asked.from], in_the_way).await?;
        let left = match self.way_for(&name, waiting).await? {
            Way::Gone => return Ok(None),
            Way::Made(record) => {
                return match differences(&record, &asked) {
                    None => Ok(None),
                    Some(differences) => Err(VolumeError::Conflict { name, differences }),
                };
            }
            Way::Free(left) => left,
        };
        let unattended = Unattended::of(waiting, raw, left.as_ref());
        self.refuse_bad_settings()?;
        let of = self.settled(&asked.from).await?;
        refuse_disarmed(&of, &asked)?;
        let prepared = if asked.prepared { self.prepared(&of) } else { None };
        let source = prepared.unwrap_or_else(|| of.clone());
        let mut spec = of.spec.clone();
        spec.labels = asked.labels;
        spec.access = asked.access;
        let data = match asked.size {
            CloneSize::AsOrigin => of.spec.sizes.data,
            CloneSize::Given(size) => size,
        };
        spec.sizes = of.spec.sizes.of_copy(data);
        (spec.schedule, spec.keep) = (asked.schedule, asked.keep);
        let share = left.map_or_else(|| self.catalog.free_share(&name), |left| left.share);
        let record = Record {
            unattended,
            wal_directories: source.wal_directories.clone(),
            ..Record::creating(name, share, spec)
        };
        self.refuse_when_short(&record, begun).await?;
        let replica = if asked.sanitise == Sanitise::Off { " --unsanitized" } else { "" };
        let command = format!("docker pgvol clone{replica} {} {}", of.name, record.name);
        let copies = Copies {
            live: self.shares(&source).await?,
            copy: self.shares(&record).await?,
            of: source,
            kind: Captured::Writable,
            wanted: Consistency::Auto,
        };
        let order = Order { copies, waiting, begun, command };
        Ok(Some(self.make_copy(record, order, turns, move |record, copies, taken| {
            let mut origin = settle(record, copies, &taken, asked.sanitise)?;
            // Whatever it was prepared to, it is the snapshot's state.
            origin.original = Some(Original::of(&of));
            origin.from = of.name;
            if let Some(taken) = of.taken {
                origin.consistency = taken.consistency;
            }
            record.origin = Some(Box::new(origin));
            copies.copy.iter().try_for_each(Share::begin_limit)
        })))
    }
}

/// What was prepared is disarmed, and nothing brings back what it was.
fn refuse_disarmed(of: &Record, asked: &CloneSpec) -> Result<(), VolumeError> {
    let Some(prepared) = of.taken.as_ref().and_then(|taken| taken.prepared.as_ref()) else {
        return Ok(());
    };
    let original = of.name.at(&prepared.of);
    let allowed = format!("{} was disarmed for clones: name {original}", of.name);
    match (asked.sanitise, asked.prepared) {
        (Sanitise::Off, _) => Err(options::bad("sanitize", "off", &allowed).into()),
        (_, false) => Err(options::bad("prepared", "off", &allowed).into()),
        _ => Ok(()),
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
    copies: &Copies,
    taken: &Taken,
    wanted: Sanitise,
) -> Result<Origin, VolumeError> {
    let mut disarmed = Vec::new();
    let backed_up = taken.backed_up();
    let Copies { of, copy, .. } = copies;
    let Search { found, cut } = search(of, &copy[0])?;
    if let (Sanitise::On, Some(reason)) = (wanted, cut) {
        let reason = format!("{reason}: what is not found is not disarmed (`sanitize=off` is)");
        return Err(SnapshotError::Check { check: CLUSTERS, reason }.into());
    }
    for cluster in found {
        let doing = || format!("prepare the cluster in {}", record.name);
        let (_, control) = read_control(&cluster.dir)?;
        let home = links::home(&cluster.dir);
        let wal = inside::wal_place(of, copy, &cluster, &control)?.path;
        let mut links = vec![(PathBuf::from(cluster::WAL), wal)];
        for Tablespace { name, home, .. } in inside::tablespaces(copy, &cluster.dir, &control)? {
            let link = Path::new(cluster::TABLESPACES).join(name);
            links.extend(home.map(|home| (link, home.path)));
        }
        links::make_relative(&of.data(), &cluster, links, home.as_deref()).doing(doing)?;
        sanitise::forget_server(&cluster).doing(doing)?;
        if backed_up.contains(&cluster.path) {
            backing_up::forget_own(&cluster).doing(doing)?;
        }
        backing_up::forget_map(&cluster).doing(doing)?;
        if let Some(backup) = &taken.backup {
            backing_up::put_label(&cluster, backup).doing(doing)?;
        }
        if wanted == Sanitise::On {
            let in_recovery = control.is_in_recovery();
            let told = sanitise::sanitise(&cluster, &record.name, control.version, in_recovery);
            disarmed.extend(told.doing(doing)?);
        }
        cluster.dir.sync().doing(doing)?;
    }
    let prepared = taken.prepared.as_ref();
    if let Some(prepared) = prepared {
        disarmed.extend(prepared.sanitised.iter().cloned());
    }
    Ok(Origin {
        from: of.name.clone(),
        original: None,
        at: record.created,
        consistency: taken.consistency,
        prepared: prepared.is_some(),
        sanitised: (wanted == Sanitise::On).then_some(disarmed),
    })
}
