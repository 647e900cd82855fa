//! Reaching paths of the host: through `/proc/1/root`, and through its mount namespace.

use std::fs::{self, File};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::{sys, text};

const HOST_ROOT: &str = "/proc/1/root";

fn below_root(path: &str) -> String {
    format!("{HOST_ROOT}{path}")
}

/// Reads a file of the host.
pub(crate) fn read(arguments: &Value) -> Result<Value> {
    let path = below_root(text(arguments, "path")?);
    Ok(json!(fs::read_to_string(&path).with_context(|| format!("read {path}"))?))
}

/// Writes a file of the host.
pub(crate) fn write(arguments: &Value) -> Result<Value> {
    let path = below_root(text(arguments, "path")?);
    fs::write(&path, text(arguments, "text")?).with_context(|| format!("write {path}"))?;
    Ok(json!({}))
}

/// Tries to clone a mount of the host without entering its mount namespace.
pub(crate) fn clone_through_proc(arguments: &Value) -> Result<Value> {
    let path = below_root(text(arguments, "path")?);
    sys::clone_mount(Path::new(&path)).with_context(|| format!("open_tree {path}"))?;
    Ok(json!({}))
}

/// Brings the directory `path` of the host in as a private bind mount at `target`.
pub(crate) fn bring(arguments: &Value) -> Result<Value> {
    let path = text(arguments, "path")?.to_owned();
    let target = Path::new(text(arguments, "target")?);
    // A thread of its own: it leaves the process's namespace and need not come back.
    let tree = thread::spawn(move || {
        let namespace = File::open("/proc/1/ns/mnt").context("open /proc/1/ns/mnt")?;
        // setns refuses a thread that shares its root and working directory with others.
        unshare(CloneFlags::CLONE_FS).context("unshare")?;
        setns(namespace, CloneFlags::CLONE_NEWNS).context("setns")?;
        sys::clone_mount(Path::new(&path)).with_context(|| format!("open_tree {path}"))
    })
    .join()
    .map_err(|_| anyhow!("the thread panicked"))??;
    sys::make_private(&tree).context("mount_setattr")?;
    fs::create_dir_all(target).with_context(|| format!("mkdir {}", target.display()))?;
    sys::attach_mount(&tree, target).with_context(|| format!("move_mount {}", target.display()))?;
    Ok(json!({}))
}
