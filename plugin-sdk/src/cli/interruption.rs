//! Notices that the user has had enough, for commands that have something to put in order before they end.
//!
//! On a terminal the signal comes to all of the docker command's processes. Elsewhere docker alone gets
//! it: it tells its plugin, from 25.0 on, by closing the socket that it named in the environment
//! (docker/cli `cli-plugins/socket`).

use std::env;
use std::io::{self, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The socket whose end says that it is over.
const SOCKET: &str = "DOCKER_CLI_PLUGIN_SOCKET";

/// Whether it is over. From its making on a signal ends the process no more.
#[derive(Debug, Clone)]
pub struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// Begins to watch.
    pub fn watch() -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let guard = runtime.enter();
        let [mut interrupt, mut terminate, mut hangup] = signals(kinds)?;
        drop(guard);
        let noted = Arc::clone(&over);
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            noted.store(true, Ordering::Relaxed);
            // The handlers stay; whoever insists has to kill.
        });
        if let Some(docker) = env::var(SOCKET).ok().and_then(|name| connect(&name)) {
            let noted = Arc::clone(&over);
            thread::spawn(move || {
                wait_for_end(docker);
                noted.store(true, Ordering::Relaxed);
            });
        }
        Ok(Self(over))
    }

    /// Whether it is over.
    pub fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn signals<const COUNT: usize>(kinds: [SignalKind; COUNT]) -> io::Result<[Signal; COUNT]> {
    let all: Vec<_> = kinds.into_iter().map(signal).collect::<Result<_, _>>()?;
    all.try_into().map_err(|_| io::Error::other("signals"))
}

/// `@NAME` is a socket without a file.
fn connect(name: &str) -> Option<UnixStream> {
    match name.strip_prefix('@') {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).ok()?).ok(),
        None => UnixStream::connect(name).ok(),
    }
}

fn wait_for_end(mut docker: UnixStream) {
    let mut said = [0; 64];
    while docker.read(&mut said).is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_end_of_docker_s_socket_is_noticed() {
        let name = format!("pgvol-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let docker = connect(&format!("@{name}")).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        io::Write::write_all(&mut accepted, b"x").unwrap();
        let waiting = thread::spawn(move || wait_for_end(docker));
        drop(accepted);
        waiting.join().unwrap();
        assert!(connect("/nowhere").is_none());
    }
}
