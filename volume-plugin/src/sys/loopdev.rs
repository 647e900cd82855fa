//! Loop devices: which of them is attached to a file, and attaching one.
//!
//! A device is known by device and inode of its backing file, never by a path: the path that the
//! kernel shows changes with the mount namespace that attached it. The plugin's `/dev` is its own
//! and has no loop nodes, so they are made as needed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::ioctl;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// Bytes of a block of the device: as many as direct I/O on any disk below asks for, and as a
/// btrfs sector has.
const BLOCK: u32 = 4096;

/// Attempts to win a free device against other programs that look for one.
const ATTEMPTS: usize = 32;

/// An attached loop device, kept attached while this is held.
#[derive(Debug)]
pub struct LoopDevice {
    number: u32,
    device: File,
}

impl LoopDevice {
    /// The device's node.
    pub fn node(&self) -> PathBuf {
        node(self.number)
    }

    /// Its size in bytes, which need not be that of its file.
    pub fn size(&self) -> io::Result<u64> {
        let sectors = fs::read_to_string(format!("/sys/block/loop{}/size", self.number))?;
        let sectors: u64 = sectors.trim().parse().map_err(io::Error::other)?;
        Ok(sectors * 512)
    }

    /// Takes the size that its file has now.
    pub fn follow_file(&self) -> io::Result<()> {
        ioctl::loopdev::set_capacity(&self.device)
    }
}

/// All loop devices that are attached to `image` for writing. An error when one of those that
/// there are cannot be looked at: it might be attached to `image`.
pub fn attached_to(image: &File) -> io::Result<Vec<LoopDevice>> {
    let image = image.metadata()?;
    let mut found = Vec::new();
    for number in attached()? {
        let looked = open_to_look(number).and_then(|device| {
            let info = ioctl::loopdev::status(&device)?;
            Ok((device, info))
        });
        let (device, info) = match looked {
            // Detached since the listing.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => continue,
            other => other?,
        };
        let same = (info.device, info.inode) == (image.dev(), image.ino());
        if same && info.flags & READ_ONLY == 0 {
            found.push(LoopDevice { number, device });
        }
    }
    Ok(found)
}

/// Attaches a free device to `image`, to be detached by the kernel with its last user. Direct
/// I/O is used where the file system below can do it.
pub fn attach(image: &File) -> io::Result<LoopDevice> {
    let control = control()?;
    for _ in 0..ATTEMPTS {
        let number = ioctl::loopdev::get_free(&control)?;
        let device = open_to_attach(number)?;
        match ioctl::loopdev::configure(&device, image, BLOCK, AUTOCLEAR | DIRECT_IO) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(LoopDevice { number, device: open_to_look(number)? }),
        }
    }
    Err(io::Error::other("other programs took every free loop device"))
}

/// Numbers of the devices that are attached to something.
fn attached() -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        let number =
            entry.file_name().to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok());
        if let Some(number) = number
            && entry.path().join("loop").is_dir()
        {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

fn node(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

fn open_to_attach(number: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(ready_node(number)?)
}

/// Without the right to write, which a kernel may refuse for a device that is mounted, and because
/// of which it may refuse to mount one.
fn open_to_look(number: u32) -> io::Result<File> {
    File::open(ready_node(number)?)
}

fn ready_node(number: u32) -> io::Result<PathBuf> {
    let node = node(number);
    ensure_node(&node, SFlag::S_IFBLK, 7, u64::from(number))?;
    Ok(node)
}

fn control() -> io::Result<File> {
    let path = Path::new("/dev/loop-control");
    ensure_node(path, SFlag::S_IFCHR, 10, 237)?;
    OpenOptions::new().read(true).write(true).open(path)
}

fn ensure_node(path: &Path, kind: SFlag, major: u64, minor: u64) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.rdev() == makedev(major, minor) && is(kind, found.file_type()) => Ok(()),
        Ok(_) => Err(io::Error::other(format!("{} is another device", path.display()))),
        Err(_) => match mknod(path, kind, Mode::S_IRUSR | Mode::S_IWUSR, makedev(major, minor)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        },
    }
}

fn is(kind: SFlag, found: fs::FileType) -> bool {
    if kind == SFlag::S_IFBLK { found.is_block_device() } else { found.is_char_device() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_its_inode_and_let_go_with_its_last_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let image = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        image.set_len(1 << 20).unwrap();
        assert!(attached_to(&image).unwrap().is_empty());
        let device = attach(&image).unwrap();
        // Another name and another handle are the same image.
        let other = dir.path().join("other");
        fs::hard_link(&path, &other).unwrap();
        let found = attached_to(&File::open(&other).unwrap()).unwrap();
        assert_eq!(found.iter().map(LoopDevice::node).collect::<Vec<_>>(), [device.node()]);
        drop((device, found));
        // The kernel detaches a moment after the last close.
        for _ in 0..100 {
            if attached_to(&image).unwrap().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("still attached");
    }
}
