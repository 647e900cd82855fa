//! WAL out of a plain directory, while a server writes and recycles it.
//!
//! Every segment from the redo point on gets a second name at once, which costs nothing: the server
//! takes old segments under new names and overwrites them only when their turn comes, so that what has
//! a second name stays what it is for longer than its own name. Copied it is afterwards, when everything
//! else is, the newest segment first: each is then complete if a later one has been begun.
//!
//! Where the server is stopped, nothing of what it writes later may be in the copy: then only what has
//! been begun by now is held, and what is written of the newest of it is read before the server goes on.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path};
use std::time::Instant;

use crate::pool::{self, Pace, copy};
use crate::postgres::control::Control;
use crate::postgres::wal::{self, Segment};
use crate::sys::beneath::Dir;
use crate::sys::file::{self, FileId};

/// What the directory of second names is called, until it is done. It is aside in the file system that the live
/// share has for itself; or in the copy's share, among what the volume has in its root: then with a number behind
/// that nobody who writes there can know.
const LINKS: &str = ".links";

/// Largest segments that are kept in memory; larger ones are copied while the server waits.
const MOST_KEPT: u32 = 64 << 20;

/// A copy under way.
#[derive(Debug)]
pub(super) struct WalCopy {
    control: Control,
    live: Dir,
    target: Dir,
    links_in: Dir,
    links_name: String,
    links: Dir,
    linked: BTreeSet<Segment>,
    reach: Reach,
    /// What was written of the newest segment when the server was stopped.
    kept: Option<Kept>,
}

/// What was written of the newest segment before the server was stopped.
#[derive(Debug)]
pub(super) struct Early {
    segment: Segment,
    id: FileId,
    bytes: Vec<u8>,
}

impl Early {
    /// Reads it in the directory `live` of the cluster with this control file; none where there is nothing.
    pub(super) fn read(live: &Dir, control: &Control) -> io::Result<Option<Self>> {
        let size = control.details.wal_segment_size;
        if size > MOST_KEPT {
            return Ok(None);
        }
        let first = Segment::holding(control.redo, control.timeline, size);
        let mut segments = wal::list(live, size, first.number)?.0;
        segments.sort();
        for segment in segments.into_iter().rev() {
            let file = match live.open_file(&segment.file_name(size)) {
                // Recycled meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other?,
            };
            if let Some(mut bytes) = wal::written(&file, segment, control, Vec::new())? {
                // Of what is written meanwhile a page can be read half new with a whole one behind it; of what
                // had been found whole then only the last, which counts for nothing.
                file.read_exact_at(&mut bytes, 0)?;
                return Ok(Some(Self { segment, id: FileId::of(&file.metadata()?), bytes }));
            }
        }
        Ok(None)
    }
}

#[derive(Debug)]
struct Kept {
    segment: Segment,
    found: Metadata,
    bytes: Vec<u8>,
}

/// How far the copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// As far as there is WAL when it is copied.
    Open,
    /// As far as there was when the server was stopped.
    Closed,
}

impl WalCopy {
    /// Holds on to what is in the directory `place` of the share `live` from the redo point of `control`
    /// on, for a copy in the share at `share`; `beside` is on the mount of the former, where that has another
    /// file system than the latter.
    pub(super) fn begin(
        live: &Dir,
        share: &Dir,
        beside: Option<Dir>,
        place: &Path,
        control: Control,
    ) -> io::Result<Self> {
        let target = like(live, share, place)?;
        let live = live.open_dir(place)?;
        let (links_in, links_name) = if let Some(beside) = beside {
            (beside, LINKS.to_owned())
        } else {
            let number = RandomState::new().hash_one(Instant::now());
            (share.open_dir(Path::new("."))?, format!("{LINKS}-{number:016x}"))
        };
        // What an attempt that failed has left aside; a share goes with it.
        let links = links_in.ensure_dir(&links_name)?;
        pool::empty(&links)?;
        let (linked, reach) = (BTreeSet::new(), Reach::Open);
        let kept = None;
        let mut copy =
            Self { control, live, target, links_in, links_name, links, linked, reach, kept };
        copy.hold()?;
        Ok(copy)
    }

    /// Gives second names to what has none.
    fn hold(&mut self) -> io::Result<()> {
        let size = self.control.details.wal_segment_size;
        let first = Segment::holding(self.control.redo, self.control.timeline, size);
        for segment in wal::list(&self.live, size, first.number)?.0 {
            if self.linked.contains(&segment) {
                continue;
            }
            let name = segment.file_name(size);
            match self.live.handle(&name) {
                Ok(file) if file.metadata()?.is_file() => self.links.link(&file, &name)?,
                Ok(_) => continue,
                // Recycled meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            self.linked.insert(segment);
        }
        Ok(())
    }

    /// Ends the copy with what has been written by now; the server is stopped. `early` was read before.
    pub(super) fn close(&mut self, early: Option<Early>, pace: &Pace) -> io::Result<()> {
        let mut early = early;
        let size = self.control.details.wal_segment_size;
        while let Some(segment) = self.linked.pop_last() {
            if size > MOST_KEPT {
                if self.copy(segment, pace)? {
                    break;
                }
                continue;
            }
            let name = segment.file_name(size);
            let file = self.links.open_file(&name)?;
            // Its second name goes later: a file system may let that wait for its disk.
            let found = file.metadata()?;
            let is_it = |it: &mut Early| it.segment == segment && it.id == FileId::of(&found);
            let before = early.take_if(is_it).map_or_else(Vec::new, |it| it.bytes);
            let written = wal::written(&file, segment, &self.control, before)?;
            if let Some(bytes) = written {
                self.kept = Some(Kept { segment, found, bytes });
                break;
            }
        }
        self.reach = Reach::Closed;
        Ok(())
    }

    /// Writes what was kept in memory, as the segment that a server makes: what is behind reads as zeros.
    fn write(&self, kept: &Kept, pace: &Pace) -> io::Result<()> {
        let size = self.control.details.wal_segment_size;
        let Kept { segment, found, bytes } = kept;
        pace.write(size.into())?;
        let mut file = self.target.make_file(&segment.file_name(size), 0o600)?;
        file::reserve(&file, 0..size.into())?;
        file.write_all(bytes)?;
        pace.copied(size.into());
        copy::own(&file, found)
    }

    /// Copies what there is by now, or was when it was closed; not durably.
    pub(super) fn finish(mut self, pace: &Pace) -> io::Result<()> {
        let size = self.control.details.wal_segment_size;
        if self.reach == Reach::Open {
            self.hold()?;
        }
        if let Some(kept) = self.kept.take() {
            self.write(&kept, pace)?;
        }
        while let Some(segment) = self.linked.pop_last() {
            self.copy(segment, pace)?;
        }
        for history in wal::list(&self.live, size, u64::MAX)?.1 {
            match copy::one(&self.live, &history, &self.target, &history, pace) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => drop(other?),
            }
        }
        self.let_go()
    }

    /// Takes all second names away.
    fn let_go(&self) -> io::Result<()> {
        pool::empty(&self.links)?;
        self.links_in.remove_dir(Path::new(&self.links_name))
    }

    /// Copies the segment and lets its second name go; tells whether it has been begun: what is yet to
    /// be written still is another one, or empty.
    fn copy(&self, segment: Segment, pace: &Pace) -> io::Result<bool> {
        let name = segment.file_name(self.control.details.wal_segment_size);
        let begun = wal::belongs(&self.links.open_file(&name)?, segment, &self.control)?;
        if begun {
            copy::one(&self.links, &name, &self.target, &name, pace)?;
        }
        self.links.remove_file(&name)?;
        Ok(begun)
    }
}

/// What a copy that failed holds would stay where the server's WAL has no more room than its size, until
/// the next is taken.
impl Drop for WalCopy {
    fn drop(&mut self) {
        match self.let_go() {
            // It was finished.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "WAL is held until the next snapshot"),
            Ok(()) => {}
        }
    }
}

/// The directory `path` of `share`, made with those above it as they are in `live`; not durably.
pub(super) fn like(live: &Dir, share: &Dir, path: &Path) -> io::Result<Dir> {
    let mut dir = share.open_dir(Path::new("."))?;
    let mut so_far = std::path::PathBuf::new();
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        so_far.push(name);
        let found = live.metadata(&so_far)?;
        let made = dir.ensure_dir(name.to_str().ok_or(ErrorKind::InvalidFilename)?)?;
        made.set_owner(found.uid(), found.gid(), found.mode() & 0o7777)?;
        dir = made;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use plugin_sdk::durable;

    use super::*;
    use crate::postgres::wal::sample::{SIZE, Sample};

    #[test]
    fn a_copy_that_is_given_up_holds_nothing() {
        let top = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            durable::create_dir(&top.path().join(name), 0o700).unwrap();
            Dir::open(&top.path().join(name)).unwrap()
        };
        let wal = top.path().join("live/wal");
        let (live, share) = (open("live"), open("share"));
        durable::create_dir(&wal, 0o700).unwrap();
        let mut sample = Sample::new(3);
        let redo = sample.record(10, 0, &[7; 64]);
        sample.write(&wal);
        let names = || {
            let segment = Segment::holding(redo, 1, SIZE).file_name(SIZE);
            fs::metadata(wal.join(segment)).unwrap().nlink()
        };
        let begin = || {
            let (beside, control) = (Some(open("beside")), Sample::control(redo, redo));
            WalCopy::begin(&live, &share, beside, Path::new("wal"), control).unwrap()
        };
        let held = begin();
        assert_eq!(names(), 2);
        drop(held);
        assert_eq!(names(), 1);
        assert_eq!(fs::read_dir(top.path().join("beside")).unwrap().count(), 0);
        begin().finish(&Pace::until(std::time::Instant::now())).unwrap_err();
        assert_eq!(names(), 1);
    }
}
