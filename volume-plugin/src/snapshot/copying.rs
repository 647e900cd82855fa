//! One copy of a volume's shares, in the order that makes it recoverable.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use super::capture::{Job, Live, Place, micros, read_control};
use super::walcopy::{Early, WalCopy, like};
use super::{SnapshotError, Stall, backing_up};
use crate::pool::ahead::{self, Ahead};
use crate::pool::{Capture, Pace, copy};
use crate::postgres::control::{self, Control, Lsn};
use crate::sys::{Doing, step};
use crate::volume::error::VolumeError;
use crate::volume::share::Share;

/// What was copied ahead, by share and by the directory in it.
#[derive(Debug, Default)]
pub(super) struct Aheads {
    files: RefCell<BTreeMap<(usize, PathBuf), Ahead>>,
    wal: RefCell<Option<Early>>,
}

/// How files are copied.
#[derive(Clone, Copy)]
pub(super) enum Pass<'a> {
    /// Once.
    Only,
    /// Before they are captured.
    Ahead(&'a Aheads),
    /// What has changed since.
    Again(&'a Aheads),
}

impl Job<'_> {
    /// One copy, in the order that the module speaks of.
    pub(super) fn once(&self, live: &Live) -> Result<(), VolumeError> {
        self.prepare()?;
        let begun = Instant::now();
        let held = self.capture(live, self.pace, None, Pass::Only)?;
        self.capture_took.set(begun.elapsed());
        self.complete(held)
    }

    /// Makes the shares that files are copied into.
    pub(super) fn prepare(&self) -> Result<(), VolumeError> {
        self.by_file().try_for_each(|(_, copy)| copy.create_bare())
    }

    /// Captures everything but WAL that lies in files: that is held, for [`Self::complete`]. Not
    /// durable where files are copied. WAL is held from `since` on, where that is before the redo point.
    pub(super) fn capture(
        &self,
        live: &Live,
        pace: &Pace,
        since: Option<Lsn>,
        pass: Pass<'_>,
    ) -> Result<Option<WalCopy>, VolumeError> {
        let wal = self.wal_in_files(live);
        let clock = Clock::default();
        let control = match self.live[0].capture() {
            Capture::AtOnce => {
                self.live[0].snapshot(&self.copy[0], self.kind, pace)?;
                step("snapshot.data-captured")?;
                None
            }
            Capture::FileByFile => self.control_first(live)?,
        };
        let data_us = clock.lap();
        let control = match (control, wal) {
            (None, Some(_)) => self.captured_control(live)?,
            (control, _) => control,
        };
        let held = match (wal, control) {
            (Some(wal), Some(mut control)) => {
                control.redo = since.unwrap_or(control.redo).min(control.redo);
                Some(self.hold(live, wal, control)?)
            }
            _ => None,
        };
        let holding_us = clock.lap();
        step("snapshot.wal-held")?;
        self.others(live, wal, pace, pass)?;
        let others_us = clock.lap();
        self.parts.set(Stall { data_us, holding_us, others_us, ..Stall::default() });
        Ok(held)
    }

    /// Captures everything while nobody writes to it: in any order, so at the same time what a disk is waited
    /// for and what is copied from memory. What was copied ahead is copied again where it has changed.
    pub(super) fn capture_stopped(
        &self,
        live: &Live,
        pace: &Pace,
        aheads: &Aheads,
    ) -> Result<Option<WalCopy>, VolumeError> {
        let pass = Pass::Again(aheads);
        let mut held = None;
        if self.live[0].capture() == Capture::FileByFile {
            held = self.capture(live, pace, None, pass)?;
            self.close(&mut held, aheads, pace)?;
            return Ok(held);
        }
        let (from, to, kind) = (&self.live[0], &self.copy[0], self.kind);
        let data = || {
            let clock = Clock::default();
            from.snapshot(to, kind, pace)?;
            step("snapshot.data-captured")?;
            Ok::<_, VolumeError>(clock.lap())
        };
        thread::scope(|scope| {
            let data = scope.spawn(data);
            let mut rest = || {
                let clock = Clock::default();
                if let (Some(wal), [found]) = (self.wal_in_files(live), &live.clusters[..]) {
                    held = Some(self.hold(live, wal, read_control(&found.dir)?.1)?);
                }
                let holding_us = clock.lap();
                step("snapshot.wal-held")?;
                self.others(live, self.wal_in_files(live), pace, pass)?;
                let others_us = clock.lap();
                self.parts.set(Stall { holding_us, others_us, ..Stall::default() });
                self.close(&mut held, aheads, pace)
            };
            let rest = rest();
            let data_us = data.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            self.parts.set(Stall { data_us, ..self.parts.get() });
            rest
        })?;
        Ok(held)
    }

    /// Ends the WAL that is held where it ends by now.
    fn close(
        &self,
        held: &mut Option<WalCopy>,
        aheads: &Aheads,
        pace: &Pace,
    ) -> Result<(), VolumeError> {
        let clock = Clock::default();
        if let Some(held) = held {
            held.close(aheads.wal.borrow_mut().take(), pace)
                .doing(|| "read the last of the WAL".to_owned())?;
        }
        self.parts.set(Stall { wal_us: clock.lap(), ..self.parts.get() });
        Ok(())
    }

    /// Holds on to the WAL from the redo point of `control` on, or from where the base backup began that the
    /// cluster is.
    fn hold(
        &self,
        seen: &Live,
        place: &Place,
        mut control: Control,
    ) -> Result<WalCopy, VolumeError> {
        let of = |found| backing_up::label_in(found, &seen.in_production);
        let label = seen.clusters.first().and_then(of);
        control.redo = label.map_or(control.redo, |label| label.start.min(control.redo));
        let (live, copy) = (self.live[place.share].open()?, self.copy[place.share].open()?);
        let (live, beside) = match self.live[place.share].aside()? {
            Some((live, beside)) => (live, Some(beside)),
            None => (live, None),
        };
        let begun = WalCopy::begin(&live, &copy, beside, &place.path, control);
        Ok(begun.doing(|| "hold on to the WAL".to_owned())?)
    }

    /// Copies files as they are by now, so that less is to be copied while nobody writes to them.
    pub(super) fn ahead(&self, live: &Live) -> Result<Aheads, VolumeError> {
        let aheads = Aheads::default();
        self.others(live, self.wal_in_files(live), self.pace, Pass::Ahead(&aheads))?;
        Ok(aheads)
    }

    /// Reads the WAL that is being written, so that less is to be read while nobody writes to it.
    pub(super) fn wal_ahead(&self, live: &Live, aheads: &Aheads) -> Result<(), VolumeError> {
        if let (Some(wal), [found]) = (self.wal_in_files(live), &live.clusters[..]) {
            let directory = self.live[wal.share].open()?.open_dir(&wal.path);
            let control = read_control(&found.dir)?.1;
            let early = directory.and_then(|directory| Early::read(&directory, &control));
            *aheads.wal.borrow_mut() = early.doing(|| "read the WAL".to_owned())?;
        }
        Ok(())
    }

    /// Where the WAL is, if it is copied file by file.
    fn wal_in_files<'a>(&self, live: &'a Live) -> Option<&'a Place> {
        let by_files = |place: &&Place| self.live[place.share].capture() == Capture::FileByFile;
        live.wal.as_ref().filter(by_files)
    }

    /// The control file of the one cluster in the data that was captured; none where it is there no more.
    fn captured_control(&self, live: &Live) -> Result<Option<Control>, VolumeError> {
        let Some(found) = live.clusters.first() else { return Ok(None) };
        let place = self.of.data().join(&found.path);
        let copied = self.copy[0].open()?;
        let cluster =
            if place.as_os_str().is_empty() { Ok(copied) } else { copied.open_dir(&place) };
        // What was moved meanwhile is missed by the checks.
        let Ok(cluster) = cluster else { return Ok(None) };
        Ok(Some(read_control(&cluster)?.1))
    }

    /// Copies the WAL that is held, and makes durable what was copied.
    pub(super) fn complete(&self, held: Option<WalCopy>) -> Result<(), VolumeError> {
        if let Some(held) = held {
            Self::timed(held.finish(self.pace), "copy the WAL")?;
        }
        for (_, copy) in self.by_file() {
            copy::make_durable(&copy.open()?).doing(|| format!("sync {}", copy.name))?;
        }
        Ok(step("snapshot.wal-captured")?)
    }

    /// The shares whose files are copied, each with its copy.
    fn by_file(&self) -> impl Iterator<Item = (&Share, &Share)> {
        let both = self.live.iter().zip(self.copy);
        both.filter(|(live, _)| live.capture() == Capture::FileByFile)
    }

    /// Everything but the data of a pool that captures at once, and the WAL of one that does not.
    fn others(
        &self,
        live: &Live,
        wal: Option<&Place>,
        pace: &Pace,
        pass: Pass<'_>,
    ) -> Result<(), VolumeError> {
        let last = live.wal.as_ref().map_or(0, |place| place.share);
        if self.live[0].capture() == Capture::FileByFile {
            let data = self.of.data();
            let but_control = |path: &Path| live.is_control(path);
            self.files((0, &data), wal, &but_control, pace, pass)?;
            if !data.as_os_str().is_empty() {
                self.files((0, Path::new("")), wal, &|path| path == data, pace, pass)?;
            }
        }
        let mut order: Vec<_> = (1..self.live.len()).collect();
        order.sort_by_key(|&share| share == last);
        for share in order {
            match self.live[share].capture() {
                Capture::AtOnce if matches!(pass, Pass::Ahead(_)) => {}
                Capture::AtOnce => {
                    self.live[share].snapshot(&self.copy[share], self.kind, pace)?;
                }
                Capture::FileByFile => {
                    self.files((share, Path::new("")), wal, &|_| false, pace, pass)?;
                }
            }
        }
        Ok(())
    }

    /// The files below `top` of a share, but for the WAL and what is `except`ed by its path below `top`.
    fn files(
        &self,
        (share, top): (usize, &Path),
        wal: Option<&Place>,
        except: &dyn Fn(&Path) -> bool,
        pace: &Pace,
        pass: Pass<'_>,
    ) -> Result<(), VolumeError> {
        let (live, copy) = (self.live[share].open()?, self.copy[share].open()?);
        let here = wal.filter(|place| place.share == share);
        let except =
            |path: &Path| except(path) || here.is_some_and(|place| top.join(path) == place.path);
        let copied = like(&live, &copy, top).and_then(|copy| {
            let live = if top.as_os_str().is_empty() { live } else { live.open_dir(top)? };
            let key = (share, top.to_owned());
            match pass {
                Pass::Only => copy::files(&live, &copy, &except, pace),
                Pass::Ahead(aheads) => {
                    let copied = ahead::copy(&live, &copy, &except, pace)?;
                    aheads.files.borrow_mut().insert(key, copied);
                    Ok(())
                }
                Pass::Again(aheads) => match aheads.files.borrow().get(&key) {
                    Some(ahead) => ahead.copy_again(&live, &copy, &except, pace),
                    None => copy::files(&live, &copy, &except, pace),
                },
            }
        });
        Self::timed(copied, "copy files")
    }

    /// The control file, before anything else of a cluster that is copied file by file.
    fn control_first(&self, live: &Live) -> Result<Option<Control>, VolumeError> {
        let [found] = &live.clusters[..] else { return Ok(None) };
        let (bytes, control) = read_control(&found.dir)?;
        let global = self.of.data().join(&found.path).join("global");
        let (live, copy) = (self.live[0].open()?, self.copy[0].open()?);
        let write = || {
            let global = like(&live, &copy, &global)?;
            let name = Path::new("pg_control");
            let found = found.dir.metadata(Path::new(control::PATH))?;
            let mut file = global.make_file(name, 0o600)?;
            file.write_all(&bytes)?;
            fchown(&file, Some(found.uid()), Some(found.gid()))
        };
        write().doing(|| "copy the control file".to_owned())?;
        Ok(Some(control))
    }

    pub(super) fn timed(done: std::io::Result<()>, what: &str) -> Result<(), VolumeError> {
        match done {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Err(SnapshotError::TimeOut.into())
            }
            other => Ok(other.doing(|| what.to_owned())?),
        }
    }
}

/// Tells how long it is since it was asked last.
struct Clock(Cell<Instant>);

impl Default for Clock {
    fn default() -> Self {
        Self(Cell::new(Instant::now()))
    }
}

impl Clock {
    fn lap(&self) -> u64 {
        micros(self.0.replace(Instant::now()).elapsed())
    }
}
