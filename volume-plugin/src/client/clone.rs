//! `docker pgvol clone FROM NAME`.

use plugin_sdk::cli::{Failure, Session};

use super::making;
use crate::api::snapshots::Make;

/// Of what, and what it shall be called.
#[derive(Debug, clap::Args)]
pub struct Clone {
    /// A volume or a snapshot
    #[arg(value_name = "FROM")]
    from: String,
    /// Name of the new volume
    #[arg(value_name = "NAME")]
    name: String,
    /// Keep archiving, slots and standby settings
    #[arg(long)]
    unsanitized: bool,
    /// Do not wait for it
    #[arg(long)]
    detach: bool,
}

impl Clone {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { from, name, unsanitized, detach } = self;
        if name.contains('@') {
            let words =
                format!("`{name}` is a name of a snapshot: a clone is a volume, without `@`");
            return Err(Failure::Refused(words));
        }
        let mut make = Make { name, ..Make::default() };
        make.options.insert("from".to_owned(), from);
        if unsanitized {
            make.options.insert("sanitize".to_owned(), "off".to_owned());
        }
        making::make(make, detach, session)
    }
}
