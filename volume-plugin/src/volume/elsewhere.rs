//! The directory of the views as the engine and other mount namespaces see it, at one instant.

use std::path::{Path, PathBuf};

use crate::name::VolumeName;
use crate::sys::mountinfo::{self, Mount, Place};
use crate::sys::namespace::{self, MountNamespace, Others};
use crate::sys::{Doing, SysError};

/// Something outside that has a volume mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) pid: u32,
    pub(crate) point: PathBuf,
}

/// The views as the engine's mount namespace and others see them.
pub(super) struct Elsewhere {
    pub(super) namespaces: Vec<MountNamespace>,
    /// Where a namespace, by its index, has the directory of the views as a peer of ours.
    roots: Vec<(usize, PathBuf)>,
    /// The peer group that the directory of the views is in.
    group: Option<u32>,
    /// Whether there are namespaces that we may not look at.
    pub(super) denied: bool,
}

impl Elsewhere {
    pub(super) fn of(root: &Path) -> Result<Self, SysError> {
        let own = mountinfo::own().doing(|| "read what is mounted".to_owned())?;
        let others = namespace::others();
        let others = others.doing(|| "look into other mount namespaces".to_owned())?;
        let Others { namespaces, denied } = others;
        let own = mountinfo::holding(&own, root).filter(|own| own.shared.is_some());
        let mut roots = Vec::new();
        if let Some(own) = own {
            let below = root.strip_prefix(&own.point).unwrap_or(Path::new(""));
            for (index, namespace) in namespaces.iter().enumerate() {
                // The group may have mounts of more than this directory in it.
                let peer = |mount: &&Mount| mount.shared == own.shared && mount.root == own.root;
                let peers = namespace.mounts.iter().filter(peer);
                roots.extend(peers.map(|mount| (index, mount.point.join(below))));
            }
        }
        Ok(Self { namespaces, roots, group: own.and_then(|own| own.shared), denied })
    }

    /// Whether what we mount should go somewhere, and goes nowhere that we know of.
    pub(super) fn is_out_of_touch(&self) -> bool {
        self.group.is_some() && self.roots.is_empty()
    }

    /// Whether the view is there for everybody who gets ours; the engine may have unmounted it.
    pub(super) fn all_see(&self, volume: &VolumeName) -> bool {
        self.roots().all(|(namespace, root)| {
            mountinfo::at(&namespace.mounts, &root.join(volume.as_str())).is_some()
        })
    }

    /// Whether the namespace still has the directory of the views at `root` as a peer of ours.
    pub(super) fn is_still_at(&self, namespace: &MountNamespace, root: &Path) -> bool {
        let mounts = mountinfo::of(&namespace.pid.to_string()).unwrap_or_default();
        let holds = |mount: &Mount| mount.shared.is_some() && mount.shared == self.group;
        mountinfo::holding(&mounts, root).is_some_and(holds)
    }

    pub(super) fn roots(&self) -> impl Iterator<Item = (&MountNamespace, &Path)> {
        self.roots.iter().map(|(index, root)| (&self.namespaces[*index], root.as_path()))
    }

    pub(super) fn users<'a>(
        &'a self,
        volume: &'a VolumeName,
        places: &'a [Place],
    ) -> impl Iterator<Item = User> + 'a {
        let shown = self
            .namespaces
            .iter()
            .flat_map(|namespace| namespace.mounts.iter().map(|mount| (namespace.pid, mount)));
        let used = |mount: &Mount| {
            places.iter().any(|place| mount.shows(place)) && !self.is_copy(volume, &mount.point)
        };
        shown
            .filter(move |(_, mount)| used(mount))
            .map(|(pid, mount)| User { pid, point: mount.point.clone() })
    }

    /// Whether `point` is the view or inside, below whatever root it may be shown: a container may
    /// have bound the whole host into itself.
    fn is_copy(&self, volume: &VolumeName, point: &Path) -> bool {
        self.roots.iter().any(|(_, root)| {
            let view = root.join(volume.as_str());
            let Ok(suffix) = view.strip_prefix("/") else { return false };
            point.ancestors().any(|ancestor| ancestor.ends_with(suffix))
        })
    }
}
