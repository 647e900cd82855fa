//! Which directories of a tree are clusters'. What is there was written by containers: links are
//! not followed, and how much is looked at is bounded.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::control::{self, Cluster};
use super::server;
use crate::sys::beneath::Dir;
use crate::sys::file::FileId;

/// How many directories deep in its volume a cluster may be: `data/17/main` is three.
pub const DEEPEST: usize = 5;

/// Likewise of one that an image has put there: `18/docker` is two.
pub const OF_IMAGES: usize = 2;

/// Directories that are looked into in all.
const MOST_DIRECTORIES: usize = 1024;

/// Names that are looked at in all of them.
const MOST_NAMES: usize = 1 << 16;

/// Clusters that are found: each is kept open.
const MOST_CLUSTERS: usize = 256;

/// Where a server looks for its WAL, below its cluster's directory.
pub const WAL: &str = "pg_wal";

/// The links to tablespaces, likewise.
pub const TABLESPACES: &str = "pg_tblspc";

/// The directories that initdb makes in a cluster's.
const OWN: [&str; 17] = [
    "base",
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_multixact",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    TABLESPACES,
    "pg_twophase",
    WAL,
    "pg_xact",
];

/// Whether a cluster has a directory of this name, in which no other is.
pub fn is_own(name: &OsStr) -> bool {
    OWN.iter().any(|own| name == *own)
}

/// A cluster's directory.
#[derive(Debug)]
pub struct Found {
    /// Below the directory that was searched; empty for that one itself.
    pub path: PathBuf,
    /// The directory.
    pub dir: Dir,
}

/// What there is of clusters in a tree.
#[derive(Debug, Default)]
pub struct Search {
    /// By path.
    pub found: Vec<Found>,
    /// Why there may be others, where not all was looked at that is not too deep.
    pub cut: Option<String>,
}

/// The clusters at or below `top`, so many directories deep; those that are less deep first where there is too much
/// to look at. One may be inside another, beside what that has of its own: of an image that has its cluster deeper
/// than the last one had.
pub fn find(top: &Path, deepest: usize) -> std::io::Result<Search> {
    let top = Dir::open(top)?;
    let (mut found, mut is_cut) = (Vec::new(), false);
    let (mut directories, mut names) = (1, 0);
    let mut ahead = VecDeque::from([PathBuf::new()]);
    while let Some(path) = ahead.pop_front() {
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        // Gone meanwhile, or no directory any more.
        let Ok(dir) = top.open_dir(here) else { continue };
        let is_cluster = is_cluster(&path, &dir);
        let is_deepest = path.components().count() >= deepest;
        let entries = if is_deepest { None } else { fs::read_dir(dir.path()).ok() };
        for entry in entries.into_iter().flatten().flatten() {
            names += 1;
            if names > MOST_NAMES {
                is_cut = true;
                break;
            }
            let name = entry.file_name();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_dir || is_cluster && is_own(&name) || is_tablespace(&name) {
                continue;
            }
            directories += 1;
            if directories > MOST_DIRECTORIES {
                is_cut = true;
                break;
            }
            ahead.push_back(path.join(name));
        }
        if is_cluster && found.len() == MOST_CLUSTERS {
            is_cut = true;
            break;
        }
        if is_cluster {
            found.push(Found { path, dir });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    let cut = is_cut.then(|| {
        format!(
            "only {MOST_DIRECTORIES} directories, {MOST_NAMES} names in them and {MOST_CLUSTERS} \
             clusters are looked at, and there are more"
        )
    });
    Ok(Search { found, cut })
}

fn is_cluster(path: &Path, dir: &Dir) -> bool {
    // A database in a copy of part of a cluster has a version too.
    let is_number = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let has_global = || dir.metadata(Path::new("global")).is_ok();
    dir.metadata(Path::new("PG_VERSION")).is_ok_and(|version| version.is_file())
        && (!path.file_name().is_some_and(is_number) || has_global())
}

/// Whether a server calls its directory in a tablespace so, in which there are those of databases and nothing else.
fn is_tablespace(name: &OsStr) -> bool {
    let Some(rest) = name.as_encoded_bytes().strip_prefix(b"PG_") else { return false };
    let mut parts = rest.split(|&byte| byte == b'_');
    let mut is_number = || parts.next().is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    is_number() && is_number() && parts.next().is_none()
}

/// Of several clusters the one that was served last.
pub fn last_served(found: &[Found]) -> Option<&Found> {
    let served = |found: &&Found| {
        let control = found.dir.metadata(Path::new(control::PATH));
        control.and_then(|control| control.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    found.iter().max_by_key(served)
}

/// Why the files of the cluster in `dir` cannot be moved: a server runs, or may have to recover
/// with what is there. `None` when it is at rest.
pub fn unrest(dir: &Dir) -> Option<String> {
    match control::read(dir) {
        Some(Cluster::Known(control)) if control.is_shut_down() => {}
        Some(Cluster::Known(control)) => {
            return Some(format!(
                "the cluster was not cleanly stopped: its state is {}",
                control.state
            ));
        }
        Some(Cluster::Unknown { reason, .. }) => return Some(reason),
        None => return Some("the cluster has no control file".to_owned()),
    }
    if dir.metadata(Path::new(super::pid_file::NAME)).is_ok() {
        return Some("there is a postmaster.pid: a server runs or was killed".to_owned());
    }
    let id = match dir.metadata(Path::new(".")) {
        Ok(metadata) => FileId::of(&metadata),
        Err(error) => return Some(error.to_string()),
    };
    match server::all() {
        Ok(servers) if servers.iter().all(|server| server.data != id) => None,
        Ok(_) => Some("a server runs".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_sdk::durable;
    use std::os::unix::fs::symlink;

    fn cluster(path: &Path) {
        durable::create_dir(&path.join("global"), 0o700).unwrap();
        durable::write(&path.join("PG_VERSION"), b"17\n").unwrap();
    }

    fn paths(top: &Path) -> Vec<PathBuf> {
        find(top, DEEPEST).unwrap().found.into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn clusters_are_found_where_images_have_them() {
        let top = tempfile::tempdir().unwrap();
        assert!(paths(top.path()).is_empty());
        cluster(&top.path().join("18/docker"));
        cluster(&top.path().join("17/docker"));
        cluster(&top.path().join("t/o/o/deep/here/x"));
        cluster(&top.path().join("as/deep/as/may/be"));
        cluster(&top.path().join("pgdata"));
        // Databases are none.
        for database in ["spaces/fast/PG_17_202406281/5", "part/base/5"] {
            durable::create_dir(&top.path().join(database), 0o700).unwrap();
            durable::write(&top.path().join(database).join("PG_VERSION"), b"17\n").unwrap();
        }
        symlink(top.path().join("pgdata"), top.path().join("link")).unwrap();
        let expected = ["17/docker", "18/docker", "as/deep/as/may/be", "pgdata"].map(PathBuf::from);
        assert_eq!(paths(top.path()), expected);
        // What one has of its own is none, and who is beside that is.
        cluster(top.path());
        cluster(&top.path().join("pg_wal/archive_status"));
        assert_eq!(paths(top.path()), [&[PathBuf::new()], &expected[..]].concat());
    }

    #[test]
    fn what_is_planted_ends_the_search_and_nothing_else() {
        let top = tempfile::tempdir().unwrap();
        for number in 0..1000 {
            durable::create_dir(&top.path().join(format!("{number}")), 0o700).unwrap();
        }
        symlink("/etc/hostname", top.path().join("PG_VERSION")).unwrap();
        assert!(paths(top.path()).is_empty());
    }

    #[test]
    fn a_search_that_ends_early_says_so() {
        let top = tempfile::tempdir().unwrap();
        let make = |path: String| durable::create_dir(&top.path().join(path), 0o700).unwrap();
        for number in 1..MOST_DIRECTORIES - 1 {
            make(format!("a/{number}"));
        }
        assert!(find(top.path(), DEEPEST).unwrap().cut.is_none());
        // What is less deep is found all the same.
        cluster(&top.path().join("z"));
        let search = find(top.path(), DEEPEST).unwrap();
        assert!(search.cut.unwrap().contains("1024 directories"));
        assert_eq!(search.found[0].path, Path::new("z"));
        // A cluster's own are not looked into, and what is too deep is nobody's.
        let top = tempfile::tempdir().unwrap();
        cluster(top.path());
        for number in 0..MOST_DIRECTORIES {
            durable::create_dir(&top.path().join(format!("base/{number}")), 0o700).unwrap();
            let deep = top.path().join(format!("1/2/3/4/5/{number}"));
            durable::create_dir(&deep, 0o700).unwrap();
        }
        assert!(find(top.path(), DEEPEST).unwrap().cut.is_none());
    }
}
