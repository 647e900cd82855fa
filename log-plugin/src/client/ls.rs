//! `docker pglog ls`.

use plugin_sdk::cli::{Failure, Nothing, Session, text};

use super::container::short;
use crate::api::answers::{Container, List};

/// Takes nothing.
#[derive(Debug, clap::Args)]
pub struct Ls {}

impl Ls {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self {} = self;
        session.show(session.call("/Pglog.List", &Nothing {})?, render)
    }
}

fn render(list: List) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |container: Container| {
        [
            short(&container.id).to_owned(),
            or_dash(container.name),
            if container.streams > 0 { "open" } else { "ended" }.to_owned(),
            text::bytes(container.bytes),
            container.segments.to_string(),
            or_dash(container.first),
            or_dash(container.last),
            (container.dropped.messages + container.dropped.removed).to_string(),
        ]
    };
    text::table(
        ["CONTAINER", "NAME", "STREAM", "SIZE", "SEGMENTS", "FIRST", "LAST", "DROPPED"],
        list.containers.into_iter().map(row),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answers::Dropped;

    #[test]
    fn a_container_is_a_line_whatever_is_known_of_it() {
        let logged = Container {
            id: "0123456789abcdef".to_owned(),
            name: Some("app".to_owned()),
            streams: 1,
            bytes: 2048,
            segments: 2,
            first: Some("2026-11-22T12:00:00Z".to_owned()),
            last: Some("2026-11-22T12:00:01Z".to_owned()),
            dropped: Dropped { messages: 5, bytes: 70, removed: 2, garbled: 0 },
        };
        let empty = Container { id: "ab".to_owned(), ..Container::default() };
        assert_eq!(
            render(List { containers: vec![logged, empty] }),
            "CONTAINER      NAME   STREAM   SIZE      SEGMENTS   FIRST                  LAST                   DROPPED\n\
             0123456789ab   app    open     2.0 KiB   2          2026-11-22T12:00:00Z   2026-11-22T12:00:01Z   7\n\
             ab             -      ended    0 B       0          -                      -                      0\n"
        );
    }
}
