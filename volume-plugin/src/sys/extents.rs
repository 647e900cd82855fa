//! Where files lie on their file system's device.
#![expect(unsafe_code, reason = "ioctl takes untyped arguments; the wrapper here types one")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Extents that the kernel tells of in one call.
const TOGETHER: usize = 256;

/// `FIEMAP_FLAG_SYNC`: what is written without a place yet gets one before.
const SYNC: u32 = 1;

/// `FIEMAP_EXTENT_LAST`, and those without a place: `UNKNOWN`, `DELALLOC` and `DATA_INLINE`.
const LAST: u32 = 1;
const NOWHERE: u32 = 2 | 4 | 0x200;

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    unused: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap` with room for extents.
#[repr(C)]
struct Map {
    start: u64,
    length: u64,
    flags: u32,
    found: u32,
    room: u32,
    reserved: u32,
    extents: [Extent; TOGETHER],
}

mod raw {
    // FS_IOC_FIEMAP counts the head alone.
    nix::ioctl_readwrite_bad!(fiemap, 0xc020_660b, super::Map);
}

/// The parts of the device that `file` lies in. (Of a compressed extent, as many bytes as it stands
/// for.)
pub fn of(file: &File) -> io::Result<Vec<Range<u64>>> {
    let nothing =
        Extent { logical: 0, physical: 0, length: 0, unused: [0; 2], flags: 0, reserved: [0; 3] };
    let room = u32::try_from(TOGETHER).map_err(io::Error::other)?;
    let mut map = Box::new(Map {
        start: 0,
        length: u64::MAX,
        flags: SYNC,
        found: 0,
        room,
        reserved: 0,
        extents: [nothing; TOGETHER],
    });
    let mut ranges = Vec::new();
    loop {
        // SAFETY: the descriptor is open and `map` has room for as many extents as it says.
        unsafe { raw::fiemap(file.as_raw_fd(), &raw mut *map) }?;
        let found = &map.extents[..(map.found as usize).min(TOGETHER)];
        for extent in found.iter().filter(|extent| extent.flags & NOWHERE == 0) {
            ranges.push(extent.physical..extent.physical.saturating_add(extent.length));
        }
        match found.last() {
            Some(extent) if extent.flags & LAST == 0 => {
                map.start = extent.logical.saturating_add(extent.length);
                map.length = u64::MAX - map.start;
                (map.found, map.flags) = (0, 0);
            }
            _ => return Ok(ranges),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn a_file_lies_where_it_was_written_and_nowhere_in_its_holes() {
        // On a disk: a tmpfs knows no places.
        let mut file = tempfile::tempfile_in("/var/tmp").unwrap();
        assert_eq!(of(&file).unwrap(), []);
        for at in 0..700 {
            file.seek(SeekFrom::Start(at * 65536)).unwrap();
            file.write_all(&[7; 4096]).unwrap();
        }
        let ranges = of(&file).unwrap();
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert!((700 * 4096..800 * 4096).contains(&bytes), "{bytes} in {} ranges", ranges.len());
    }
}
