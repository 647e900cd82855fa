//! A pool in a btrfs image: a file on the host's file system, reserved in full, attached to a
//! loop device and mounted where only this plugin sees it. One subvolume per share.
//!
//! Invariants: the image is attached at most once, since btrfs mounts a second loop device on
//! the same image without complaint and two writers destroy it; an image under its final name
//! is a whole file system. A running container keeps file system and loop device alive without
//! us: a plugin that comes back finds the device by its backing file and mounts the same again.
//!
//! How it grows is in `image_growth`, what shares may hold in `image_limits`.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugin_sdk::{durable, failpoint};

use super::image_growth::Growth;
use super::image_limits::Limits;
use super::image_size::Bounds;
use super::tree::{self, FileSystem};
use super::{
    Capture, Captured, Charge, Description, Directory, Limit, Pace, Pool, PoolError, erase,
};
use crate::name::ShareName;
use crate::sys::beneath::Dir;
use crate::sys::loopdev::{self, LoopDevice};
use crate::sys::{Doing, btrfs, file, mount, mountinfo, step, tool};

/// mkfs without discarding writes a few MiB, whatever the size.
const MKFS_LIMIT: Duration = Duration::from_mins(1);

/// Where an image is and shall be.
#[derive(Debug, Clone)]
pub struct ImagePlan {
    /// The image file.
    pub image: PathBuf,
    /// Where it is mounted, below a mount that no other namespace sees.
    pub mount_point: PathBuf,
    /// Its size when it is made, and the largest.
    pub bounds: Bounds,
}

/// See the module.
#[derive(Debug)]
pub struct ImagePool {
    root: PathBuf,
    pub(super) growth: Growth,
    pub(super) limits: Limits,
    _lock: File,
}

impl ImagePool {
    /// Makes the image if there is none, attaches it if nobody has, mounts it.
    pub fn open(plan: &ImagePlan) -> Result<Self, PoolError> {
        ensure_image(plan)?;
        let image = &plan.image;
        let lock = File::options().read(true).write(true).open(image).and_then(file::hold);
        let Some(lock) = lock.doing(|| format!("lock {}", image.display()))? else {
            return Err(PoolError::Taken(format!("another process holds {}", image.display())));
        };
        let device = attach(image)?;
        step("pool.attached")?;
        let root = plan.mount_point.clone();
        mount_at(&device, &root)?;
        step("pool.mounted")?;
        tracing::info!(
            image = %image.display(), device = %device.node().display(), "image pool is open"
        );
        let limits = Limits::new(root.clone(), device.node());
        let growth = Growth::new(plan, device);
        growth.settle()?;
        Ok(Self { root, growth, limits, _lock: lock })
    }
}

impl Pool for ImagePool {
    fn create(
        &self,
        name: &ShareName,
        directories: &[Directory],
        limit: Option<Limit>,
    ) -> Result<(), PoolError> {
        let share = self.root.join(name.as_str());
        match btrfs::create_subvolume(&self.root, name.as_str()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(PoolError::Exists(name.clone()));
            }
            other => other.doing(|| format!("make subvolume {}", share.display()))?,
        }
        tree::make(&share, directories, FileSystem::CopiesOnWrite)?;
        if limit.is_some() {
            self.limits.set(name, &share, limit)?;
        }
        Ok(durable::sync_dir(&self.root).doing(|| format!("sync {}", self.root.display()))?)
    }

    fn capture(&self, _: &ShareName) -> Capture {
        Capture::AtOnce
    }

    fn snapshot(
        &self,
        of: &ShareName,
        new: &ShareName,
        kind: Captured,
        _: &Pace,
    ) -> Result<(), PoolError> {
        let source = self.locate(of)?;
        let inside = btrfs::inside(&source).doing(|| format!("look into {}", source.display()))?;
        if let Some(name) = inside {
            return Err(PoolError::Inside { share: of.clone(), name: name.display().to_string() });
        }
        let kind = match kind {
            Captured::ReadOnly => btrfs::Snapshot::ReadOnly,
            Captured::Writable => btrfs::Snapshot::Writable,
        };
        let capturing = self.limits.capture();
        self.limits.raise(of, &source)?;
        match btrfs::snapshot(&source, &self.root, new.as_str(), kind) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(PoolError::Exists(new.clone()));
            }
            other => other.doing(|| format!("snapshot subvolume {}", source.display()))?,
        }
        self.limits.raise(of, &source)?;
        drop(capturing);
        // Some kernels give it the limit of the other, too.
        if kind == btrfs::Snapshot::Writable {
            self.limits.set(new, &self.root.join(new.as_str()), None)?;
        }
        Ok(())
    }

    fn locate(&self, name: &ShareName) -> Result<PathBuf, PoolError> {
        tree::locate(&self.root, name)
    }

    fn delete(&self, name: &ShareName) -> Result<(), PoolError> {
        let share = self.root.join(name.as_str());
        let delete = || match btrfs::delete_subvolume(&self.root, name.as_str()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                // A container made subvolumes of its own inside; they go like directories.
                let root = Dir::open(&share)?;
                btrfs::make_writable(&root)?;
                erase::empty(&root)?;
                btrfs::delete_subvolume(&self.root, name.as_str())
            }
            other => other,
        };
        delete().doing(|| format!("delete subvolume {}", share.display()))?;
        self.limits.forget(name);
        // Else a full pool would stay full for half a minute.
        Ok(btrfs::commit(&self.root).doing(|| format!("sync {}", self.root.display()))?)
    }

    fn describe(&self) -> Result<Description, PoolError> {
        self.growth.describe()
    }

    fn prepare_limits(&self) -> Result<(), PoolError> {
        self.limits.prepare()
    }

    fn limit(&self, name: &ShareName, limit: Option<Limit>) -> Result<(), PoolError> {
        self.limits.set(name, &self.locate(name)?, limit)
    }

    fn charge(&self, name: &ShareName) -> Result<Option<Charge>, PoolError> {
        Ok(self.limits.charge(&self.locate(name)?)?)
    }

    fn tend(&self) -> Result<bool, PoolError> {
        let grown = self.growth.tend()?;
        self.limits.tend()?;
        Ok(grown)
    }

    fn give_back(&self) -> Result<u64, PoolError> {
        self.growth.give_back()
    }
}

/// Makes the image under another name first: a process killed on the way leaves no half of one.
fn ensure_image(plan: &ImagePlan) -> Result<(), PoolError> {
    let image = &plan.image;
    match fs::symlink_metadata(image) {
        // Also one that leads nowhere: what it should lead to is missed, not made anew.
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => Err(error).doing(|| format!("look at {}", image.display()))?,
    }
    if !mount::knows_file_system("btrfs").doing(|| "look for btrfs".to_owned())? {
        return Err(no_btrfs());
    }
    let directory = image.parent().unwrap_or(Path::new("/"));
    durable::create_dir(directory, 0o700).doing(|| format!("make {}", directory.display()))?;
    let draft = image.with_extension("new");
    // What a killed process has left takes the space that is measured next.
    durable::remove(&draft).doing(|| format!("remove {}", draft.display()))?;
    let space = file::space(directory).doing(|| format!("measure {}", directory.display()))?;
    let size = plan.bounds.first(space).map_err(PoolError::NotMade)?;
    let made = make_image(&draft, size)
        .and_then(|()| durable::rename(&draft, image))
        .doing(|| format!("make {} of {size} bytes", image.display()));
    if let Err(error) = made {
        // The space matters more than why it could not be given back.
        drop(durable::remove(&draft));
        return Err(error.into());
    }
    tracing::info!(image = %image.display(), size, "made the image of the pool");
    Ok(step("pool.image-made")?)
}

/// A new file for an image, with its space reserved; in the place of what was there.
pub(super) fn new_image(draft: &Path, size: u64) -> io::Result<File> {
    durable::remove(draft)?;
    let file = File::options().read(true).write(true).create_new(true).open(draft)?;
    fs::set_permissions(draft, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    btrfs::set_nodatacow_if_known(&file)?;
    file::reserve(&file, 0..size)?;
    Ok(file)
}

pub(super) fn make_image(draft: &Path, size: u64) -> io::Result<()> {
    let file = new_image(draft, size)?;
    failpoint::reach("pool.reserved")?;
    let node = file::page_size()?.to_string();
    // -K: discarding would give the reservation back to the host. The smallest nodes: for each page that a
    // server writes btrfs sets space aside by their size, and lets writers wait where that runs out, as it
    // does after a snapshot.
    let arguments = ["-q", "-K", "-n", &node].map(Path::new);
    tool::run("mkfs.btrfs", &[&arguments[..], &[draft]].concat(), MKFS_LIMIT)?;
    failpoint::reach("pool.formatted")?;
    file.sync_all()
}

/// The loop device of `image`, which has one and no more from here on.
pub(super) fn attach(image: &Path) -> Result<LoopDevice, PoolError> {
    // Opened apart from the lock: a loop device keeps its file open, and would keep the lock too.
    let file = File::options().read(true).write(true).open(image);
    let file = file.doing(|| format!("open {}", image.display()))?;
    let find = || loopdev::attached_to(&file).doing(|| "look at the loop devices".to_owned());
    let device = match find()?.pop() {
        Some(device) => device,
        None => loopdev::attach(&file).doing(|| format!("attach {}", image.display()))?,
    };
    // Also after attaching: somebody may have done the same at the same time.
    if find()?.len() != 1 {
        return Err(PoolError::Taken(format!(
            "{} is attached to more than one loop device; `losetup -j` shows them",
            image.display()
        )));
    }
    Ok(device)
}

fn mount_at(device: &LoopDevice, root: &Path) -> Result<(), PoolError> {
    let doing = || format!("mount {} on {}", device.node().display(), root.display());
    durable::create_dir(root, 0o700).doing(doing)?;
    let mounts = mountinfo::own().doing(doing)?;
    if mountinfo::at(&mounts, root).is_none() {
        match mount::btrfs(&device.node(), root) {
            Err(error) if error.raw_os_error() == Some(mount::NO_SUCH_FILE_SYSTEM) => {
                return Err(no_btrfs());
            }
            other => other.doing(doing)?,
        }
    }
    // Else what is mounted below one view would show up in all of them.
    Ok(mount::make_private(root).doing(doing)?)
}

fn no_btrfs() -> PoolError {
    PoolError::NotMade("the host's kernel has no btrfs".to_owned())
}
