//! Volumes: what they are called, what they consist of, what is known of them, and what happens
//! to them.
//!
//! Absent for now: snapshots, clones, limits, a trash.

pub mod catalog;
pub mod error;
mod holders;
mod inspection;
pub mod mounts;
pub mod options;
pub mod overview;
mod recovery;
pub mod service;
pub mod spec;
pub mod status;
#[cfg(test)]
pub(crate) mod testing;
mod usage;
mod view;
