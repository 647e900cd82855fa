//! What the plugin knows of PostgreSQL.

pub mod checkpoint;
pub mod cluster;
pub mod control;
pub mod server;
pub mod wal;
