//! Connections to syslog servers of every kind.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::tls::{self, TlsError};
use crate::options::{Address, TlsSpec};
use crate::sys::{self, HostRoot};

/// How long connecting may take, the handshake included, and how long the other side may take
/// nothing of what it is sent.
const PATIENCE: Duration = Duration::from_secs(15);

/// A name is resolved anew when a socket without a connection is this old.
const RESOLVED: Duration = Duration::from_mins(1);

/// Where a host's own syslog listens, as Docker looks for it.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Why nothing is sent.
#[derive(Debug, thiserror::Error)]
pub(in crate::sink) enum SyslogError {
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

/// An open connection.
pub(super) struct Connection {
    address: String,
    kind: Kind,
}

enum Kind {
    /// The stream, and its socket, which tells what the other side has yet to take.
    Stream(Box<dyn Io>, OwnedFd),
    Udp(UdpSocket, Instant),
    Unixgram(UnixDatagram),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

/// `address` as people write it.
pub(super) fn shown(address: &Address) -> String {
    let host = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match address {
        Address::Local => "the host's own syslog".to_owned(),
        Address::Unix(path) => format!("unix://{}", path.display()),
        Address::Unixgram(path) => format!("unixgram://{}", path.display()),
        Address::Udp(name, port) => format!("udp://{}:{port}", host(name)),
        Address::Tcp(name, port) => format!("tcp://{}:{port}", host(name)),
        Address::Tls(name, port) => format!("tcp+tls://{}:{port}", host(name)),
    }
}

impl Connection {
    /// Connects to `address`; names are resolved now, paths are the host's.
    pub(super) async fn open(
        address: &Address,
        tls: &TlsSpec,
        host: &HostRoot,
    ) -> Result<Self, SyslogError> {
        let shown = shown(address);
        let failed = |source| SyslogError::Connect { address: shown.clone(), source };
        let kind = match address {
            Address::Udp(name, port) => udp(name, *port).await.map_err(failed)?,
            Address::Tcp(name, port) => {
                let stream = tcp(name, *port).await?;
                let socket = stream.as_fd().try_clone_to_owned().map_err(failed)?;
                Kind::Stream(Box::new(stream), socket)
            }
            Address::Tls(name, port) => {
                let failed_tls = |source| SyslogError::Tls { address: shown.clone(), source };
                let (connector, server) = tls::connector(tls, host, name).map_err(failed_tls)?;
                let stream = tcp(name, *port).await?;
                let socket = stream.as_fd().try_clone_to_owned().map_err(failed)?;
                let shaken = timeout(PATIENCE, connector.connect(server, stream)).await;
                let stream = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                Kind::Stream(Box::new(stream.map_err(failed)?), socket)
            }
            Address::Unix(path) => unix(path, host).await.map_err(failed)?,
            Address::Unixgram(path) => unixgram(path, host).map_err(failed)?,
            Address::Local => local(host).await.map_err(failed)?,
        };
        Ok(Self { address: shown, kind })
    }

    /// Whether messages go one by one, each whole or not at all.
    pub(super) fn is_datagram(&self) -> bool {
        !matches!(self.kind, Kind::Stream(..))
    }

    /// Whether the address should be looked up again.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self.kind, Kind::Udp(_, since) if since.elapsed() > RESOLVED)
    }

    /// Sends one message as a datagram, or bytes of a stream. A stream is unusable when this was
    /// cut short.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), SyslogError> {
        let sent = match &mut self.kind {
            Kind::Stream(stream, _) => send_stream(stream, bytes).await,
            Kind::Udp(socket, _) => socket.send(bytes).await.map(drop),
            Kind::Unixgram(socket) => match timeout(PATIENCE, socket.send(bytes)).await {
                Ok(sent) => sent.map(drop),
                Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
            },
        };
        let address = || self.address.clone();
        sent.map_err(|source| match source.kind() {
            io::ErrorKind::TimedOut => SyslogError::Stalled { address: address() },
            _ => SyslogError::Send { address: address(), source },
        })
    }

    /// Waits until the other side's system has taken all that was sent.
    pub(super) async fn taken(&mut self) -> Result<(), SyslogError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(100);
        loop {
            self.check().await?;
            let Kind::Stream(_, socket) = &self.kind else { return Ok(()) };
            match sys::unsent(socket) {
                Ok(0) => return Ok(()),
                Ok(_) if Instant::now() > deadline => {
                    return Err(SyslogError::Stalled { address: self.address.clone() });
                }
                Ok(_) => {}
                Err(source) => {
                    return Err(SyslogError::Send { address: self.address.clone(), source });
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Whether the other side has not closed the connection, as far as is known here.
    pub(super) async fn check(&mut self) -> Result<(), SyslogError> {
        let Kind::Stream(stream, _) = &mut self.kind else { return Ok(()) };
        let mut scratch = [0; 512];
        loop {
            // What a server says is of no interest, but its end is.
            let read = poll_fn(|context| {
                let mut buffer = ReadBuf::new(&mut scratch);
                Poll::Ready(match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                    Poll::Pending => None,
                    Poll::Ready(read) => Some(read.map(|()| buffer.filled().len())),
                })
            });
            let address = self.address.clone();
            match read.await {
                None => return Ok(()),
                Some(Ok(1..)) => {}
                Some(Ok(0)) => return Err(SyslogError::Closed { address }),
                Some(Err(source)) => return Err(SyslogError::Send { address, source }),
            }
        }
    }

    /// Says good-bye, which TLS wants.
    pub(super) async fn close(mut self) {
        if let Kind::Stream(stream, _) = &mut self.kind {
            // All was taken before; who does not answer now is no loss.
            drop(timeout(Duration::from_secs(1), stream.shutdown()).await);
        }
    }
}

/// Writes all of `bytes`, as long as some are taken every now and then.
async fn send_stream(stream: &mut Box<dyn Io>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match timeout(PATIENCE, stream.write(bytes)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(Ok(taken)) => bytes = &bytes[taken..],
            Ok(Err(error)) => return Err(error),
            Err(_elapsed) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    timeout(PATIENCE, stream.flush()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, SyslogError> {
    let resolved = lookup_host((host, port)).await;
    let addresses = resolved
        .map_err(|source| SyslogError::Resolve { host: host.to_owned(), source })?
        .collect::<Vec<_>>();
    let connected = timeout(PATIENCE, TcpStream::connect(addresses.as_slice())).await;
    connected
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| SyslogError::Connect { address: format!("{host}:{port}"), source })
}

async fn udp(host: &str, port: u16) -> io::Result<Kind> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in lookup_host((host, port)).await? {
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(Kind::Udp(socket, Instant::now())),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn unix(path: &Path, host: &HostRoot) -> io::Result<Kind> {
    let socket = host.existing(path)?;
    let stream = UnixStream::connect(socket.path()).await?;
    let socket = stream.as_fd().try_clone_to_owned()?;
    Ok(Kind::Stream(Box::new(stream), socket))
}

fn unixgram(path: &Path, host: &HostRoot) -> io::Result<Kind> {
    let to = host.existing(path)?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(to.path())?;
    Ok(Kind::Unixgram(socket))
}

/// The first of the host's own sockets that can be connected to.
async fn local(host: &HostRoot) -> io::Result<Kind> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for path in LOCAL.map(PathBuf::from) {
        match unixgram(&path, host) {
            Ok(kind) => return Ok(kind),
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            // A stream socket.
            Err(_) => match unix(&path, host).await {
                Ok(kind) => return Ok(kind),
                Err(error) => last = error,
            },
        }
    }
    Err(last)
}
