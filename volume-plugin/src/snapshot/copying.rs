//! One copy of a volume's shares, in the order that makes it recoverable.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;
use std::time::Instant;

use super::SnapshotError;
use super::capture::{Job, Live, Place, clusters, read_control};
use super::walcopy::{WalCopy, like};
use crate::pool::{Capture, Pace, copy};
use crate::postgres::control::{self, Control, Lsn};
use crate::sys::{Doing, step};
use crate::volume::error::VolumeError;
use crate::volume::share::Share;

impl Job<'_> {
    /// One copy, in the order that the module speaks of.
    pub(super) fn once(&self, live: &Live) -> Result<(), VolumeError> {
        self.prepare()?;
        let begun = Instant::now();
        let held = self.capture(live, self.pace, None)?;
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
    ) -> Result<Option<WalCopy>, VolumeError> {
        let by_files = |place: &&Place| self.live[place.share].capture() == Capture::FileByFile;
        let wal = live.wal.as_ref().filter(by_files);
        let control = match self.live[0].capture() {
            Capture::AtOnce => {
                self.live[0].snapshot(&self.copy[0], self.kind, pace)?;
                step("snapshot.data-captured")?;
                None
            }
            Capture::FileByFile => self.control_first(live)?,
        };
        let control = match (control, wal) {
            (None, Some(_)) => {
                let found = clusters(self.of, &self.copy[0])?;
                found.first().map(|found| read_control(&found.dir)).transpose()?.map(|(_, it)| it)
            }
            (control, _) => control,
        };
        let mut held = None;
        if let (Some(place), Some(mut control)) = (wal, control) {
            control.redo = since.unwrap_or(control.redo).min(control.redo);
            let (live, copy) = (self.live[place.share].open()?, self.copy[place.share].open()?);
            let (live, beside) = match self.live[place.share].aside()? {
                Some((live, beside)) => (live, Some(beside)),
                None => (live, None),
            };
            let begun = WalCopy::begin(&live, &copy, beside, &place.path, control);
            held = Some(begun.doing(|| "hold on to the WAL".to_owned())?);
        }
        step("snapshot.wal-held")?;
        self.others(live, wal, pace)?;
        Ok(held)
    }

    /// Copies the WAL that is held, and makes durable what was copied.
    pub(super) fn complete(&self, held: Option<WalCopy>) -> Result<(), VolumeError> {
        if let Some(held) = held {
            Self::timed(held.finish(self.pace), "copy the WAL")?;
        }
        for (_, copy) in self.by_file() {
            copy.open()?.sync_all().doing(|| format!("sync {}", copy.name))?;
        }
        Ok(step("snapshot.wal-captured")?)
    }

    /// The shares whose files are copied, each with its copy.
    fn by_file(&self) -> impl Iterator<Item = (&Share, &Share)> {
        let both = self.live.iter().zip(self.copy);
        both.filter(|(live, _)| live.capture() == Capture::FileByFile)
    }

    /// Everything but the data of a pool that captures at once, and the WAL of one that does not.
    fn others(&self, live: &Live, wal: Option<&Place>, pace: &Pace) -> Result<(), VolumeError> {
        let last = live.wal.as_ref().map_or(0, |place| place.share);
        if self.live[0].capture() == Capture::FileByFile {
            let data = self.of.data();
            self.files(0, wal, &data, &|path| live.is_control(path), pace)?;
            if !data.as_os_str().is_empty() {
                self.files(0, wal, Path::new(""), &|path| path == data, pace)?;
            }
        }
        let mut order: Vec<_> = (1..self.live.len()).collect();
        order.sort_by_key(|&share| share == last);
        for share in order {
            match self.live[share].capture() {
                Capture::AtOnce => {
                    self.live[share].snapshot(&self.copy[share], self.kind, pace)?;
                }
                Capture::FileByFile => {
                    self.files(share, wal, Path::new(""), &|_| false, pace)?;
                }
            }
        }
        Ok(())
    }

    /// The files below `top` of a share, but for the WAL and what is `except`ed by its path below `top`.
    fn files(
        &self,
        share: usize,
        wal: Option<&Place>,
        top: &Path,
        except: &dyn Fn(&Path) -> bool,
        pace: &Pace,
    ) -> Result<(), VolumeError> {
        let (live, copy) = (self.live[share].open()?, self.copy[share].open()?);
        let here = wal.filter(|place| place.share == share);
        let except =
            |path: &Path| except(path) || here.is_some_and(|place| top.join(path) == place.path);
        let copied = like(&live, &copy, top).and_then(|copy| {
            let live = if top.as_os_str().is_empty() { live } else { live.open_dir(top)? };
            copy::files(&live, &copy, &except, pace)
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
