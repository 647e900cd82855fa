//! WAL out of a plain directory, while a server writes and recycles it.
//!
//! Every segment from the redo point on gets a second name at once, which costs nothing: the server
//! takes old segments under new names and overwrites them only when their turn comes, so that what has
//! a second name stays what it is for longer than its own name. Copied it is afterwards, when everything
//! else is, the newest segment first: each is then complete if a later one has been begun.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};
use std::time::Instant;

use crate::pool::copy;
use crate::postgres::control::Control;
use crate::postgres::wal::{self, Segment};
use crate::sys::beneath::Dir;

/// The directory of second names, in the copy's share until it is done.
const LINKS: &str = ".links";

/// A copy under way.
#[derive(Debug)]
pub(super) struct WalCopy<'a> {
    control: &'a Control,
    live: Dir,
    share: Dir,
    target: Dir,
    links: Dir,
    linked: BTreeSet<Segment>,
}

impl<'a> WalCopy<'a> {
    /// Holds on to what is in the directory `place` of the share `live` from the redo point of `control`
    /// on, for a copy in the share at `share`.
    pub(super) fn begin(
        live: &Dir,
        share: Dir,
        place: &Path,
        control: &'a Control,
    ) -> io::Result<Self> {
        let target = like(live, &share, place)?;
        let live = live.open_dir(place)?;
        let links = share.make_dir(LINKS)?;
        let mut copy = Self { control, live, share, target, links, linked: BTreeSet::new() };
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

    /// Copies what there is by now, durably.
    pub(super) fn finish(mut self, deadline: Instant) -> io::Result<()> {
        self.hold()?;
        let size = self.control.details.wal_segment_size;
        for segment in self.linked.iter().rev() {
            let name = segment.file_name(size);
            // What is yet to be written still is another one, or empty.
            if wal::belongs(&self.links.open_file(&name)?, *segment, self.control)? {
                copy::one(&self.links, &name, &self.target, &name, deadline)?.sync_all()?;
            }
            self.links.remove_file(&name)?;
        }
        for history in wal::list(&self.live, size, u64::MAX)?.1 {
            match copy::one(&self.live, &history, &self.target, &history, deadline) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.and_then(|file: File| file.sync_all())?,
            }
        }
        self.share.remove_dir(Path::new(LINKS))?;
        self.target.sync()?;
        self.share.sync()
    }
}

/// The directory `path` of `share`, made with those above it as they are in `live`.
pub(super) fn like(live: &Dir, share: &Dir, path: &Path) -> io::Result<Dir> {
    let mut dir = share.open_dir(Path::new("."))?;
    let mut so_far = std::path::PathBuf::new();
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        so_far.push(name);
        let found = live.metadata(&so_far)?;
        let made = dir.ensure_dir(name.to_str().ok_or(ErrorKind::InvalidFilename)?)?;
        made.set_owner(found.uid(), found.gid(), found.mode() & 0o7777)?;
        dir.sync()?;
        dir = made;
    }
    Ok(dir)
}
