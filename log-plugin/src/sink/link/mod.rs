//! Streams to servers of the network and of the host: what sinks that send have in common.

pub(super) mod tls;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use self::tls::TlsError;
use crate::options::TlsSpec;
use crate::sys::{self, HostRoot};

/// How long connecting may take, the handshake included, and how long the other side may take
/// nothing of what it is sent.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// How many names are looked up at once: each takes a thread, and those of all sinks are not to wait for
/// a server of names that is silent.
static LOOKUPS: Semaphore = Semaphore::const_new(32);

/// Why nothing is sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("resolve {host}")]
    Resolve { host: String, source: io::Error },
    #[error("connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("{address}")]
    Tls { address: String, source: TlsError },
    #[error("send to {address}")]
    Send { address: String, source: io::Error },
    #[error("{address} has closed the connection")]
    Closed { address: String },
    #[error("{address} takes nothing")]
    Stalled { address: String },
}

/// A stream in both directions.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A stream to a server.
pub(super) struct Link {
    address: String,
    stream: Box<dyn Io>,
    /// Its socket, which tells what the other side has yet to take.
    socket: OwnedFd,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects by TCP to a port of `host`, whose name is resolved now. `address` is all of it as
    /// people write it.
    pub(super) async fn tcp(address: &str, host: &str, port: u16) -> Result<Self, LinkError> {
        Self::of(address, tcp(host, port).await?)
    }

    /// Connects by TLS to a port of `name`; the files that `tls` names are those of `host`.
    pub(super) async fn tls(
        address: &str,
        (name, port): (&str, u16),
        tls: &TlsSpec,
        host: &HostRoot,
    ) -> Result<Self, LinkError> {
        let address = address.to_owned();
        let failed = |source| LinkError::Connect { address: address.clone(), source };
        let (spec, host, server) = (tls.clone(), host.clone(), name.to_owned());
        // It reads files, which may be on a disk that hangs.
        let made = tokio::task::spawn_blocking(move || tls::connector(&spec, &host, &server));
        let (connector, server) = made
            .await
            .map_err(|panic| failed(panic.into()))?
            .map_err(|source| LinkError::Tls { address: address.clone(), source })?;
        let stream = tcp(name, port).await?;
        let socket = stream.as_fd().try_clone_to_owned().map_err(failed)?;
        let shaken = timeout(PATIENCE, connector.connect(server, stream)).await;
        let stream = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = Box::new(stream.map_err(failed)?);
        Ok(Self { address, stream, socket })
    }

    /// Connects to the socket of the host at `path`.
    pub(super) async fn unix(
        address: &str,
        path: &Path,
        host: &HostRoot,
    ) -> Result<Self, LinkError> {
        let failed = |source| LinkError::Connect { address: address.to_owned(), source };
        let socket = host.existing(path).map_err(failed)?;
        let connected = timeout(PATIENCE, UnixStream::connect(socket.path())).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        Self::of(address, stream.map_err(failed)?)
    }

    fn of<S: Io + AsFd + 'static>(address: &str, stream: S) -> Result<Self, LinkError> {
        let address = address.to_owned();
        match stream.as_fd().try_clone_to_owned() {
            Ok(socket) => Ok(Self { address, stream: Box::new(stream), socket }),
            Err(source) => Err(LinkError::Connect { address, source }),
        }
    }

    /// The server, as people write it.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sends all of `bytes`, as long as some are taken every now and then. A stream is unusable
    /// when this was cut short.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            let written = timeout(PATIENCE, self.stream.write(bytes)).await;
            let taken = self.judged(written)?;
            if taken == 0 {
                return Err(LinkError::Closed { address: self.address.clone() });
            }
            bytes = &bytes[taken..];
        }
        let flushed = timeout(PATIENCE, self.stream.flush()).await;
        self.judged(flushed)
    }

    /// Whether the other side's system has taken all that was sent.
    pub(super) fn has_taken(&self) -> Result<bool, LinkError> {
        Ok(self.unsent()? == 0)
    }

    fn unsent(&self) -> Result<usize, LinkError> {
        let failed = |source| LinkError::Send { address: self.address.clone(), source };
        sys::unsent(&self.socket).map_err(failed)
    }

    /// Waits until the other side's system has taken all that was sent, as long as it takes some
    /// every now and then.
    pub(super) async fn taken(&mut self) -> Result<(), LinkError> {
        let (mut least, mut since) = (usize::MAX, Instant::now());
        let mut pause = Duration::from_micros(100);
        loop {
            self.check().await?;
            match self.unsent()? {
                0 => return Ok(()),
                unsent if unsent < least => (least, since) = (unsent, Instant::now()),
                _ if since.elapsed() > PATIENCE => {
                    return Err(LinkError::Stalled { address: self.address.clone() });
                }
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Whether the other side has not closed the connection, as far as is known here. What it
    /// says is thrown away.
    pub(super) async fn check(&mut self) -> Result<(), LinkError> {
        let mut scratch = [0; 512];
        loop {
            let read = poll_fn(|context| {
                let mut buffer = ReadBuf::new(&mut scratch);
                Poll::Ready(match Pin::new(&mut *self.stream).poll_read(context, &mut buffer) {
                    Poll::Pending => None,
                    Poll::Ready(read) => Some(read.map(|()| buffer.filled().len())),
                })
            });
            let address = || self.address.clone();
            match read.await {
                None => return Ok(()),
                Some(Ok(1..)) => {}
                Some(Ok(0)) => return Err(LinkError::Closed { address: address() }),
                Some(Err(source)) => return Err(LinkError::Send { address: address(), source }),
            }
        }
    }

    /// Waits for what the other side says and appends it to `out`. May be given up at any time.
    pub(super) async fn receive(&mut self, out: &mut Vec<u8>) -> Result<(), LinkError> {
        let address = || self.address.clone();
        match self.stream.read_buf(out).await {
            Ok(0) => Err(LinkError::Closed { address: address() }),
            Ok(_) => Ok(()),
            Err(source) => Err(LinkError::Send { address: address(), source }),
        }
    }

    /// Says good-bye, which TLS wants.
    pub(super) async fn close(mut self) {
        // All was taken before; who does not answer now is no loss.
        drop(timeout(Duration::from_secs(1), self.stream.shutdown()).await);
    }

    fn judged<T>(
        &self,
        done: Result<io::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, LinkError> {
        let address = self.address.clone();
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(source)) => Err(LinkError::Send { address, source }),
            Err(_elapsed) => Err(LinkError::Stalled { address }),
        }
    }
}

/// The addresses of `host` with `port`, which the system looks up anew.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let patience = Instant::now() + PATIENCE;
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let turn = timeout_at(patience, LOOKUPS.acquire()).await.map_err(late)?;
    let turn = turn.map_err(io::Error::other)?;
    let host = host.to_owned();
    let looked_up = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        // A thread of its own until the system gives up, however long anybody waits for it.
        drop(turn);
        found
    });
    timeout_at(patience, looked_up).await.map_err(late)??
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, LinkError> {
    let resolved = resolve(host, port).await;
    let addresses =
        resolved.map_err(|source| LinkError::Resolve { host: host.to_owned(), source })?;
    let connected = timeout(PATIENCE, TcpStream::connect(addresses.as_slice())).await;
    connected
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| LinkError::Connect { address: format!("{host}:{port}"), source })
}
