//! A volume driver and a log driver, just far enough to be given real volumes and streams.
//!
//! A volume is a directory: below the state directory, or with `-o pool=image` in the open pool.
//! Its view stays until `Remove`; mount ids are not counted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::procfs::same_file;
use crate::{STATE, pool, stream};

/// Answers one call of dockerd's.
pub(crate) fn answer(path: &str, body: &Value) -> Result<Value> {
    let name = body["Name"].as_str().unwrap_or_default();
    match path {
        "/VolumeDriver.Create" => create(name, &body["Opts"]),
        "/VolumeDriver.Remove" => remove(name),
        "/VolumeDriver.Mount" => mount_view(name),
        "/VolumeDriver.Get" if record(name).exists() => Ok(json!({"Volume": {"Name": name}})),
        "/VolumeDriver.Get" => bail!("no such volume"),
        "/VolumeDriver.Path" => Ok(json!({"Mountpoint": view(name)})),
        "/VolumeDriver.Unmount" => Ok(json!({})),
        "/VolumeDriver.List" => Ok(json!({"Volumes": []})),
        "/VolumeDriver.Capabilities" => Ok(json!({"Capabilities": {"Scope": "local"}})),
        "/LogDriver.Capabilities" => Ok(json!({"Cap": {"ReadLogs": false}})),
        "/LogDriver.StartLogging" => stream::start(body["File"].as_str().unwrap_or_default()),
        "/LogDriver.StopLogging" => stream::stop(body["File"].as_str().unwrap_or_default()),
        _ => bail!("no such call: {path}"),
    }
}

fn record(name: &str) -> PathBuf {
    Path::new(STATE).join("records").join(name)
}

fn view(name: &str) -> PathBuf {
    Path::new("/mnt/volumes").join(name)
}

fn create(name: &str, options: &Value) -> Result<Value> {
    let parent = match options["pool"].as_str() {
        Some("image") => PathBuf::from(pool::MOUNT_POINT),
        _ => Path::new(STATE).join("volumes"),
    };
    let directory = parent.join(name);
    fs::create_dir_all(&directory).with_context(|| format!("mkdir {}", directory.display()))?;
    fs::create_dir_all(Path::new(STATE).join("records"))?;
    fs::write(record(name), directory.as_os_str().as_encoded_bytes())?;
    Ok(json!({}))
}

fn mount_view(name: &str) -> Result<Value> {
    let source = PathBuf::from(fs::read_to_string(record(name)).context("no such volume")?);
    let view = view(name);
    fs::create_dir_all(&view).with_context(|| format!("mkdir {}", view.display()))?;
    if !same_file(&source, &view) {
        mount(Some(&source), &view, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("bind {} to {}", source.display(), view.display()))?;
    }
    Ok(json!({"Mountpoint": view}))
}

fn remove(name: &str) -> Result<Value> {
    let directory = fs::read_to_string(record(name)).context("no such volume")?;
    // Not mounted is as good.
    umount2(&view(name), MntFlags::MNT_DETACH).ok();
    fs::remove_dir_all(&directory).with_context(|| format!("remove {directory}"))?;
    fs::remove_file(record(name))?;
    Ok(json!({}))
}
