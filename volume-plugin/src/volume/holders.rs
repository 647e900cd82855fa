//! Who has a volume, by what is really mounted: mount ids are no proof of use.

use super::error::VolumeError;
use super::service::{Service, Share};
use crate::name::VolumeName;
use crate::pool::PoolError;
use crate::sys::Doing;
use crate::sys::mountinfo::{self, Mount, Place};
use crate::sys::process::Process;

impl Service {
    /// A volume for one container alone is refused while a container has it. One that has not
    /// come far enough to show it counts as the one that asks: a container may mount it twice.
    pub(super) fn refuse_if_held(
        &self,
        name: &VolumeName,
        shares: &[Share],
    ) -> Result<(), VolumeError> {
        let own = mountinfo::own().doing(|| "read what is mounted".to_owned())?;
        let places = places_of(name, shares, &own)?;
        let Some(user) = self.views.users(name, &places)?.into_iter().next() else {
            return Ok(());
        };
        let container = Process::open(user.pid).and_then(|process| process.container());
        let holder = match container {
            Ok(Some(id)) => format!("container {id}"),
            _ => format!("process {}, which has it mounted at {}", user.pid, user.point.display()),
        };
        Err(VolumeError::Exclusive { name: name.clone(), holder })
    }

    /// A volume that a container has is not removed.
    pub(super) fn refuse_if_used(
        &self,
        name: &VolumeName,
        shares: &[Share],
    ) -> Result<(), VolumeError> {
        let own = mountinfo::own().doing(|| "read what is mounted".to_owned())?;
        let places = places_of(name, shares, &own)?;
        match self.views.users(name, &places)?.into_iter().next() {
            None => Ok(()),
            Some(user) => {
                Err(VolumeError::InUse { name: name.clone(), pid: user.pid, point: user.point })
            }
        }
    }
}

/// Where the volume's shares lie, as `mounts` have them.
fn places_of(
    name: &VolumeName,
    shares: &[Share],
    mounts: &[Mount],
) -> Result<Vec<Place>, VolumeError> {
    let mut places = Vec::new();
    for share in shares {
        match share.pool.locate(name) {
            Ok(path) => places.extend(mountinfo::place(mounts, &path)),
            Err(PoolError::Missing(_)) => {}
            Err(error) => return Err(share.refused(error)),
        }
    }
    Ok(places)
}
