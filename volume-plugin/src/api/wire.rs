//! Docker's JSON, field by field. Go sends `null` for an empty map, and a retried request has no
//! fields at all.

use std::path::PathBuf;

use plugin_sdk::wire::null_as_default;
use serde::{Deserialize, Serialize};

use crate::name::VolumeName;
use crate::volume::catalog::Entry;
use crate::volume::options::RawOptions;
use crate::volume::status::Status;

/// Create.
#[derive(Debug, Deserialize)]
pub(super) struct CreateRequest {
    /// Name of the volume; any string.
    #[serde(rename = "Name", default, deserialize_with = "null_as_default")]
    pub(super) name: String,
    /// The `-o` options.
    #[serde(rename = "Opts", default, deserialize_with = "null_as_default")]
    pub(super) options: RawOptions,
}

/// Remove, Path, Get.
#[derive(Debug, Deserialize)]
pub(super) struct NameRequest {
    /// Name of the volume.
    #[serde(rename = "Name", default, deserialize_with = "null_as_default")]
    pub(super) name: String,
}

/// Mount, Unmount.
#[derive(Debug, Deserialize)]
pub(super) struct MountRequest {
    /// Name of the volume.
    #[serde(rename = "Name", default, deserialize_with = "null_as_default")]
    pub(super) name: String,
    /// Names the mount; used more than once.
    #[serde(rename = "ID", default, deserialize_with = "null_as_default")]
    pub(super) id: String,
}

/// List, Capabilities.
#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

/// Mount, Path.
#[derive(Debug, Serialize)]
pub(super) struct PathResponse {
    /// The path in the plugin, which dockerd turns into the host's; empty when not mounted.
    #[serde(rename = "Mountpoint")]
    mountpoint: PathBuf,
}

impl PathResponse {
    pub(super) fn new(mountpoint: Option<PathBuf>) -> Self {
        Self { mountpoint: mountpoint.unwrap_or_default() }
    }
}

/// Get.
#[derive(Debug, Serialize)]
pub(super) struct GetResponse {
    #[serde(rename = "Volume")]
    volume: Volume,
}

/// List.
#[derive(Debug, Serialize)]
pub(super) struct ListResponse {
    #[serde(rename = "Volumes")]
    volumes: Vec<Volume>,
}

#[derive(Debug, Serialize)]
struct Volume {
    /// As it was asked for: it becomes the volume's name in dockerd.
    #[serde(rename = "Name")]
    name: VolumeName,
    /// Empty when not mounted.
    #[serde(rename = "Mountpoint")]
    mountpoint: PathBuf,
    /// RFC 3339 or absent; an empty string would make the whole answer unreadable to dockerd.
    #[serde(rename = "CreatedAt", skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    /// Shown by `docker volume inspect`.
    #[serde(rename = "Status", skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

impl GetResponse {
    pub(super) fn new(
        name: VolumeName,
        mountpoint: Option<PathBuf>,
        entry: &Entry,
        status: Status,
    ) -> Self {
        let created_at = match entry {
            // In whole seconds, as Docker's own volumes have it.
            Entry::Volume(record) => Some(format!("{:.0}", record.created)),
            Entry::Unreadable(_) => None,
        };
        let mountpoint = mountpoint.unwrap_or_default();
        Self { volume: Volume { name, mountpoint, created_at, status: Some(status) } }
    }
}

impl ListResponse {
    /// dockerd reads nothing but names and mount points.
    pub(super) fn new(volumes: Vec<(VolumeName, Option<PathBuf>)>) -> Self {
        let volume = |(name, mountpoint): (VolumeName, Option<PathBuf>)| Volume {
            name,
            mountpoint: mountpoint.unwrap_or_default(),
            created_at: None,
            status: None,
        };
        Self { volumes: volumes.into_iter().map(volume).collect() }
    }
}

/// Capabilities.
#[derive(Debug, Serialize)]
pub(super) struct CapabilitiesResponse {
    #[serde(rename = "Capabilities")]
    capabilities: Capabilities,
}

#[derive(Debug, Serialize)]
struct Capabilities {
    /// `local`: each host has volumes of its own.
    #[serde(rename = "Scope")]
    scope: &'static str,
}

impl CapabilitiesResponse {
    pub(super) fn local() -> Self {
        Self { capabilities: Capabilities { scope: "local" } }
    }
}
