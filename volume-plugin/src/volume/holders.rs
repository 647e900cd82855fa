//! Who has a volume, by what is really mounted: mount ids are no proof of use.

use super::elsewhere::User;
use super::error::VolumeError;
use super::service::Service;
use super::share::Share;
use crate::name::VolumeName;
use crate::sys::process::Process;
use crate::sys::{Doing, mountinfo};

impl Service {
    /// A volume for one container alone is refused while a container has it. One that has not
    /// come far enough to show it counts as the one that asks: a container may mount it twice.
    pub(super) fn refuse_if_held(
        &self,
        name: &VolumeName,
        shares: &[Share],
    ) -> Result<(), VolumeError> {
        let Some(user) = self.a_user(name, shares)? else { return Ok(()) };
        Err(VolumeError::Exclusive { name: name.clone(), holder: shown(&user) })
    }

    /// A volume that somebody has mounted is neither removed nor purged.
    pub(crate) fn refuse_if_used(
        &self,
        name: &VolumeName,
        shares: &[Share],
    ) -> Result<(), VolumeError> {
        match self.a_user(name, shares)? {
            None => Ok(()),
            Some(user) => Err(VolumeError::InUse { name: name.clone(), holder: shown(&user) }),
        }
    }

    /// Takes the view away that nobody has, with its ids: the files of the volume will be others.
    pub(crate) fn put_away(&self, name: &VolumeName) -> Result<(), VolumeError> {
        self.views.drop(name)?;
        self.mounts.clear(name)?;
        Ok(())
    }

    /// Forgets what is known of the files of the volume, which are others now.
    pub(crate) fn forget_files(&self, name: &VolumeName) {
        self.guard.forget(name);
        self.inspector.forget(name);
    }

    /// Somebody who shows one of `shares` other than as a copy of the view of `name`.
    pub(crate) fn a_user(
        &self,
        name: &VolumeName,
        shares: &[Share],
    ) -> Result<Option<User>, VolumeError> {
        Ok(self.users(name, shares)?.into_iter().next())
    }

    /// One for each mount by which somebody shows one of `shares` other than as a copy of the view.
    pub(crate) fn users(
        &self,
        name: &VolumeName,
        shares: &[Share],
    ) -> Result<Vec<User>, VolumeError> {
        let own = mountinfo::own().doing(|| "read what is mounted".to_owned())?;
        let mut places = Vec::new();
        for share in shares {
            places.extend(share.find()?.and_then(|path| mountinfo::place(&own, &path)));
        }
        Ok(self.views.users(name, &places)?)
    }
}

/// By its container, where it is in one: that is what somebody can stop.
fn shown(user: &User) -> String {
    let container = Process::open(user.pid).and_then(|process| process.container());
    let who = match container {
        Ok(Some(id)) => format!("container {id}"),
        _ => format!("process {}", user.pid),
    };
    format!("{who}, which has it mounted at {}", user.point.display())
}
