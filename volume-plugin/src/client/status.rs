//! `docker pgvol status`.

use plugin_sdk::cli::{Failure, Nothing, Session, text};

use crate::api::answers::{self, Pool};

/// Takes nothing.
#[derive(Debug, clap::Args)]
pub struct Status {}

impl Status {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self {} = self;
        session.show(session.call("/Pgvol.Status", &Nothing {})?, render)
    }
}

fn render(status: answers::Status) -> String {
    let counts: Vec<_> =
        status.volumes.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let formats = status.formats.iter().map(|(kind, version)| (kind, version.to_string()));
    let mut lines = vec![
        ("version", status.version),
        ("formats", text::pairs(formats)),
        ("state", status.state_directory),
        ("settings", text::pairs(&status.settings)),
    ];
    lines.extend(status.settings_error.map(|error| ("settings error", error)));
    lines.extend(status.error.map(|error| ("error", error)));
    lines.push(("volumes", if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }));
    lines.extend(
        status
            .degraded
            .into_iter()
            .map(|volume| ("degraded", format!("{}: {}", volume.name, volume.reason))),
    );
    let mut shown = text::fields(lines);
    if !status.pools.is_empty() {
        shown.push('\n');
        shown.push_str(&pools(status.pools));
    }
    shown
}

fn pools(pools: Vec<Pool>) -> String {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), text::bytes);
    let row = |pool: Pool| {
        let state = match pool.reason.or(pool.alarm) {
            None => pool.state,
            Some(reason) => format!("{}: {reason}", pool.state),
        };
        [
            pool.name,
            pool.kind.unwrap_or_else(|| "-".to_owned()),
            size(pool.size),
            size(pool.used),
            size(pool.free),
            size(pool.growable),
            pool.path.unwrap_or_else(|| "-".to_owned()),
            state,
        ]
    };
    text::table(
        ["POOL", "KIND", "SIZE", "USED", "FREE", "CAN GROW", "PATH", "STATE"],
        pools.into_iter().map(row),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answers::Degraded;

    #[test]
    fn what_is_wrong_is_shown_beside_what_works() {
        let status = answers::Status {
            version: "1.0.0".to_owned(),
            formats: [("pgvol-volume".to_owned(), 1)].into(),
            state_directory: "/var/lib/pgvol".to_owned(),
            settings: [("POOL_SIZE".to_owned(), "10G".to_owned())].into(),
            settings_error: Some("setting POOL_SIZE=lots".to_owned()),
            volumes: [("ok".to_owned(), 2), ("degraded".to_owned(), 1)].into(),
            degraded: vec![Degraded { name: "b".to_owned(), reason: "no pool".to_owned() }],
            pools: vec![
                Pool {
                    name: "default".to_owned(),
                    state: "failed".to_owned(),
                    reason: Some("full".to_owned()),
                    ..Pool::default()
                },
                Pool {
                    name: "wal".to_owned(),
                    state: "open".to_owned(),
                    kind: Some("dir".to_owned()),
                    path: Some("/var/lib/pgvol/wal".to_owned()),
                    size: Some(3 << 30),
                    used: Some(1 << 30),
                    free: Some(2 << 30),
                    growable: Some(0),
                    alarm: Some("80 % full".to_owned()),
                    ..Pool::default()
                },
            ],
            ..answers::Status::default()
        };
        assert_eq!(
            render(status),
            "version:          1.0.0\n\
             formats:          pgvol-volume=1\n\
             state:            /var/lib/pgvol\n\
             settings:         POOL_SIZE=10G\n\
             settings error:   setting POOL_SIZE=lots\n\
             volumes:          1 degraded, 2 ok\n\
             degraded:         b: no pool\n\
             \n\
             POOL      KIND   SIZE      USED      FREE      CAN GROW   PATH                 STATE\n\
             default   -      -         -         -         -          -                    failed: full\n\
             wal       dir    3.0 GiB   1.0 GiB   2.0 GiB   0 B        /var/lib/pgvol/wal   open: 80 % full\n"
        );
    }

    #[test]
    fn a_state_that_cannot_be_used_is_the_answer() {
        let error = Some("another pgvol is using it".to_owned());
        let text = render(answers::Status { error, ..answers::Status::default() });
        assert!(text.contains("error:      another pgvol is using it\n"), "{text}");
        assert!(!text.contains("POOL "), "{text}");
    }
}
