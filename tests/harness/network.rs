//! The network of an engine, seen from this process: what it listens on and connects to there.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::Engine;

/// The network namespace of an engine.
#[derive(Debug)]
pub struct Network(File);

impl Network {
    /// That of `engine`, for as long as it runs.
    pub fn of(engine: &Engine) -> Result<Self> {
        Ok(Self(File::open(engine.path("/proc/1/ns/net"))?))
    }

    /// Listens on `port` of its loopback.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        self.within(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))
            .with_context(|| format!("listen on port {port} of the engine"))
    }

    /// Connects to `port` of its loopback.
    pub fn connect(&self, port: u16) -> Result<TcpStream> {
        self.within(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)))
            .with_context(|| format!("connect to port {port} of the engine"))
    }

    /// What `make` gives in this network. A socket stays in the one that it was made in; the
    /// thread that makes it enters it for good, so it is one of its own.
    fn within<T: Send>(&self, make: impl FnOnce() -> std::io::Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let maker = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET)?;
                Ok(make()?)
            });
            maker.join().unwrap_or_else(|_| anyhow::bail!("making a socket panicked"))
        })
    }
}
