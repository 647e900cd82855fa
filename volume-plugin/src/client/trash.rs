//! `docker pgvol trash`.

use plugin_sdk::cli::{Failure, Nothing, Session, text};

use crate::api::trash::{self, Removed};

/// Takes nothing.
#[derive(Debug, clap::Args)]
pub struct Trash {}

impl Trash {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self {} = self;
        session.show(session.call("/Pgvol.Trash", &Nothing {})?, render)
    }
}

fn render(trash: trash::Trash) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let row = |removed: Removed| {
        let state = match &removed.reason {
            None => removed.state,
            Some(reason) => format!("{}: {reason}", removed.state),
        };
        [
            removed.id,
            or_dash(removed.name),
            or_dash(removed.removed),
            or_dash(removed.until),
            or_dash(removed.used.map(text::bytes)),
            state,
        ]
    };
    text::table(
        ["ID", "NAME", "REMOVED", "KEPT UNTIL", "USED", "STATE"],
        trash.volumes.into_iter().map(row),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_a_line_whatever_is_known_of_it() {
        let kept = Removed {
            id: "appdb~0".to_owned(),
            name: Some("appdb".to_owned()),
            state: "kept".to_owned(),
            removed: Some("2026-11-22T12:00:00Z".to_owned()),
            until: Some("2026-11-23T12:00:00Z".to_owned()),
            used: Some(3 << 20),
            ..Removed::default()
        };
        let reason = Some("damaged".to_owned());
        let torn =
            Removed { id: "b~1".into(), state: "degraded".into(), reason, ..Removed::default() };
        assert_eq!(
            render(trash::Trash { volumes: vec![kept, torn] }),
            "ID        NAME    REMOVED                KEPT UNTIL             USED      STATE\n\
             appdb~0   appdb   2026-11-22T12:00:00Z   2026-11-23T12:00:00Z   3.0 MiB   kept\n\
             b~1       -       -                      -                      -         degraded: damaged\n"
        );
    }
}
