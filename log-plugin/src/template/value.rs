//! What expressions in templates come to.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::TemplateError;
use crate::container::Container;
use crate::sys;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// What is not there.
    None,
    /// The container itself.
    Root,
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<String>),
    Map(BTreeMap<String, String>),
}

impl Value {
    /// The field `name` of Docker's `Info`, its methods included; `None` where there is none.
    pub(super) fn of_container(name: &str, of: &Container) -> Option<Result<Self, TemplateError>> {
        let text = |text: &str| Self::Text(text.to_owned());
        Some(Ok(match name {
            "ID" => text(of.short_id()),
            "FullID" | "ContainerID" => text(&of.id),
            "Name" => text(of.plain_name()),
            "ContainerName" => text(&of.name),
            "Command" => Self::Text(of.command()),
            "ImageID" => text(of.short_image_id()),
            "ImageFullID" | "ContainerImageID" => text(&of.image_id),
            "ImageName" | "ContainerImageName" => text(&of.image_name),
            "Hostname" => Self::Text(sys::host_name()),
            "DaemonName" => text(&of.daemon_name),
            "ContainerEntrypoint" => text(&of.entrypoint),
            "ContainerArgs" => Self::List(of.arguments.clone()),
            "ContainerEnv" => Self::List(of.environment.clone()),
            "ContainerLabels" => Self::Map(of.labels.clone()),
            "Config" => Self::Map(of.options.clone()),
            "LogPath" => text(""),
            "ContainerCreated" | "ExtraAttributes" => {
                return Some(Err(TemplateError::NotBuilt(name.to_owned())));
            }
            _ => return None,
        }))
    }

    /// The entry `key` of a map.
    pub(super) fn key(self, key: &str) -> Option<Self> {
        match self {
            Self::Map(mut map) => Some(map.remove(key).map_or(Self::None, Self::Text)),
            _ => None,
        }
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        const STRING: usize = size_of::<String>();
        match self {
            Self::None | Self::Root | Self::Bool(_) | Self::Number(_) => 0,
            Self::Text(text) => text.len(),
            Self::List(list) => list.iter().map(|text| text.len() + STRING).sum(),
            Self::Map(map) => {
                map.iter().map(|(key, value)| key.len() + value.len() + 2 * STRING).sum()
            }
        }
    }

    /// As Go's templates judge it: what is empty is false.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::None => false,
            Self::Root => true,
            Self::Bool(value) => *value,
            Self::Number(value) => *value != 0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }

    /// As Go's `%v` prints it.
    pub(super) fn printed(&self) -> String {
        match self {
            // Nobody is shown the container as a whole.
            Self::None | Self::Root => "<no value>".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(list) => format!("[{}]", list.join(" ")),
            Self::Map(map) => {
                let mut out = "map[".to_owned();
                for (at, (key, value)) in map.iter().enumerate() {
                    // Writing into a string does not fail.
                    write!(out, "{}{key}:{value}", if at == 0 { "" } else { " " }).ok();
                }
                out + "]"
            }
        }
    }
}
