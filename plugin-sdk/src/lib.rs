//! What both plugins are made of: the server on the plugin socket, request routing, settings,
//! logs, files that survive a crash.
//!
//! The crate knows HTTP, sockets and JSON envelopes; it knows nothing of volumes or logs. A plugin
//! builds a [`router::Router`] out of its calls and hands it to [`server::Server::serve`].
//! Deliberately absent: any state of a plugin, any retry, any second transport.

pub mod chain;
pub mod cli;
pub mod client;
pub mod durable;
pub mod failpoint;
pub mod record;
pub mod router;
pub mod server;
pub mod settings;
pub mod shutdown;
pub mod state;
pub mod sys;
pub mod telemetry;
pub mod wire;
