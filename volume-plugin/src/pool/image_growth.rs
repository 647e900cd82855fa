//! The image grows ahead of use and shrinks again, under whatever is mounted from it.
//!
//! There are three sizes: the file's, all of it reserved, the loop device's and the file system's.
//! Growing raises them in this order, shrinking lowers them in the other, so that at each instant
//! none is larger than the one before it; and the file is durable before anything relies on it. A
//! process that is killed on the way leaves a file that is too long: the next start cuts it to
//! what the file system has, which undoes a growth and finishes a shrinking.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use plugin_sdk::failpoint;

use super::image::ImagePlan;
use super::image_size::{Bounds, floor, headroom};
use super::{Description, PoolError};
use crate::sys::btrfs::{self, Division};
use crate::sys::file::{self, Space};
use crate::sys::loopdev::LoopDevice;
use crate::sys::{Doing, SysError, step};

/// The size of an image that is mounted.
#[derive(Debug)]
pub(super) struct Growth {
    image: PathBuf,
    root: PathBuf,
    device: LoopDevice,
    bounds: Bounds,
    /// Held by whoever changes a size.
    changing: Mutex<()>,
}

/// What there is and what there could be.
struct Room {
    division: Division,
    space: Space,
    host: Space,
}

impl Growth {
    /// The size of the image of `plan`, which `device` is attached to and mounted.
    pub(super) fn new(plan: &ImagePlan, device: LoopDevice) -> Self {
        let ImagePlan { image, mount_point, bounds } = plan.clone();
        Self { image, root: mount_point, device, bounds, changing: Mutex::default() }
    }

    /// Undoes or finishes what a killed process left half done, and reserves what is not: a copy
    /// of an image may have holes.
    pub(super) fn settle(&self) -> Result<(), PoolError> {
        let _changing = self.change();
        let size = btrfs::size(&self.root).doing(|| format!("measure {}", self.root.display()))?;
        let image = self.open()?;
        self.finish(&image, size)?;
        // The volumes that there are go on without.
        if let Err(error) = self.keep_reserved(&image, size) {
            tracing::error!(%error, "the image's space is not all reserved: a full disk of the host would fail its volumes");
        }
        Ok(())
    }

    /// Cuts what a change that ended early has left of the image beyond what its file system has.
    fn finish(&self, image: &File, size: u64) -> Result<(), SysError> {
        let (length, attached) =
            self.sizes(image).doing(|| format!("measure {}", self.image.display()))?;
        if length > size || attached != size {
            tracing::info!(image = %self.image.display(), length, attached, size, "a change of the image's size was interrupted");
            self.cut(image)?;
        }
        Ok(())
    }

    pub(super) fn describe(&self) -> Result<Description, PoolError> {
        let Room { division, space, host } = self.room()?;
        Ok(Description {
            kind: "image",
            path: self.image.clone(),
            device: Some(self.device.node()),
            space,
            growable: self.bounds.growable(division.total, host),
        })
    }

    /// Grows by a step where little is free, and gives back one where the host has too little.
    pub(super) fn tend(&self) -> Result<bool, PoolError> {
        let _changing = match self.changing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Whoever changes the size knows why.
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        let room = self.room()?;
        let size = room.division.total;
        let image = self.open()?;
        self.finish(&image, size)?;
        self.keep_reserved(&image, size)?;
        if is_short(&room) {
            if let Some(to) = self.bounds.grown(size, room.host) {
                self.grow(size, to)?;
                return Ok(true);
            }
        } else if room.host.free < floor(room.host)
            && let Some(to) = self.bounds.shrunk(size, room.space.free)
        {
            tracing::warn!(image = %self.image.display(), free = room.host.free, "the host's disk fills: giving back what is free of the image");
            self.shrink(to)?;
        }
        Ok(false)
    }

    /// Shrinks step by step, so that a writer who needs the space in between gets it.
    pub(super) fn give_back(&self) -> Result<u64, PoolError> {
        let mut given = 0;
        loop {
            let _changing = self.change();
            let room = self.room()?;
            let size = room.division.total;
            let Some(to) = self.bounds.shrunk(size, room.space.free) else { return Ok(given) };
            match self.shrink(to) {
                Ok(()) => given += size - to,
                // What is free is scattered: more cannot be had without moving everything.
                Err(error) if error.is_full() && given > 0 => return Ok(given),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn grow(&self, size: u64, to: u64) -> Result<(), SysError> {
        let doing = || format!("grow {} from {size} to {to} bytes", self.image.display());
        let image = self.open()?;
        let grown = reserve(&image, size..to).and_then(|()| {
            self.device.follow_file()?;
            failpoint::reach("grow.device-follows")?;
            btrfs::resize(&self.root, to)?;
            failpoint::reach("grow.file-system-follows")
        });
        if let Err(error) = grown {
            self.cut(&image)?;
            return Err(error).doing(doing);
        }
        tracing::info!(image = %self.image.display(), size, to, "the image has grown");
        Ok(())
    }

    fn shrink(&self, to: u64) -> Result<(), SysError> {
        let doing = || format!("shrink {} to {to} bytes", self.image.display());
        let image = self.open()?;
        btrfs::resize(&self.root, to).doing(doing)?;
        step("shrink.file-system-shrunk")?;
        self.cut(&image)?;
        tracing::info!(image = %self.image.display(), to, "the image has shrunk");
        Ok(())
    }

    /// Cuts the file, and with it the device, to the size of the file system.
    fn cut(&self, image: &File) -> Result<(), SysError> {
        let cut = || {
            // Asked for here: nothing that the file system has is ever cut off.
            image.set_len(btrfs::size(&self.root)?)?;
            failpoint::reach("shrink.file-cut")?;
            self.device.follow_file()?;
            image.sync_all()
        };
        cut().doing(|| format!("cut {} to what its file system has", self.image.display()))
    }

    /// What was reserved may be given back behind our back, as by an `fstrim` on the host.
    fn keep_reserved(&self, image: &File, size: u64) -> Result<(), SysError> {
        let reserve = || {
            if file::reserved(image)? < size {
                file::reserve(image, 0..size)?;
                tracing::warn!(image = %self.image.display(), size, "the image's space was not reserved and is again");
            }
            Ok::<(), io::Error>(())
        };
        reserve().doing(|| format!("reserve {size} bytes of {}", self.image.display()))
    }

    fn sizes(&self, image: &File) -> io::Result<(u64, u64)> {
        Ok((image.metadata()?.len(), self.device.size()?))
    }

    fn room(&self) -> Result<Room, SysError> {
        let doing = || format!("measure {}", self.root.display());
        let node = self.device.node();
        let division = btrfs::division(&self.root, &node).doing(doing)?;
        let mut space = file::space(&self.root).doing(doing)?;
        let under_way = btrfs::under_way(&node).doing(doing)?;
        space.free = space.free.saturating_sub(under_way);
        let host = file::space(&self.image);
        let host = host.doing(|| format!("measure what {} is on", self.image.display()))?;
        Ok(Room { division, space, host })
    }

    fn open(&self) -> Result<File, SysError> {
        let image = File::options().read(true).write(true).open(&self.image);
        image.doing(|| format!("open {}", self.image.display()))
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Durably: after a power cut the file system must not be larger than its file.
fn reserve(image: &File, added: Range<u64>) -> io::Result<()> {
    image.set_len(added.end)?;
    failpoint::reach("grow.file-extended")?;
    file::reserve(image, added)?;
    failpoint::reach("grow.reserved")?;
    image.sync_all()
}

/// Whether it is time to grow: for what is written, or for metadata, which has its own share and
/// takes more of what is given to nobody yet.
fn is_short(room: &Room) -> bool {
    let Room { division, space, .. } = room;
    let headroom = headroom(division.total);
    let metadata_is_full = division.metadata_used > division.metadata / 4 * 3;
    space.free < headroom || (metadata_is_full && division.unallocated < headroom / 2)
}

#[cfg(test)]
#[path = "image_growth_tests.rs"]
mod tests;
