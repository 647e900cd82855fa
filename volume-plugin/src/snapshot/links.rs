//! The links of a cluster to its WAL and its tablespaces, which are paths of the container that made
//! them. In a clone they are made relative where they led to another part of the same volume: then they
//! are right wherever the clone is mounted, and never lead into the volume that it comes from, should a
//! container have both. Links to roles that were mounted at places of their own stay as they are, right
//! where the clone's roles are mounted at the same places.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::postgres::cluster::Found;
use crate::postgres::pid_file;
use crate::sys::beneath::Dir;

/// Where the cluster's directory was in the container of its last server, as far as that can be told: a
/// server that ended cleanly leaves no trace of it.
pub(super) fn home(cluster: &Dir) -> Option<PathBuf> {
    pid_file::read(cluster).ok()?.data
}

/// Makes `links` of the cluster relative that led to what is in a volume mounted as a whole; each has its path
/// below the cluster's directory, and that of what it leads to below the volume's root. `home` is what
/// [`home`] has told, `data` the directory of clusters; gives how many were made. Durable with the cluster's
/// directory.
pub(super) fn make_relative(
    data: &Path,
    cluster: &Found,
    links: Vec<(PathBuf, PathBuf)>,
    home: Option<&Path>,
) -> io::Result<usize> {
    let inside = data.join(&cluster.path);
    let mut made = 0;
    let mut changed = BTreeSet::new();
    for (link, part) in links {
        let Ok(target) = cluster.dir.read_link(&link) else { continue };
        if let Some(target) = relative(&inside.join(&link), &target, &part, &inside, home) {
            replace(&cluster.dir, &link, &target)?;
            changed
                .extend(link.parent().filter(|it| !it.as_os_str().is_empty()).map(Path::to_owned));
            made += 1;
        }
    }
    for directory in changed {
        cluster.dir.open_dir(&directory)?.sync()?;
    }
    Ok(made)
}

/// What the link at `link` leads to by way of the volume's root; `None` for one that does not lead to
/// `part` of it, or not to that of the same mount.
fn relative(
    link: &Path,
    target: &Path,
    part: &Path,
    inside: &Path,
    home: Option<&Path>,
) -> Option<PathBuf> {
    let (mount, below) = split(target, part)?;
    match home {
        Some(home) if mount.join(inside) != home => return None,
        // Mounted at the root of the container: more likely at a place of its own.
        None if mount == Path::new("/") => return None,
        _ => {}
    }
    let up = link.parent()?.components().count();
    let way: PathBuf = std::iter::repeat_n(Component::ParentDir, up).collect();
    // Component by component: joining nothing would leave a slash at the end.
    Some(way.join(part).components().chain(below.components()).collect())
}

/// Cuts an absolute path in front of `part`, the last time that this is in it.
fn split(target: &Path, part: &Path) -> Option<(PathBuf, PathBuf)> {
    if !target.is_absolute() || target.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let (all, part): (Vec<_>, Vec<_>) =
        (target.components().collect(), part.components().collect());
    let at = (1..=all.len().checked_sub(part.len())?)
        .rev()
        .find(|&at| all[at..at + part.len()] == part[..])?;
    Some((all[..at].iter().collect(), all[at + part.len()..].iter().collect()))
}

fn replace(cluster: &Dir, link: &Path, target: &Path) -> io::Result<()> {
    let found = cluster.metadata(link)?;
    let parent = match link.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        None => cluster.open_dir(Path::new("."))?,
        Some(parent) => cluster.open_dir(parent)?,
    };
    let name = Path::new(link.file_name().unwrap_or_default());
    parent.remove_file(name)?;
    parent.make_link(name, target, found.uid(), found.gid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(link: &str, target: &str, part: &str, home: Option<&str>) -> Option<String> {
        let path = relative(
            &Path::new("data").join(link),
            Path::new(target),
            Path::new(part),
            Path::new("data"),
            home.map(Path::new),
        );
        path.map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn links_within_a_volume_become_relative() {
        let wal = |target, home| made("pg_wal", target, "wal", home);
        assert_eq!(wal("/pg/wal", Some("/pg/data")).as_deref(), Some("../wal"));
        assert_eq!(wal("/pg/wal/main", None).as_deref(), Some("../wal/main"));
        assert_eq!(wal("/wal/wal", Some("/wal/data")).as_deref(), Some("../wal"));
        assert_eq!(
            made("pg_tblspc/16384", "/pg/tablespaces/fast", "tablespaces/fast", None).as_deref(),
            Some("../../tablespaces/fast")
        );
    }

    #[test]
    fn links_to_roles_that_were_mounted_apart_stay() {
        let wal = |target, home| made("pg_wal", target, "wal", home);
        assert_eq!(wal("/wal", None), None);
        assert_eq!(wal("/srv/wal", Some("/var/lib/postgresql/data")), None);
        assert_eq!(wal("/pg/wal/../../etc", None), None);
        assert_eq!(wal("../wal", None), None);
        assert_eq!(made("pg_tblspc/1", "/fast", "tablespaces/fast", None), None);
        // Both at the root of the container is the same mount.
        assert_eq!(wal("/wal", Some("/data")).as_deref(), Some("../wal"));
    }
}
