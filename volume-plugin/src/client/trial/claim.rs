//! Names for clones that are thrown away. Each is claimed by a lock on a file, which the kernel lets go of
//! with the process: what nobody claims any more was left by one that was killed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use plugin_sdk::durable;

/// Where the files are.
pub(super) const DIRECTORY: &str = "/run/pgvol";

/// 32 random hexadecimal digits at each look, and dashes.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";

/// The label of a clone that is thrown away.
pub(super) const LABEL: &str = "pgvol.trial";

/// A name that is this process's.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) name: String,
    path: PathBuf,
    lock: File,
}

impl Claim {
    /// Claims a new name: one of those that Docker makes up, so that what has it goes past the trash.
    pub(super) fn new() -> io::Result<Self> {
        Self::at(Path::new(DIRECTORY))
    }

    fn at(directory: &Path) -> io::Result<Self> {
        durable::create_dir(directory, 0o700)?;
        let random = [fs::read_to_string(RANDOM)?, fs::read_to_string(RANDOM)?].concat();
        let name: String = random.chars().filter(char::is_ascii_hexdigit).collect();
        let path = directory.join(&name);
        let lock = File::create_new(&path)?;
        lock.lock()?;
        Ok(Self { name, path, lock })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Unlocked it is nobody's, whether it goes or not.
        drop((fs::remove_file(&self.path), self.lock.unlock()));
    }
}

/// Whether nobody claims `name` any more; what is left of the claim goes.
pub(super) fn is_left(name: &str) -> io::Result<bool> {
    is_left_at(Path::new(DIRECTORY), name)
}

fn is_left_at(directory: &Path, name: &str) -> io::Result<bool> {
    let path = directory.join(name);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    match file.try_lock() {
        Ok(()) => fs::remove_file(&path).map(|()| true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::VolumeName;

    #[test]
    fn a_name_is_claimed_for_as_long_as_its_process_lives() {
        let directory = tempfile::tempdir().unwrap();
        let claim = Claim::at(&directory.path().join("run")).unwrap();
        let (directory, name) = (directory.path().join("run"), claim.name.clone());
        assert!(name.parse::<VolumeName>().unwrap().is_anonymous());
        assert!(!is_left_at(&directory, &name).unwrap());
        // As the kernel does it; the file stays.
        File::open(&claim.path).unwrap().unlock().unwrap();
        claim.lock.unlock().unwrap();
        assert!(is_left_at(&directory, &name).unwrap());
        assert!(!claim.path.exists());
        assert!(is_left_at(&directory, &name).unwrap());
        drop(claim);
    }
}
