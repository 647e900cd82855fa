//! `docker pgvol set VOLUME KEY=VALUE...`.

use plugin_sdk::cli::{Failure, Session};

use crate::api::change;

/// What is to be changed.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// Name of a volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// New values of `access`, `size`, `wal.size`, `tablespace.NAME.size`, `snapshot.schedule`,
    /// `snapshot.keep` and `label.KEY`
    #[arg(value_name = "KEY=VALUE", value_parser = pair, required_unless_present = "unset")]
    changes: Vec<(String, String)>,
    /// A label, `snapshot.schedule` or `snapshot.keep`, to be taken away
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

impl Set {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { volume: name, changes, unset } = self;
        let set = changes.into_iter().collect();
        let answer = session.call("/Pgvol.Set", &change::Set { name, set, unset })?;
        session.show(answer, super::done)
    }
}

/// The key goes up to the first `=`, as in Docker's own `-o`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_cut_at_its_first_sign() {
        assert_eq!(pair("label.x=a=b"), Ok(("label.x".to_owned(), "a=b".to_owned())));
        assert_eq!(pair("label.x="), Ok(("label.x".to_owned(), String::new())));
        assert!(pair("label.x").is_err() && pair("=x").is_err());
    }
}
