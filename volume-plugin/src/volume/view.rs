//! The view of a volume: what Docker hands to containers. The volume's root bound below the
//! directory that is propagated to the host, with the roles of other pools bound inside.
//!
//! Invariants:
//! - A view appears whole or not at all: it is put together where nobody sees it and attached in
//!   one step.
//! - Once attached, it is private, here and where the engine sees it, so that a container's copy
//!   follows neither. Else, when the engine unmounts the views of a plugin that was disabled by
//!   force, a running server would lose its WAL directory and write on in the empty one below it.
//! - A view goes with its mount point. It has copies that no path leads to: in the namespaces of
//!   services, and below the engine's own mount where the host's file systems are shared. The
//!   kernel detaches all of them when the directory is removed, and none in containers.
//! - What is mounted is read from the kernel each time, since engine and host unmount without
//!   telling.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{
    self,
    ErrorKind::{NotFound, PermissionDenied},
};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::elsewhere::{Elsewhere, User};
use crate::name::VolumeName;
use crate::sys::beneath::Dir;
use crate::sys::mountinfo::{self, Mount, Place};
use crate::sys::namespace::MountNamespace;
use crate::sys::{Doing, SysError, mount, step, tree};

/// Mounts that may be stacked on one view before its removal gives up.
const STACKED: usize = 16;

/// How often a view is made that the engine unmounts at once, before its mount fails.
const ATTEMPTS: usize = 3;

/// How long an engine that was killed and started again may go on unmounting what the plugin's
/// last process had, by paths that it listed before. Each unmount waits for all processors.
pub(crate) const UNSETTLED: Duration = Duration::from_secs(10);

/// How long a view stands before it is believed to stay, while the engine may be at that.
const PROBATION: Duration = Duration::from_millis(300);

/// Where views are.
#[derive(Debug)]
pub(super) struct Views {
    root: PathBuf,
    staging: PathBuf,
    /// Until when the engine may be unmounting what was mounted before.
    unsettled_until: Instant,
    /// That the directory of the views stays the mount that it is: whoever mounts or unmounts in it
    /// shares this, whoever replaces it has it alone.
    joined: RwLock<()>,
}

/// What a view shows.
#[derive(Debug)]
pub(super) struct ViewPlan {
    /// Shown as the root.
    pub(super) root: PathBuf,
    /// Shown inside: the path below the root, and the share that has a directory of this path.
    pub(super) inside: Vec<(String, PathBuf)>,
    /// Whether containers may change anything.
    pub(super) writing: Writing,
}

/// Whether a view can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// It can.
    Allowed,
    /// By no mount that is made of it.
    Refused,
}

impl Views {
    /// Views below `root`, put together below `staging`, which no other namespace sees. For the
    /// time of `unsettled` the engine may be at work on those of the last process.
    pub(super) fn new(root: PathBuf, staging: PathBuf, unsettled: Duration) -> Self {
        let unsettled_until = Instant::now() + unsettled;
        Self { root, staging, unsettled_until, joined: RwLock::default() }
    }

    fn is_unsettled(&self) -> bool {
        Instant::now() < self.unsettled_until
    }

    /// Where the view of `volume` is, if it is.
    pub(super) fn path(&self, volume: &VolumeName) -> PathBuf {
        self.root.join(volume.as_str())
    }

    /// Volumes that have anything mounted as their view.
    pub(super) fn mounted(&self) -> Result<BTreeSet<VolumeName>, SysError> {
        let name = |mount: &Mount| {
            let below = mount.point.strip_prefix(&self.root).ok()?;
            // What is mounted inside a view has more components, and so is no name.
            below.to_str()?.parse().ok()
        };
        Ok(own_mounts()?.iter().filter_map(name).collect())
    }

    /// The same, and those that have no more than a mount point there.
    pub(super) fn present(&self) -> Result<BTreeSet<VolumeName>, SysError> {
        let doing = || format!("look at {}", self.root.display());
        let mut present = self.mounted()?;
        for entry in fs::read_dir(&self.root).into_iter().flatten() {
            let name = entry.doing(doing)?.file_name();
            present.extend(name.to_str().and_then(|name| name.parse::<VolumeName>().ok()));
        }
        Ok(present)
    }

    /// Makes the view unless it stands already, as after a crash of this plugin.
    pub(super) fn ensure(&self, volume: &VolumeName, plan: &ViewPlan) -> Result<PathBuf, SysError> {
        for _ in 0..ATTEMPTS {
            if let Some(view) = self.show(volume, plan)?
                && self.stays(volume, &view, plan)?
            {
                return Ok(view);
            }
            // Now and then after a kill of the engine; nobody was told of the view yet.
            tracing::info!(volume = %volume, "the engine has unmounted the view already");
        }
        Err(NotFound).doing(|| format!("show {} to the engine", self.path(volume).display()))
    }

    /// Whether the view that has just been shown is not among what the engine is unmounting: a
    /// container would get the empty directory below, and a server make a new cluster there.
    fn stays(&self, volume: &VolumeName, view: &Path, plan: &ViewPlan) -> Result<bool, SysError> {
        if !self.is_unsettled() {
            return Ok(true);
        }
        thread::sleep(PROBATION);
        let _joined = self.joined.read().unwrap_or_else(PoisonError::into_inner);
        Ok(stands(&own_mounts()?, view, plan) && self.is_seen(volume)?)
    }

    /// Makes the view as `ensure` does; `None`, with nothing left, where the engine does not see it.
    fn show(&self, volume: &VolumeName, plan: &ViewPlan) -> Result<Option<PathBuf>, SysError> {
        let view = self.path(volume);
        let (_joined, elsewhere) = self.elsewhere()?;
        let mounts = own_mounts()?;
        let stage = self.staging.join(volume.as_str());
        let is_there = mountinfo::at(&mounts, &view).is_some();
        let stood = is_there && stands(&mounts, &view, plan) && elsewhere.all_see(volume);
        if is_there && !stood {
            if self.is_unsettled() {
                tracing::info!(volume = %volume, "replacing a view that the engine has left half of");
            } else {
                tracing::warn!(volume = %volume, "replacing a view that shows something else");
            }
            self.unmake(volume)?;
        }
        let made = if stood { Ok(()) } else { attach(&stage, &view, plan) };
        clear(&stage);
        let seen = made.and_then(|()| match seclude(&view, volume, &elsewhere) {
            // Unmounted on the way: that is no error of this view's.
            Err(error) => {
                if self.is_seen(volume)? {
                    Err(error)
                } else {
                    Ok(false)
                }
            }
            Ok(()) => self.is_seen(volume),
        });
        match &seen {
            Ok(true) => return Ok(Some(view)),
            // A container that was promised it before may be about to take it.
            Err(_) if stood => return seen.map(|_| None),
            _ => {}
        }
        if let Err(error) = self.unmake(volume) {
            tracing::warn!(volume = %volume, %error, "half a view is left");
        }
        seen.map(|_| None)
    }

    /// Whether the engine has the view now. It may have unmounted it, or turned away, since it was
    /// looked at: a container would get the empty directory below.
    fn is_seen(&self, volume: &VolumeName) -> Result<bool, SysError> {
        let elsewhere = Elsewhere::of(&self.root)?;
        Ok(!elsewhere.is_out_of_touch() && elsewhere.all_see(volume))
    }

    /// Who sees the views; the engine among them, whatever it has done, and as long as the guard is
    /// held.
    fn elsewhere(&self) -> Result<(RwLockReadGuard<'_, ()>, Elsewhere), SysError> {
        let joined = self.joined.read().unwrap_or_else(PoisonError::into_inner);
        let elsewhere = Elsewhere::of(&self.root)?;
        if !elsewhere.is_out_of_touch() {
            return Ok((joined, elsewhere));
        }
        drop(joined);
        {
            let _alone = self.joined.write().unwrap_or_else(PoisonError::into_inner);
            // Somebody else may have joined it meanwhile, and shown a view.
            let elsewhere = Elsewhere::of(&self.root)?;
            if elsewhere.is_out_of_touch() {
                tracing::info!("the engine does not see what is mounted here: joining it again");
                self.rejoin(&elsewhere)?;
            }
        }
        let joined = self.joined.read().unwrap_or_else(PoisonError::into_inner);
        Ok((joined, Elsewhere::of(&self.root)?))
    }

    /// Makes the directory of the views a peer of the engine's again. An engine that was killed
    /// without live-restore ends its plugins when it is started again, and starts them anew while
    /// it still unmounts what the old ones had. When it takes away the mount that it has just
    /// given to the new one, nothing reaches it any more: a container would get the empty
    /// directory below the view, and a server would initialise a new cluster there. The caller has
    /// `joined` alone.
    fn rejoin(&self, elsewhere: &Elsewhere) -> Result<(), SysError> {
        let doing = || format!("join the engine at {}", self.root.display());
        let place = mountinfo::place(&own_mounts()?, &self.root);
        let place = place.ok_or(NotFound).doing(doing)?;
        // Where we may not look at every process, the engine may be among the others.
        let nowhere = || if elsewhere.denied { PermissionDenied } else { NotFound };
        let point_in = |namespace: &MountNamespace| {
            let mounts = &namespace.mounts;
            mountinfo::points_of(mounts, &place)
                .find(|point| mountinfo::place(mounts, point).as_ref() == Some(&place))
        };
        // In the order of processes: the first one's namespace is that of the host.
        let found = elsewhere.namespaces.iter().find_map(|one| Some((one, point_in(one)?)));
        let (namespace, point) = found.ok_or_else(nowhere).doing(doing)?;
        let copied = namespace.enter(|| {
            // As the engine does it.
            if mountinfo::at(&namespace.mounts, &point).is_none() {
                mount::bind_tree(&point, &point)?;
            }
            mount::make_shared(&point)?;
            tree::clone_of(&point)
        });
        let copy = copied.doing(doing)?;
        mount::detach(&self.root).doing(doing)?;
        tree::attach(&copy, &self.root).doing(doing)
    }

    /// Takes the view away, here and wherever it was propagated to. Containers keep theirs.
    pub(super) fn drop(&self, volume: &VolumeName) -> Result<(), SysError> {
        {
            let _joined = self.joined.read().unwrap_or_else(PoisonError::into_inner);
            if self.unmount(volume)? {
                return Ok(());
            }
        }
        let (_joined, elsewhere) = self.elsewhere()?;
        self.unmount_copies(volume, &elsewhere)
    }

    /// As `drop`, for a caller that shares `joined`.
    fn unmake(&self, volume: &VolumeName) -> Result<(), SysError> {
        if self.unmount(volume)? {
            return Ok(());
        }
        self.unmount_copies(volume, &Elsewhere::of(&self.root)?)
    }

    /// Unmounts the view here. Tells whether its mount point is gone, and all copies with it.
    fn unmount(&self, volume: &VolumeName) -> Result<bool, SysError> {
        let view = self.path(volume);
        for _ in 0..STACKED {
            if mountinfo::at(&own_mounts()?, &view).is_none() {
                break;
            }
            mount::detach(&view).doing(|| format!("unmount {}", view.display()))?;
        }
        match fs::remove_dir(&view) {
            Err(error) if error.kind() != NotFound => {
                // Somebody wrote below the view while it was away: that stays, and so do the
                // copies that no path leads to.
                tracing::warn!(volume = %volume, %error, "the mount point cannot be removed");
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// Unmounts what others have of the view.
    fn unmount_copies(&self, volume: &VolumeName, elsewhere: &Elsewhere) -> Result<(), SysError> {
        let doing = || format!("unmount {}", self.path(volume).display());
        for (namespace, root) in elsewhere.roots() {
            let copy = root.join(volume.as_str());
            namespace.enter(|| mount::detach(&copy)).doing(doing)?;
        }
        Ok(())
    }

    /// Which of the volumes, each with its places, somebody shows other than as copies of views.
    pub(super) fn used<'a>(
        &self,
        volumes: &'a [(VolumeName, Vec<Place>)],
    ) -> Result<Vec<&'a VolumeName>, SysError> {
        let (_joined, elsewhere) = self.elsewhere()?;
        let used = |(volume, places): &&(VolumeName, Vec<Place>)| {
            elsewhere.users(volume, places).next().is_some()
        };
        Ok(volumes.iter().filter(used).map(|(volume, _)| volume).collect())
    }

    /// Who shows one of `places` other than as a copy of this volume's view.
    pub(super) fn users(
        &self,
        volume: &VolumeName,
        places: &[Place],
    ) -> Result<Vec<User>, SysError> {
        let (_joined, elsewhere) = self.elsewhere()?;
        Ok(elsewhere.users(volume, places).collect())
    }
}

/// Makes the view private, here and where the engine sees it.
fn seclude(view: &Path, volume: &VolumeName, elsewhere: &Elsewhere) -> Result<(), SysError> {
    let doing = || format!("make {} private", view.display());
    mount::make_private(view).doing(doing)?;
    for (namespace, root) in elsewhere.roots() {
        let copy = root.join(volume.as_str());
        match namespace.enter(|| mount::make_private(&copy)) {
            // A container that was starting has turned away from the engine since it was looked at.
            // That it was not the engine is looked at afterwards.
            Err(_) if !elsewhere.is_still_at(namespace, root) => {}
            other => other.doing(doing)?,
        }
    }
    Ok(())
}

/// Puts the plan together at `stage` and shows it at `view`.
fn attach(stage: &Path, view: &Path, plan: &ViewPlan) -> Result<(), SysError> {
    clear(stage);
    for point in [stage, view] {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(point);
        made.doing(|| format!("make {}", point.display()))?;
    }
    let bound = |from: &Path| format!("bind {} to {}", from.display(), view.display());
    // Private before anything is bound inside, or that would show up in the share itself.
    mount::bind(&plan.root, stage)
        .and_then(|()| mount::make_private(stage))
        .doing(|| bound(&plan.root))?;
    let root = Dir::open(stage).doing(|| format!("open {}", stage.display()))?;
    for (path, share) in &plan.inside {
        let source = Dir::open(share).and_then(|share| share.open_dir(Path::new(path)));
        let source = source.doing(|| format!("open {} in {}", path, share.display()))?;
        let target = mount_point(&root, path);
        let target = target.doing(|| format!("make the mount point {path} in the volume"))?;
        mount::bind(&source.path(), &target.path()).doing(|| bound(&share.join(path)))?;
    }
    step("mount.staged")?;
    if plan.writing == Writing::Refused {
        // Before it is shown: what is changed afterwards does not reach the copies that others have.
        let inside = plan.inside.iter().map(|(path, _)| stage.join(path));
        for point in inside.chain([stage.to_owned()]) {
            mount::make_read_only(&point)
                .doing(|| format!("make {} read-only", point.display()))?;
        }
    }
    mount::bind_tree(stage, view).doing(|| bound(stage))?;
    step("mount.attached")
}

/// Whether exactly the plan is mounted at `view`.
fn stands(mounts: &[Mount], view: &Path, plan: &ViewPlan) -> bool {
    let shows = |point: &Path, source: &Path| {
        let found = mountinfo::at(mounts, point);
        let wanted = mountinfo::place(mounts, source);
        found.zip(wanted).is_some_and(|(found, wanted)| {
            found.device == wanted.device && found.root == wanted.path
        })
    };
    shows(view, &plan.root)
        && plan.inside.iter().all(|(path, share)| shows(&view.join(path), &share.join(path)))
}

/// The directory to bind onto; made again where a container removed it.
fn mount_point(root: &Dir, path: &str) -> io::Result<Dir> {
    match path.split_once('/') {
        None => root.ensure_dir(path),
        Some((first, rest)) => mount_point(&root.ensure_dir(first)?, rest),
    }
}

/// Removes what a view was put together at; best effort, it is ours alone.
fn clear(stage: &Path) {
    drop(mount::detach(stage));
    drop(fs::remove_dir(stage));
}

fn own_mounts() -> Result<Vec<Mount>, SysError> {
    mountinfo::own().doing(|| "read what is mounted".to_owned())
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
