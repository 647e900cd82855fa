//! Whose log a journal is, beside its segments: dockerd says a container's name with each stream, and
//! when the container is removed nobody else remembers it.

use std::collections::BTreeMap;
use std::io;

use plugin_sdk::{durable, record};
use serde::{Deserialize, Serialize};

use super::Journal;
use super::removal::missing_is_fine;

pub(crate) const KIND: &str = "pglog-container";
pub(crate) const VERSION: u32 = 1;

/// Name of the file; no segment's has this form.
const FILE: &str = "container";

/// What was said of the container at its last stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its name.
    pub name: String,
    /// Its log options.
    pub options: BTreeMap<String, String>,
}

impl Journal {
    /// What is noted of the container; none for a journal without a note that can be read.
    pub fn about(&self) -> Option<About> {
        let bytes = std::fs::read(self.dir.join(FILE)).ok()?;
        record::decode(KIND, VERSION, &bytes).ok()
    }

    /// Forgets it.
    pub(super) fn forget_about(&self) -> io::Result<()> {
        missing_is_fine(std::fs::remove_file(self.dir.join(FILE)))
    }

    /// Notes it, if anything is stored of the container and it is not noted already.
    pub fn note(&self, about: &About) -> io::Result<()> {
        if self.state().segments.is_empty() || self.about().as_ref() == Some(about) {
            return Ok(());
        }
        let bytes = record::encode(KIND, VERSION, about).map_err(io::Error::other)?;
        durable::write(&self.dir.join(FILE), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_noted_once_something_of_it_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("c");
        let about = |name: &str| About { name: name.to_owned(), options: BTreeMap::new() };
        let journal = Journal::open(&place);
        journal.note(&about("a")).unwrap();
        assert!(!place.exists() && journal.about().is_none());
        durable::create_dir(&place, 0o700).unwrap();
        durable::write(&place.join(format!("{:020}.t", 1)), b"").unwrap();
        let journal = Journal::open(&place);
        for name in ["a", "a", "b"] {
            journal.note(&about(name)).unwrap();
            assert_eq!(journal.about(), Some(about(name)));
        }
        // It is not taken for a segment.
        assert_eq!(Journal::open(&place).inventory().segments.len(), 1);
        durable::write(&place.join(FILE), b"torn").unwrap();
        assert_eq!(journal.about(), None);
    }
}
