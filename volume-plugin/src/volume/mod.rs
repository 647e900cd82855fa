//! Volumes: what they are called, what they consist of, what is known of them, and what happens
//! to them.
//!
//! Copies of volumes are in `snapshot`.

pub mod catalog;
pub(crate) mod copies;
pub(crate) mod elsewhere;
pub mod error;
mod following;
mod freed;
mod holders;
#[cfg(test)]
mod hostile_tests;
mod inspection;
mod limits;
pub mod listing;
pub mod mounts;
pub mod options;
pub mod overview;
mod places;
pub mod purge;
pub mod record;
mod recovery;
mod relocation;
pub(crate) mod removal;
mod room;
pub mod service;
pub(crate) mod share;
pub mod size;
pub mod space;
pub mod spec;
pub mod status;
#[cfg(test)]
pub(crate) mod testing;
mod transfer;
pub mod trash;
mod upkeep;
pub(crate) mod usage;
pub(crate) mod view;
