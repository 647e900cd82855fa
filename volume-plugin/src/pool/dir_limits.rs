//! What shares of a directory of the host may hold: one that has a limit lies in an XFS image of its
//! own, made with it and reserved in full. (XFS, since the WAL is what lies here mostly: in a btrfs on a
//! loop device commits are several times slower, and to grow an ext4 in use takes a capability that no
//! plugin should ask for.)
//!
//! The image is mounted where nobody looks, and what it holds of the share is bound onto the share's
//! place; both for this process alone. It is larger than the limit: what the share may not have is in a
//! file beside it, of which some goes when the limit is raised. An image never shrinks.
//!
//! Invariants: an image under its final name is a whole file system; it is attached at most once; and
//! the place of a share that has one is shown to nobody without it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use plugin_sdk::durable;

use super::image::{attach, new_image};
use super::image_size::floor;
use super::{Aside, Charge, Count, Limit, PoolError, Space, erase};
use crate::name::ShareName;
use crate::sys::beneath::Dir;
use crate::sys::loopdev::LoopDevice;
use crate::sys::{Doing, SysError, file, mount, mountinfo, step, tool, xfs};

/// Below the pool's root; no share has a name like these.
const IMAGES: &str = ".images";
const MOUNTS: &str = ".mounts";

/// In an image: the share, what it may not have, and what nobody but this process sees.
const SHARE: &str = "share";
const KEPT: &str = "kept";
const ASIDE: &str = "aside";

/// mkfs writes a few MiB, whatever the size.
const MKFS_LIMIT: Duration = Duration::from_mins(1);

/// No discarding, which would give the reservation back to the host; nothing that an older kernel does
/// not know; a log that does not grow with the size; sectors of the loop device.
const MKFS: [&str; 12] = [
    "-q",
    "-f",
    "-K",
    "-m",
    "reflink=0,rmapbt=0,inobtcount=0",
    "-i",
    "nrext64=0",
    "-d",
    "agcount=2",
    "-s",
    "size=4096",
    LOG,
];

/// The least that mkfs takes, and that an image may have.
const LOG: &str = "-lsize=64m";
const LOG_SIZE: u64 = 64 << 20;
const LEAST: u64 = 300 << 20;

/// What XFS keeps for itself of what it shows: a reserve, which is always less than it would take, and a
/// little for its trees.
const RESERVE: u64 = 8 << 20;
const TREES: u64 = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct DirLimits {
    root: PathBuf,
    /// Held by whoever mounts, unmounts or changes a size.
    changing: Mutex<()>,
}

impl DirLimits {
    /// Of the shares in the directory `root`.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, changing: Mutex::default() }
    }

    /// Whether there can be limits.
    pub(super) fn prepare() -> Result<(), PoolError> {
        if mount::knows_file_system("xfs").doing(|| "look for xfs".to_owned())? {
            return Ok(());
        }
        Err(PoolError::NoLimits("the host's kernel has no XFS, for an image in a directory"))
    }

    /// Gives the share `name`, which is new and empty, an image, and shows it.
    pub(super) fn make(&self, name: &ShareName, limit: Limit) -> Result<(), PoolError> {
        Self::prepare()?;
        let images = self.root.join(IMAGES);
        durable::create_dir(&images, 0o700).doing(|| format!("make {}", images.display()))?;
        let (image, draft) = (self.image(name), self.draft(name));
        let size = image_size(limit);
        self.refuse_without_room(size)?;
        let made = format(&draft, size).and_then(|()| durable::rename(&draft, &image));
        if let Err(error) = made.doing(|| format!("make {}", image.display())) {
            // The space matters more than why it could not be given back.
            drop(durable::remove(&draft));
            return Err(error.into());
        }
        step("create.image-made")?;
        self.set(name, limit)
    }

    /// Sees to it that the share `name` shows what is in its image, if it has one.
    pub(super) fn show(&self, name: &ShareName) -> Result<(), PoolError> {
        if !self.has(name)? {
            return Ok(());
        }
        let place = self.root.join(name.as_str());
        let mounts = mountinfo::own().doing(|| format!("look at {}", place.display()))?;
        if mountinfo::at(&mounts, &place).is_none() {
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            self.mounted(name)?;
        }
        Ok(())
    }

    /// The share `name` may hold `limit` from here on, which is no less than it does.
    pub(super) fn limit(&self, name: &ShareName, limit: Option<Limit>) -> Result<(), PoolError> {
        match (self.has(name)?, limit) {
            (false, None) => Ok(()),
            (true, Some(limit)) => self.set(name, limit),
            (false, Some(_)) => Err(PoolError::NoLimits(
                "in a directory of the host a share has a size from its creation on or never",
            )),
            (true, None) => Err(PoolError::NoLimits(
                "in a directory of the host a share that has a size keeps one",
            )),
        }
    }

    /// What there is in the image of the share `name`, if it has one.
    pub(super) fn charge(&self, name: &ShareName) -> Result<Option<Charge>, PoolError> {
        if !self.has(name)? {
            return Ok(None);
        }
        self.show(name)?;
        let mounted = self.mount_point(name);
        let free = space(&mounted)?.free;
        let limit = usable(&mounted)?.saturating_sub(kept(&mounted));
        let charged = limit.saturating_sub(free);
        let (beside, captured, count) = (None, false, Count::Whole);
        Ok(Some(Charge { charged, limit: Some(limit), beside, captured, count }))
    }

    /// What is in the image of the share `name`, if it has one.
    pub(super) fn aside(&self, name: &ShareName) -> Result<Option<Aside>, PoolError> {
        if !self.has(name)? {
            return Ok(None);
        }
        self.show(name)?;
        let mounted = self.mount_point(name);
        Ok(Some(Aside { share: mounted.join(SHARE), beside: mounted.join(ASIDE) }))
    }

    /// Takes the image of the share `name` away, if it has one.
    pub(super) fn delete(&self, name: &ShareName) -> Result<(), PoolError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (image, mounted) = (self.image(name), self.mount_point(name));
        let take_away = || {
            durable::remove(&self.draft(name))?;
            if !image.try_exists()? {
                return Ok(());
            }
            for point in [&self.root.join(name.as_str()), &mounted] {
                mount::detach(point)?;
            }
            match fs::remove_dir(&mounted) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            durable::remove(&image)
        };
        Ok(take_away().doing(|| format!("delete {}", image.display()))?)
    }

    fn has(&self, name: &ShareName) -> Result<bool, PoolError> {
        let image = self.image(name);
        // One that leads nowhere is missed, not made anew.
        match fs::symlink_metadata(&image) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).doing(|| format!("look at {}", image.display()))?,
        }
    }

    fn set(&self, name: &ShareName, limit: Limit) -> Result<(), PoolError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let image = self.image(name);
        let file = self.open(name)?;
        let length = file.metadata().doing(|| format!("look at {}", image.display()))?.len();
        let size = image_size(limit).max(length);
        if size > length {
            self.refuse_without_room(size - length)?;
            let grown = file::reserve(&file, length..size).and_then(|()| file.sync_all());
            if let Err(error) = grown {
                // As far as nobody has seen it longer.
                file.set_len(length).ok();
                Err(error).doing(|| format!("grow {} to {size} bytes", image.display()))?;
            }
        }
        step("limit.image-grown")?;
        let device = self.mounted(name)?;
        let mounted = self.mount_point(name);
        // Said each time: it may be what a process that was killed has left to do.
        device
            .follow_file()
            .and_then(|()| xfs::grow(&mounted, size))
            .and_then(|()| xfs::reserve(&mounted, RESERVE))
            .doing(|| format!("grow the file system in {}", image.display()))?;
        let bytes = usable(&mounted)?.saturating_sub(limit.to_fill());
        keep(&mounted, bytes).doing(|| format!("keep {bytes} bytes of {}", image.display()))?;
        Ok(())
    }

    /// Mounts the image and binds the share onto its place, as far as that is not done; the caller
    /// holds `changing`.
    fn mounted(&self, name: &ShareName) -> Result<LoopDevice, PoolError> {
        let device = attach(&self.image(name))?;
        let (place, mounted) = (self.root.join(name.as_str()), self.mount_point(name));
        let doing = || format!("mount {} on {}", self.image(name).display(), place.display());
        let mounts = mountinfo::own().doing(doing)?;
        if mountinfo::at(&mounts, &mounted).is_none() {
            durable::create_dir(&mounted, 0o700).doing(doing)?;
            mount::xfs(&device.node(), &mounted).doing(doing)?;
            mount::make_private(&mounted).doing(doing)?;
            xfs::reserve(&mounted, RESERVE).doing(doing)?;
            let aside = Dir::open(&mounted).and_then(|dir| dir.ensure_dir(ASIDE));
            // What a process that was killed has left.
            aside.and_then(|aside| erase::empty(&aside)).doing(doing)?;
        }
        if mountinfo::at(&mounts, &place).is_none() {
            let share = Dir::open(&mounted).and_then(|dir| dir.ensure_dir(SHARE)).doing(doing)?;
            durable::create_dir(&place, 0o700).doing(doing)?;
            mount::bind(&share.path(), &place).doing(doing)?;
            mount::make_private(&place).doing(doing)?;
        }
        Ok(device)
    }

    fn open(&self, name: &ShareName) -> Result<File, PoolError> {
        let image = self.image(name);
        let file = File::options().read(true).write(true).open(&image);
        Ok(file.doing(|| format!("open {}", image.display()))?)
    }

    /// The host keeps its floor, as beside the images of pools.
    fn refuse_without_room(&self, bytes: u64) -> Result<(), PoolError> {
        let host = file::space(&self.root).doing(|| format!("measure {}", self.root.display()))?;
        let room = host.free.saturating_sub(floor(host));
        if room < bytes { Err(PoolError::NoRoom { wanted: bytes, room }) } else { Ok(()) }
    }

    /// What was reserved may be given back behind our back, as by an `fstrim` on the host; taken again
    /// as long as it is there.
    pub(super) fn keep_reserved(&self) -> Result<(), PoolError> {
        let images = self.root.join(IMAGES);
        let names = match fs::read_dir(&images) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.doing(|| format!("look at {}", images.display()))?,
        };
        let mut first = Ok(());
        for entry in names {
            let entry = entry.doing(|| format!("look at {}", images.display()))?;
            let path = entry.path();
            // Twice a second, and nearly always all is as it should be.
            let lacks = |found: fs::Metadata| found.blocks() * 512 < found.len();
            if path.extension().is_some_and(|ending| ending == "img")
                && entry.metadata().is_ok_and(lacks)
            {
                // One that there is no room for keeps no other from it.
                first = first.and(self.keep_reserved_one(&path));
            }
        }
        first
    }

    fn keep_reserved_one(&self, path: &Path) -> Result<(), PoolError> {
        let reserve = || -> io::Result<()> {
            // Deleted meanwhile, or by somebody else.
            let file = match File::options().read(true).write(true).open(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                other => other?,
            };
            if file::reserved(&file)? >= file.metadata()?.len() {
                return Ok(());
            }
            // It may be growing.
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            file::reserve(&file, 0..file.metadata()?.len())?;
            tracing::warn!(image = %path.display(), "the image's space was not reserved and is again");
            Ok(())
        };
        Ok(reserve().doing(|| format!("reserve {}", path.display()))?)
    }

    fn image(&self, name: &ShareName) -> PathBuf {
        self.root.join(IMAGES).join(format!("{name}.img"))
    }

    fn draft(&self, name: &ShareName) -> PathBuf {
        self.root.join(IMAGES).join(format!("{name}.new"))
    }

    fn mount_point(&self, name: &ShareName) -> PathBuf {
        self.root.join(MOUNTS).join(name.as_str())
    }
}

/// The image in which so much is usable.
fn image_size(limit: Limit) -> u64 {
    // Its trees grow with it.
    let size = limit.size + limit.size / 64 + LOG_SIZE + RESERVE + 2 * TREES;
    size.max(LEAST).next_multiple_of(1 << 20)
}

/// What the share could have of the file system if nothing was kept from it.
fn usable(mounted: &Path) -> Result<u64, PoolError> {
    Ok(space(mounted)?.total.saturating_sub(RESERVE + TREES))
}

fn space(mounted: &Path) -> Result<Space, SysError> {
    file::space(mounted).doing(|| format!("measure {}", mounted.display()))
}

fn kept(mounted: &Path) -> u64 {
    fs::metadata(mounted.join(KEPT)).map_or(0, |found| found.len())
}

/// Keeps `bytes` from the share, by a file that has them.
fn keep(mounted: &Path, bytes: u64) -> io::Result<()> {
    let file = File::options().write(true).create(true).truncate(false).open(mounted.join(KEPT))?;
    let before = file.metadata()?.len();
    if bytes > before {
        if let Err(error) = file::reserve(&file, before..bytes) {
            file.set_len(before)?;
            return Err(error);
        }
    } else {
        file.set_len(bytes)?;
    }
    file.sync_all()
}

/// Makes the file system in a file that becomes the image.
fn format(draft: &Path, size: u64) -> io::Result<()> {
    let file = new_image(draft, size)?;
    let arguments = MKFS.iter().map(Path::new).chain([draft]).collect::<Vec<_>>();
    tool::run("mkfs.xfs", &arguments, MKFS_LIMIT)?;
    file.sync_all()
}

#[cfg(test)]
#[path = "dir_limits_tests.rs"]
mod tests;
