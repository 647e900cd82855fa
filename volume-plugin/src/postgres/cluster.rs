//! Which directories of a tree are clusters'. What is there was written by containers: links are
//! not followed, and how much is looked at is bounded.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::control::{self, Cluster};
use super::server;
use crate::sys::beneath::Dir;
use crate::sys::file::FileId;

/// Directories inside each other that are looked into: `18/docker` is two.
const DEEPEST: usize = 2;

/// Directories that are looked at in all.
const MOST_DIRECTORIES: usize = 256;

/// Names that are looked at in one directory.
const MOST_NAMES: usize = 4096;

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

/// Every cluster at or below `top`, by path. One may be inside another, beside what that has of its own:
/// of an image that has its cluster deeper than the last one had.
pub fn find(top: &Path) -> std::io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut left = MOST_DIRECTORIES;
    visit(Dir::open(top)?, PathBuf::new(), DEEPEST, &mut left, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn visit(dir: Dir, path: PathBuf, deeper: usize, left: &mut usize, found: &mut Vec<Found>) {
    let is_cluster = dir.metadata(Path::new("PG_VERSION")).is_ok_and(|version| version.is_file());
    let names = if deeper == 0 { None } else { fs::read_dir(dir.path()).ok() };
    for entry in names.into_iter().flatten().take(MOST_NAMES).flatten() {
        if *left == 0 {
            break;
        }
        let name = entry.file_name();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_dir || is_cluster && is_own(&name) {
            continue;
        }
        // Gone meanwhile, or no directory any more.
        let Ok(below) = dir.open_dir(Path::new(&name)) else { continue };
        *left -= 1;
        visit(below, path.join(&name), deeper - 1, left, found);
    }
    if is_cluster {
        found.push(Found { path, dir });
    }
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
        find(top).unwrap().into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn clusters_are_found_where_images_have_them() {
        let top = tempfile::tempdir().unwrap();
        assert!(paths(top.path()).is_empty());
        cluster(&top.path().join("18/docker"));
        cluster(&top.path().join("17/docker"));
        cluster(&top.path().join("too/deep/here"));
        cluster(&top.path().join("pgdata"));
        symlink(top.path().join("pgdata"), top.path().join("link")).unwrap();
        let expected = ["17/docker", "18/docker", "pgdata"].map(PathBuf::from);
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
}
