//! The container that a stream belongs to, as StartLogging describes it: what templates and the
//! attributes of records are made of.

use std::collections::BTreeMap;

/// What is known of a container. Its environment may hold secrets: of it only what the options
/// `env`, `tag` and `file-path` name is ever stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The full id.
    pub id: String,
    /// The name, with a slash in front.
    pub name: String,
    /// The program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The image's full id, `sha256:` in front.
    pub image_id: String,
    /// The image as it was asked for.
    pub image_name: String,
    /// When it was made, in RFC 3339.
    pub created: String,
    /// `KEY=VALUE`, the image's and the user's.
    pub environment: Vec<String>,
    /// The image's and the user's.
    pub labels: BTreeMap<String, String>,
    /// All log options.
    pub options: BTreeMap<String, String>,
    /// What the engine calls itself.
    pub daemon_name: String,
}

/// Docker's short ids have so many characters, `sha256:` counted in.
const SHORT: usize = 12;

impl Container {
    /// The id as Docker shortens it.
    pub fn short_id(&self) -> &str {
        self.id.get(..SHORT).unwrap_or(&self.id)
    }

    /// The image's id as Docker shortens it.
    pub fn short_image_id(&self) -> &str {
        self.image_id.get(..SHORT).unwrap_or(&self.image_id)
    }

    /// The name without its slash.
    pub fn plain_name(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }

    /// The program with its arguments.
    pub fn command(&self) -> String {
        let words = std::iter::once(&self.entrypoint).chain(&self.arguments);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}
