//! A btrfs image on a loop device that later lives of the plugin find again.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use crate::sys::{self, Loop};
use crate::text;

/// Where the image is mounted, for the plugin alone.
pub(crate) const MOUNT_POINT: &str = "/pools/default";

const CONTROL: &str = "/dev/loop-control";

/// Makes a btrfs image of `megabytes` at `image`, its space reserved.
pub(crate) fn make_image(arguments: &Value) -> Result<Value> {
    let image = text(arguments, "image")?;
    let file = File::create(image).with_context(|| format!("create {image}"))?;
    let size = arguments["megabytes"].as_i64().context("argument `megabytes` is missing")? << 20;
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, size)?;
    let made = Command::new("/usr/sbin/mkfs.btrfs").args(["-q", "-K", image]).output()?;
    if !made.status.success() {
        bail!("mkfs.btrfs: {}", String::from_utf8_lossy(&made.stderr).trim_end());
    }
    Ok(json!({ "blocks": file.metadata()?.blocks() }))
}

/// Mounts the pool in `image`, by the loop device that holds it already or by a new one.
pub(crate) fn open(arguments: &Value) -> Result<Value> {
    let path = text(arguments, "image")?;
    // The loop keeps the description it is given, and with it a lock taken there: so the lock
    // has a description of its own, that ends with the process.
    let lock = lock(path)?;
    let image = File::options().read(true).write(true).open(path)?;
    node(CONTROL, 10, 237)?;
    let found = find(&image)?;
    if found.len() > 1 {
        bail!("several loop devices hold the image: {found:?}");
    }
    let number = match found.first() {
        Some(number) => *number,
        None => attach(&image)?,
    };
    mount_pool(number)?;
    if find(&image)? != [number] {
        bail!("another loop device took the image meanwhile");
    }
    // Kept to the end of the process.
    std::mem::forget(lock);
    let root = fs::metadata(MOUNT_POINT)?;
    Ok(json!({
        "loop": number,
        "found": !found.is_empty(),
        "st_dev": root.dev(),
        "backing_file": fs::read_to_string(format!("/sys/block/loop{number}/loop/backing_file"))?,
        "direct_io": fs::read_to_string(format!("/sys/block/loop{number}/loop/dio"))?.trim_end(),
        "autoclear": fs::read_to_string(format!("/sys/block/loop{number}/loop/autoclear"))?.trim_end(),
    }))
}

/// Whether a second process could take the lock of `image`.
pub(crate) fn lock_again(arguments: &Value) -> Result<Value> {
    lock(text(arguments, "image")?).map(|_| json!({}))
}

fn lock(path: &str) -> Result<Flock<File>> {
    let file = File::open(path).with_context(|| format!("open {path}"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .with_context(|| format!("lock {path}"))
}

/// The loop devices whose backing file this is, by device and inode: the path they show is
/// relative to a mount that may be gone.
fn find(image: &File) -> Result<Vec<u32>> {
    let image = image.metadata()?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("loop")) else {
            continue;
        };
        let number = number.parse()?;
        match open_loop(number)?.status() {
            Ok(backing) if backing == (image.dev(), image.ino()) => found.push(number),
            Ok(_) | Err(Errno::ENXIO) => {}
            Err(error) => return Err(error).context("LOOP_GET_STATUS64"),
        }
    }
    Ok(found)
}

fn attach(image: &File) -> Result<u32> {
    let control = File::options().read(true).write(true).open(CONTROL).context("open control")?;
    loop {
        let number = sys::free_loop(&control).context("LOOP_CTL_GET_FREE")?;
        let device = open_loop(number)?;
        match device.configure(image) {
            Ok(()) => {
                // With AUTOCLEAR the last close detaches: the mount must come before it.
                mount_pool(number)?;
                return Ok(number);
            }
            Err(Errno::EBUSY) => {} // somebody else was quicker
            Err(error) => return Err(error).context("LOOP_CONFIGURE"),
        }
    }
}

fn mount_pool(number: u32) -> Result<()> {
    if fs::metadata("/pools/.private").is_err() {
        fs::create_dir_all("/pools")?;
        mount(Some("pools"), "/pools", Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .context("mount /pools")?;
        mount(None::<&str>, "/pools", None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)?;
        fs::create_dir_all("/pools/.private")?;
        fs::create_dir_all(MOUNT_POINT)?;
    }
    if fs::metadata(MOUNT_POINT)?.dev() != fs::metadata("/pools")?.dev() {
        return Ok(());
    }
    let device = format!("/dev/loop{number}");
    mount(Some(&*device), MOUNT_POINT, Some("btrfs"), MsFlags::empty(), Some("nodiscard"))
        .with_context(|| format!("mount {device}"))?;
    mount(None::<&str>, MOUNT_POINT, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(())
}

fn open_loop(number: u32) -> Result<Loop> {
    let path = format!("/dev/loop{number}");
    node(&path, 7, number.into())?;
    let file = File::options().read(true).write(true).open(&path);
    Ok(Loop(file.with_context(|| format!("open {path}"))?))
}

/// Makes a device node: the plugin's /dev is new in each life and has none of these.
fn node(path: &str, major: u64, minor: u64) -> Result<()> {
    if Path::new(path).exists() {
        return Ok(());
    }
    let kind = if major == 7 { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    mknod(path, kind, Mode::from_bits_truncate(0o600), makedev(major, minor))
        .with_context(|| format!("mknod {path}"))
}
