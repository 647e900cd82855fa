//! `docker pgvol ls`.

use plugin_sdk::cli::{Failure, Nothing, Session, text};

use crate::api::answers::{List, Volume};

/// Takes nothing.
#[derive(Debug, clap::Args)]
pub struct Ls {}

impl Ls {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self {} = self;
        session.show(session.call("/Pgvol.List", &Nothing {})?, render)
    }
}

fn render(list: List) -> String {
    let row = |volume: Volume| {
        [
            volume.name,
            volume.state,
            volume.layout.unwrap_or_else(|| "-".to_owned()),
            volume.mounts.to_string(),
            volume.created.unwrap_or_else(|| "-".to_owned()),
            text::pairs(&volume.labels),
        ]
    };
    text::table(
        ["NAME", "STATE", "LAYOUT", "MOUNTS", "CREATED", "LABELS"],
        list.volumes.into_iter().map(row),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_a_line_whatever_is_known_of_it() {
        let known = Volume {
            name: "appdb".to_owned(),
            state: "ok".to_owned(),
            layout: Some("split".to_owned()),
            created: Some("2026-11-22T12:00:00Z".to_owned()),
            mounts: 1,
            labels: [("team".to_owned(), "a".to_owned())].into(),
            ..Volume::default()
        };
        let torn = Volume { name: "b".into(), state: "degraded".into(), ..Volume::default() };
        assert_eq!(
            render(List { volumes: vec![known, torn] }),
            "NAME    STATE      LAYOUT   MOUNTS   CREATED                LABELS\n\
             appdb   ok         split    1        2026-11-22T12:00:00Z   team=a\n\
             b       degraded   -        0        -\n"
        );
    }
}
