//! Where a plugin's state directory is on the host, as far as a place can be wrong for every plugin.

use std::io;
use std::path::{Path, PathBuf};

/// What containerd calls the directories that it makes for the processes of containers, of whatever
/// runtime (containerd `core/runtime/v2`: `io.containerd.runtime.v2.task/NAMESPACE/ID`).
const RUNTIME: &str = "io.containerd.runtime.";

/// A state directory that goes with the process.
#[derive(Debug, thiserror::Error)]
#[error(
    "state.source is empty, and the state would go with the plugin's process: \
     set it to a directory of the host, such as /var/lib"
)]
pub struct Fleeting;

/// Whether `source`, the mount that state is kept below, outlives the process. With an empty
/// `state.source` Docker mounts there what the runtime keeps of the plugin itself, and deletes it when the
/// plugin is disabled.
pub fn outlives_the_process(source: &Path) -> io::Result<Result<(), Fleeting>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(if is_of_a_process(&mounts, source) { Err(Fleeting) } else { Ok(()) })
}

fn is_of_a_process(mounts: &str, point: &Path) -> bool {
    root(mounts, point).is_some_and(|root| {
        root.iter().any(|name| name.as_encoded_bytes().starts_with(RUNTIME.as_bytes()))
    })
}

/// Of the last mount on `point`, the directory in its file system (`proc_pid_mountinfo(5)`, field 4).
fn root(mounts: &str, point: &Path) -> Option<PathBuf> {
    let root = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        (Path::new(at) == point).then(|| PathBuf::from(root))
    };
    mounts.lines().filter_map(root).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        268 187 254:0 /var/lib /host/state rw,relatime - ext4 /dev/vda rw\n\
        269 187 0:24 /docker/containerd/daemon/io.containerd.runtime.v2.task/plugins.moby/dad7 /host/bare rw - tmpfs tmpfs rw\n\
        270 187 254:0 /srv /host/state rw,relatime - ext4 /dev/vda rw\n";

    #[test]
    fn the_last_mount_on_a_directory_counts() {
        let root = |point: &str| root(MOUNTS, Path::new(point));
        assert_eq!(root("/host/state"), Some("/srv".into()));
        assert_eq!(root("/host"), None);
    }

    #[test]
    fn what_the_runtime_keeps_of_a_process_is_known() {
        let known = |point: &str| is_of_a_process(MOUNTS, Path::new(point));
        assert!(known("/host/bare") && !known("/host/state") && !known("/host"));
        assert!(outlives_the_process(Path::new("/nowhere")).unwrap().is_ok());
    }
}
