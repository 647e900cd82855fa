//! Clusters of the layout `pgdata` whose directory has got another name while their WAL lay elsewhere.
//!
//! A container can rename a directory that a mount is in: its server goes on there, while the record has
//! the old path, where the next view would show the WAL, and an empty directory where the cluster is.
//! So before a view is made the WAL follows. It is known by its content: the segment that the cluster's
//! control file needs. One directory is renamed, then the record says so; killed in between, the next
//! mount finds the WAL where it is going to be looked for.

use std::fs;
use std::path::Path;

use super::catalog::Record;
use super::error::VolumeError;
use super::places::PG_WAL;
use super::relocation::{clusters, find, gone, root_of};
use super::service::Service;
use super::share::Share;
use crate::postgres::control::{self, Control};
use crate::postgres::wal::{self, Segment};
use crate::sys::beneath::Dir;
use crate::sys::{Doing, step};

impl Service {
    /// `record` with the WAL of each cluster under the cluster's own path; nobody has the volume.
    pub(super) fn followed(
        &self,
        mut record: Record,
        shares: &[Share],
    ) -> Result<Record, VolumeError> {
        let doing = || format!("look for renamed clusters of {}", record.name);
        let root = Dir::open(&root_of(&record, shares)?).doing(doing)?;
        let is_lost = |path: &&String| {
            let cluster = Path::new(path).parent().unwrap_or(Path::new(""));
            root.metadata(&cluster.join("PG_VERSION")).is_err()
        };
        let mut lost: Vec<String> =
            record.wal_directories.iter().filter(is_lost).cloned().collect();
        if lost.is_empty() {
            return Ok(record);
        }
        let elsewhere = find(shares, &record.spec.wal_pool)?.locate()?;
        let elsewhere = Dir::open(&elsewhere).doing(doing)?;
        for found in clusters(&record, shares)? {
            let path = found.path.join(PG_WAL);
            let Some(new) = path.to_str().map(str::to_owned) else { continue };
            if record.wal_directories.contains(&new) || !is_empty(&found.dir, Path::new(PG_WAL)) {
                continue;
            }
            let Ok((_, control)) = control::read_whole(&found.dir) else { continue };
            let holds = |path: &str| holds_wal(&elsewhere, Path::new(path), &control);
            let old = if holds(&new) {
                // Renamed by a process that was killed.
                lost.iter().find(|old| elsewhere.metadata(Path::new(old)).is_err()).cloned()
            } else {
                let old = lost.iter().find(|old| holds(old)).cloned();
                if let Some(old) = &old {
                    rename(&elsewhere, Path::new(old), &path)
                        .doing(|| format!("rename {old} of {} to {new}", record.name))?;
                    step("follow.renamed")?;
                }
                old
            };
            let Some(old) = old else { continue };
            lost.retain(|path| *path != old);
            // What was the place of the mount.
            for top in [&root, &elsewhere] {
                gone(top, Path::new(&old));
            }
            record.wal_directories.retain(|path| *path != old);
            record.wal_directories.push(new.clone());
            record.wal_directories.sort();
            self.catalog.put(record.clone())?;
            self.views.drop(&record.name)?;
            tracing::info!(volume = %record.name, old, new, "the WAL has followed its cluster");
        }
        Ok(record)
    }
}

fn is_empty(dir: &Dir, path: &Path) -> bool {
    let below = dir.open_dir(path);
    below.is_ok_and(|below| fs::read_dir(below.path()).is_ok_and(|mut all| all.next().is_none()))
}

/// Whether the directory `path` of `top` has the segment that the cluster with this control file needs.
fn holds_wal(top: &Dir, path: &Path, control: &Control) -> bool {
    let size = control.details.wal_segment_size;
    let segment = Segment::holding(control.redo, control.timeline, size);
    let file = top.open_dir(path).and_then(|dir| dir.open_file(&segment.file_name(size)));
    file.is_ok_and(|file| wal::belongs(&file, segment, control).unwrap_or(false))
}

/// Renames the directory `old` of `top` to `new`, durably; what is above that is made.
fn rename(top: &Dir, old: &Path, new: &Path) -> std::io::Result<()> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => top.open_dir(parent),
        _ => top.open_dir(Path::new(".")),
    };
    let (mut above, name) = (vec![top.open_dir(Path::new("."))?], Path::new(PG_WAL));
    for part in new.parent().into_iter().flat_map(Path::components) {
        let part = part.as_os_str().to_str().ok_or(std::io::ErrorKind::InvalidFilename)?;
        let made = above[above.len() - 1].ensure_dir(part)?;
        above.push(made);
    }
    let (from, to) = (parent(old)?, &above[above.len() - 1]);
    from.rename(name, to, name)?;
    from.sync()?;
    above.iter().rev().try_for_each(Dir::sync)
}

#[cfg(test)]
#[path = "following_tests.rs"]
mod tests;
