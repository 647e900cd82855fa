//! Which container is meant by a name or the beginning of an id, also when it is removed.

use plugin_sdk::cli::{Failure, Session};

use crate::api::answers::Container;

/// Characters of an id that are shown.
const SHORT: usize = 12;

/// The id of the one of `known` that is called `word`. Names of logs come first, then Docker's own idea of
/// it, then the beginnings of ids.
pub(super) fn find(session: &Session, known: &[Container], word: &str) -> Result<String, Failure> {
    if let Some(id) = named(known, word)? {
        return Ok(id);
    }
    // Of a container that was renamed or not logged yet, only Docker knows the name.
    let inspected =
        session.docker(&["inspect", "--type", "container", "--format", "{{.Id}}", word]);
    inspected
        .ok()
        .map(|id| id.trim().to_owned())
        .filter(|id| known.iter().any(|container| container.id == *id))
        .ok_or_else(|| Failure::Refused(format!("no log of a container {word}")))
}

/// The one whose name or id it is, or the beginning of its id; an error where several are meant.
fn named(known: &[Container], word: &str) -> Result<Option<String>, Failure> {
    let is_name = |container: &&Container| container.name.as_deref() == Some(word);
    let is_id = |container: &&Container| container.id == word;
    let begins = |container: &&Container| !word.is_empty() && container.id.starts_with(word);
    if let Some(container) = known.iter().find(is_id) {
        return Ok(Some(container.id.clone()));
    }
    let mut names: Vec<_> = known.iter().filter(is_name).collect();
    // A name can be used again, and the one that is being logged is what it means today.
    if names.len() > 1 {
        let running: Vec<_> = names.iter().copied().filter(|its| its.streams > 0).collect();
        if running.len() == 1 {
            names = running;
        }
    }
    if names.is_empty() {
        names = known.iter().filter(begins).collect();
    }
    match &names[..] {
        [] => Ok(None),
        [container] => Ok(Some(container.id.clone())),
        several => {
            let ids: Vec<_> = several.iter().map(|container| short(&container.id)).collect();
            Err(Failure::Refused(format!("{word} are several: {}", ids.join(", "))))
        }
    }
}

/// The beginning of an id, as Docker shows it.
pub(super) fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// What one calls it.
pub(super) fn shown(container: Container) -> String {
    container.name.unwrap_or_else(|| short(&container.id).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, name: &str, streams: usize) -> Container {
        let name = (!name.is_empty()).then(|| name.to_owned());
        Container { id: id.to_owned(), name, streams, ..Container::default() }
    }

    #[test]
    fn a_container_is_found_by_name_id_and_beginning() {
        let known = [
            container("aa11", "app", 0),
            container("aa22", "app", 1),
            container("bb33", "old", 0),
            container("bb44", "old", 0),
            container("cc55", "", 0),
        ];
        let found = |word: &str| named(&known, word).map_err(|error| error.to_string());
        for (word, id) in [("app", "aa22"), ("aa11", "aa11"), ("c", "cc55"), ("bb33", "bb33")] {
            assert_eq!(found(word), Ok(Some(id.to_owned())), "{word}");
        }
        assert_eq!(found("nothing"), Ok(None));
        // As of a variable that nobody has set: not the one log that there may be.
        let only = [container("aa11", "app", 0)];
        assert!(matches!(named(&only, ""), Ok(None)));
        assert_eq!(found("old"), Err("old are several: bb33, bb44".to_owned()));
        assert!(found("aa").is_err());
    }
}
