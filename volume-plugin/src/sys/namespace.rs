//! Mount namespaces of other processes: what is mounted there, and acting in one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::mountinfo::{self, Mount};

/// A mount namespace that is not the calling thread's own.
#[derive(Debug)]
pub struct MountNamespace {
    /// A process that is in it.
    pub pid: u32,
    /// What is mounted there.
    pub mounts: Vec<Mount>,
    handle: File,
}

/// What could be found of other mount namespaces.
#[derive(Debug)]
pub struct Others {
    /// Each of them once.
    pub namespaces: Vec<MountNamespace>,
    /// Whether some process may not be looked at.
    pub denied: bool,
}

/// Every other mount namespace that some process is in. Needs the right to trace processes; a
/// process that ends meanwhile is left out.
pub fn others() -> io::Result<Others> {
    let mut known = HashSet::from([identity(&fs::metadata("/proc/thread-self/ns/mnt")?)]);
    let mut others = Others { namespaces: Vec::new(), denied: false };
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        match namespace_of(pid, &mut known) {
            Ok(namespace) => others.namespaces.extend(namespace),
            Err(error) => others.denied |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    Ok(others)
}

impl MountNamespace {
    /// Runs `work` on a thread of its own that has entered this namespace and ends after it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let entered = || {
            // A thread that shares its root and directory with others may not change namespace.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.handle, CloneFlags::CLONE_NEWNS)?;
            work()
        };
        thread::scope(|scope| scope.spawn(entered).join())
            .unwrap_or_else(|_| Err(io::Error::other("panic in another mount namespace")))
    }
}

fn namespace_of(pid: u32, known: &mut HashSet<(u64, u64)>) -> io::Result<Option<MountNamespace>> {
    let link = Path::new("/proc").join(pid.to_string()).join("ns/mnt");
    if known.contains(&identity(&fs::metadata(&link)?)) {
        return Ok(None);
    }
    let handle = File::open(&link)?;
    let mounts = mountinfo::of(&pid.to_string())?;
    known.insert(identity(&handle.metadata()?));
    Ok(Some(MountNamespace { pid, mounts, handle }))
}

fn identity(namespace: &fs::Metadata) -> (u64, u64) {
    (namespace.dev(), namespace.ino())
}

/// Moves the calling thread of a test into a mount namespace of its own, which ends with it.
#[cfg(test)]
pub(crate) fn isolate() {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
    super::mount::make_private(Path::new("/")).unwrap();
}
