//! pglog: container logs that never block and never lose a line.
//!
//! dockerd writes each container's output into a FIFO. [`ingest`] moves it into a [`journal`]
//! without looking at it, and [`history`] is `docker logs` out of that journal. What outlives the
//! process lies on disk before dockerd hears of it, so the plugin may be killed at any instant.
//!
//! A [`sink`] is one more reader of the journal.
//!
//! Arrows: `api -> history, ingest, sink -> journal -> frame, sys`, never back. `client` is the other end of
//! the admin calls: `docker pglog`, a process of its own, which knows of the rest only their answers.

pub mod api;
pub mod app;
pub mod client;
pub mod container;
pub mod frame;
pub mod history;
pub mod ingest;
pub mod journal;
pub mod keeper;
pub mod names;
pub mod options;
pub mod settings;
pub mod sink;
mod slots;
pub mod sys;
mod tag;
pub mod template;

#[cfg(test)]
mod tests;
