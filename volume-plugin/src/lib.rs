//! pgvol, a Docker volume plugin for PostgreSQL.
//!
//! Arrows: `api` -> `volume`, `snapshot` -> `pool`, `guard` -> `postgres` -> `sys`, never back; `name` is the vocabulary that all
//! have in common. `app` wires them; the binary beside this library is a page of prose. `client` is the other
//! end of the admin calls: `docker pgvol`, a process of its own, which knows of the rest only their answers.

pub mod api;
pub mod app;
pub mod client;
pub mod guard;
pub mod name;
pub mod pool;
pub mod postgres;
#[cfg(test)]
mod scratch;
pub mod settings;
pub mod snapshot;
pub mod sys;
#[cfg(any(test, feature = "fuzzing"))]
pub mod untrusted;
pub mod volume;
