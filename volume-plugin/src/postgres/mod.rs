//! What the plugin knows of PostgreSQL.

pub mod control;
pub mod server;
