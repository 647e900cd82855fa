//! What is mounted where: `/proc/PID/mountinfo`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Number of the mount in its namespace.
    pub id: u32,
    /// Number of the mount that this one is on.
    pub parent: u32,
    /// `MAJOR:MINOR` of the file system: the same in every namespace.
    pub device: String,
    /// The directory of the file system that is shown.
    pub root: PathBuf,
    /// Where it is shown.
    pub point: PathBuf,
    /// Peer group that mounts made here go to and come from.
    pub shared: Option<u32>,
    /// Peer group that mounts only come from.
    pub master: Option<u32>,
}

impl Mount {
    /// Whether this mount shows `place` or something below it.
    pub fn shows(&self, place: &Place) -> bool {
        self.device == place.device && self.root.starts_with(&place.path)
    }
}

/// A directory by its file system, whatever is mounted where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `MAJOR:MINOR` of the file system.
    pub device: String,
    /// The path from that file system's own root.
    pub path: PathBuf,
}

/// Mounts of the process `pid`, in the order in which they were made.
pub fn of(pid: &str) -> io::Result<Vec<Mount>> {
    fs::read(Path::new("/proc").join(pid).join("mountinfo")).map(|text| parse(&text))
}

/// Mounts of the calling thread's namespace.
pub fn own() -> io::Result<Vec<Mount>> {
    of("thread-self")
}

/// The mount that is seen at exactly `point`.
pub fn at<'a>(mounts: &'a [Mount], point: &Path) -> Option<&'a Mount> {
    holding(mounts, point).filter(|mount| mount.point == point)
}

/// The mount that `path`, absolute and without links, lies on. Found as the kernel does, from
/// mount to mount: the same path may be that of other mounts, which are covered.
pub fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let known = |id: u32| mounts.iter().any(|mount| mount.id == id);
    let roots = mounts.iter().filter(|mount| mount.parent == mount.id || !known(mount.parent));
    let mut current = nearest(roots, path)?;
    loop {
        let id = current.id;
        let on_it = mounts.iter().filter(|mount| mount.parent == id && mount.id != id);
        match nearest(on_it, path) {
            Some(next) => current = next,
            None => return Some(current),
        }
    }
}

/// The first of these mounts on the way to `path`.
fn nearest<'a>(mounts: impl Iterator<Item = &'a Mount>, path: &Path) -> Option<&'a Mount> {
    let on_the_way = mounts.filter(|mount| path.starts_with(&mount.point));
    on_the_way.min_by_key(|mount| mount.point.components().count())
}

/// Where `path`, absolute and without links, lies on its file system.
pub fn place(mounts: &[Mount], path: &Path) -> Option<Place> {
    let mount = holding(mounts, path)?;
    let below = path.strip_prefix(&mount.point).ok()?;
    Some(Place { device: mount.device.clone(), path: join(&mount.root, below) })
}

/// Paths at which these mounts show `place`.
pub fn points_of<'a>(mounts: &'a [Mount], place: &'a Place) -> impl Iterator<Item = PathBuf> + 'a {
    mounts.iter().filter(|mount| mount.device == place.device).filter_map(|mount| {
        place.path.strip_prefix(&mount.root).ok().map(|below| join(&mount.point, below))
    })
}

/// `Path::join` without the slash that an empty `below` would leave at the end.
fn join(base: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { base.to_owned() } else { base.join(below) }
}

/// Lines that do not look like mounts are left out.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let parent = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let (mut shared, mut master) = (None, None);
    for field in fields.skip(1).take_while(|&field| field != b"-") {
        let field = std::str::from_utf8(field).ok()?;
        match field.split_once(':') {
            Some(("shared", group)) => shared = group.parse().ok(),
            Some(("master", group)) => master = group.parse().ok(),
            _ => {}
        }
    }
    Some(Mount { id, parent, device, root, point, shared, master })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(first);
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) =
            (first, after)
        {
            bytes.pop();
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = b"\
23 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
99 23 0:47 / /mnt/a\\040b rw shared:24 master:3 - tmpfs t rw
131 99 254:0 /var/lib/pgvol/wal /mnt/a\\040b/v rw,relatime - ext4 /dev/vda rw
132 131 0:50 / /mnt/a\\040b/v rw,relatime master:7 - btrfs /dev/loop0 rw
140 23 0:51 / /mnt/a\\040b/v rw - tmpfs covered rw
garbage
";

    #[test]
    fn fields_are_read() {
        let mounts = parse(SAMPLE);
        assert_eq!(mounts.len(), 5);
        assert_eq!(mounts[1].point, Path::new("/mnt/a b"));
        assert_eq!((mounts[1].shared, mounts[1].master), (Some(24), Some(3)));
        assert_eq!((mounts[3].shared, mounts[3].master), (None, Some(7)));
    }

    #[test]
    fn the_mount_that_is_seen_counts() {
        let mounts = parse(SAMPLE);
        let seen = at(&mounts, Path::new("/mnt/a b/v")).unwrap();
        assert_eq!(seen.device, "0:50");
        assert_eq!(holding(&mounts, Path::new("/mnt/a b/v/x")), Some(seen));
        assert_eq!(holding(&mounts, Path::new("/mnt/a")).unwrap().point, Path::new("/"));
    }

    #[test]
    fn a_place_is_found_again_under_every_mount_of_it() {
        let mounts = parse(SAMPLE);
        let place = place(&mounts, Path::new("/var/lib/pgvol/wal/one")).unwrap();
        assert_eq!(place.path, Path::new("/var/lib/pgvol/wal/one"));
        let points: Vec<_> = points_of(&mounts, &place).collect();
        assert_eq!(points, [Path::new("/var/lib/pgvol/wal/one"), Path::new("/mnt/a b/v/one")]);
        assert!(mounts[2].shows(&Place { device: "254:0".into(), path: "/var/lib/pgvol".into() }));
        assert!(!mounts[2].shows(&place));
    }

    #[test]
    fn this_thread_has_a_root() {
        assert!(at(&own().unwrap(), Path::new("/")).is_some());
    }
}
