//! What the plugin knows of PostgreSQL.

pub mod backup;
pub mod checkpoint;
pub mod cluster;
pub mod control;
mod door;
pub(crate) mod pid_file;
pub mod server;
mod talk;
pub mod wal;
