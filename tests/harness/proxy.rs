//! A proxy of TCP connections inside an engine's network, which breaks them when it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use crate::Engine;
use crate::network::Network;

/// How long a connection that is to be cut waits for something to be cut in the middle of.
const NOTICE: Duration = Duration::from_millis(300);

/// Passes on what comes to a port of the engine's loopback to another one.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the cuts: a connection that began before the last one ends.
    cuts: AtomicUsize,
    /// How many connections ended with half of what they had to pass on.
    halved: AtomicUsize,
    ended: AtomicBool,
}

impl Proxy {
    /// Listens on `port` and passes on to `to`.
    pub fn start(engine: &Engine, port: u16, to: u16) -> Result<Self> {
        let network = Network::of(engine)?;
        let listener = network.listen(port)?;
        let state = Arc::<State>::default();
        let own = Arc::clone(&state);
        let thread = thread::spawn(move || accept(&listener, &network, to, &own));
        Ok(Self { state, thread: Some(thread) })
    }

    /// Ends every connection in the middle of what it passes on: only half of it gets through.
    pub fn cut(&self) {
        self.state.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections were ended in the middle of something so far.
    pub fn halved(&self) -> usize {
        self.state.halved.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It never panics; and a drop is no place to complain.
            thread.join().ok();
        }
    }
}

fn accept(listener: &TcpListener, network: &Network, to: u16, state: &Arc<State>) {
    listener.set_nonblocking(true).ok();
    let mut connections = Vec::new();
    while !state.ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => {
                let state = Arc::clone(state);
                // Without a server behind it the connection ends at once.
                let server = network.connect(to);
                connections.push(thread::spawn(move || serve(client, server?, &state)));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
        connections.retain(|connection: &JoinHandle<_>| !connection.is_finished());
    }
    for connection in connections {
        connection.join().ok();
    }
}

/// Passes on in both directions until one side is done or the connection is cut.
fn serve(client: TcpStream, server: TcpStream, state: &Arc<State>) -> Result<()> {
    client.set_nonblocking(false)?;
    let since = state.cuts.load(Ordering::Relaxed);
    let back = (server.try_clone()?, client.try_clone()?, Arc::clone(state));
    let answers = thread::spawn(move || pass(back.0, back.1, since, &back.2));
    pass(client, server, since, state);
    answers.join().ok();
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream, since: usize, state: &State) {
    let mut chunk = [0; 16 * 1024];
    let over =
        || state.cuts.load(Ordering::Relaxed) != since || state.ended.load(Ordering::Relaxed);
    let mut work = || -> std::io::Result<()> {
        from.set_read_timeout(Some(NOTICE))?;
        to.set_write_timeout(Some(Duration::from_secs(2)))?;
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(length) if over() => {
                    state.halved.fetch_add(1, Ordering::Relaxed);
                    return to.write_all(&chunk[..length / 2]);
                }
                Ok(length) => to.write_all(&chunk[..length])?,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if over() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    };
    // A broken connection ends as one that is done.
    work().ok();
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
