//! What an engine may have left on the machine: loop devices, mounts, control groups.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{program, run};
use crate::wait::eventually;

/// The kernel drops mounts and loop devices a moment after the last process.
const SETTLE: Duration = Duration::from_secs(10);

/// Loop devices whose backing file is below `state`, found by device and inode: the path that the
/// kernel shows is the one of a mount namespace that may be gone.
pub(crate) fn loop_devices(state: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for plugin in ["pgvol", "pglog"] {
        collect_files(&state.join(plugin), &mut files)?;
    }
    let columns = "--output=NAME,BACK-MAJ:MIN,BACK-INO";
    let table = run(program("losetup").args(["--list", "--noheadings", columns]))?;
    let mut devices = Vec::new();
    for line in table.lines() {
        let mut columns = line.split_whitespace();
        let name = columns.next().context("a name")?;
        let key = (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
        if files.iter().any(|(device, inode)| (device.as_str(), inode.as_str()) == key) {
            devices.push(name.to_owned());
        }
    }
    Ok(devices)
}

/// Device (`major:minor`) and inode of the files that a pool image may be: large ones.
fn collect_files(directory: &Path, files: &mut Vec<(String, String)>) -> Result<()> {
    const SMALLEST_IMAGE: u64 = 16 << 20;
    if !directory.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            collect_files(&entry.path(), files)?;
        } else if metadata.len() >= SMALLEST_IMAGE {
            let device = metadata.dev();
            let major = (device >> 8) & 0xfff;
            let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
            files.push((format!("{major}:{minor}"), metadata.ino().to_string()));
        }
    }
    Ok(())
}

/// Fails when loop devices or mounts of the ended engine below `work` stay; detaches the devices.
pub(crate) fn check(work: &Path) -> Result<()> {
    let mounts = eventually(SETTLE, || {
        let text = fs::read_to_string("/proc/self/mountinfo")?;
        let ours = text.lines().find(|line| line.contains(&*work.to_string_lossy()));
        ensure!(ours.is_none(), "a mount is left on the machine: {}", ours.unwrap_or_default());
        Ok(())
    });
    let loops = eventually(SETTLE, || {
        let devices = loop_devices(&work.join("var-lib"))?;
        ensure!(devices.is_empty(), "loop devices are left on the machine: {devices:?}");
        Ok(())
    });
    if loops.is_err() {
        for device in loop_devices(&work.join("var-lib"))? {
            run(program("losetup").arg("--detach").arg(device))?;
        }
    }
    mounts.and(loops)
}

/// Removes the control groups that died with their processes, and `parent`, which held them.
pub(crate) fn remove_control_groups(groups: &[String], parent: &str) -> Result<()> {
    let parent = format!("/{parent}");
    for entry in fs::read_dir("/sys/fs/cgroup")? {
        let hierarchy = entry?.path();
        if hierarchy.is_dir() {
            for group in groups.iter().chain([&parent]) {
                remove_tree(&hierarchy.join(group.trim_start_matches('/')));
            }
        }
    }
    for group in groups.iter().chain([&parent]) {
        remove_tree(&Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/')));
    }
    Ok(())
}

/// Removes a control group with those below it. One that other processes are in refuses.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(group).ok();
}
