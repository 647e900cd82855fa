//! `docker pgvol resize VOLUME SIZE [--role ROLE]`.

use plugin_sdk::cli::{Failure, Session};

use crate::api::change;
use crate::volume::spec::Role;

/// What shall hold how much.
#[derive(Debug, clap::Args)]
pub struct Resize {
    /// Name of a volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// What it may hold from here on, such as 40G; none for as much as there is
    #[arg(value_name = "SIZE")]
    size: String,
    /// Whose size: that of the data, or of a role that has one of its own, wal or tablespace.NAME
    #[arg(long, value_name = "ROLE", default_value_t = Role::Data.to_string())]
    role: String,
}

impl Resize {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { volume: name, size, role } = self;
        let data = role == Role::Data.to_string();
        if !data && role != Role::Wal.to_string() && !role.starts_with("tablespace.") {
            let words = format!("role `{role}`: allowed are data, wal and tablespace.NAME");
            return Err(Failure::Refused(words));
        }
        let key = if data { Role::Data.size_key() } else { format!("{role}.size") };
        let set = [(key, size)].into();
        let answer = session.call("/Pgvol.Set", &change::Set { name, set, unset: Vec::new() })?;
        session.show(answer, super::done)
    }
}
