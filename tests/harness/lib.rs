//! Harness of the end-to-end tests: real engines, real plugins, a real PostgreSQL.
//!
//! An [`Engine`] is a dockerd of Debian's, of one of several [`Version`]s, in namespaces of its own, so that it can be killed and
//! restarted at will and that nothing of it is left when it goes. A [`Plugin`] is one of the two
//! packaged plugins on it, a [`Pg`] a PostgreSQL server in a container. A suite is a list of
//! [`Scenario`]s that share one engine for as long as they succeed.
//!
//! Missing means (a privilege, a package, a plugin that is not packaged) are failures, never skips.
//! Waiting is always for a state with a limit ([`eventually`]), never for a time to pass.

mod census;
mod container;
mod dockerd_log;
mod engine;
mod leaks;
mod namespace;
mod network;
mod npm;
pub mod numbered;
pub mod packages;
mod pg;
mod plugin;
pub mod printer;
mod process;
mod proxy;
mod reboot;
mod root;
mod scenario;
mod suite;
mod version;
mod wait;

pub use census::Census;
pub use container::{Container, Volume};
pub use dockerd_log::DockerdLog;
pub use engine::{Engine, Outcome, RestartMode};
pub use network::Network;
pub use npm::npm_package;
pub use pg::{Pg, Writer};
pub use plugin::Plugin;
pub use process::LineStream;
pub use proxy::Proxy;
pub use root::package;
pub use scenario::Scenario;
pub use suite::{Stage, Suite, run};
pub use version::Version;
pub use wait::{eventually, within};
