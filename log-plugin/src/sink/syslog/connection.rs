//! Connections to syslog servers of every kind.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::{Instant, timeout};

use crate::options::{Address, TlsSpec};
use crate::sink::link::{Link, LinkError, PATIENCE, resolve};
use crate::sys::HostRoot;

/// A name is resolved anew when a socket without a connection is this old.
const RESOLVED: Duration = Duration::from_mins(1);

/// Where a host's own syslog listens, as Docker looks for it.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    address: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Stream(Link),
    Udp(UdpSocket, Instant),
    Unixgram(UnixDatagram),
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
    ) -> Result<Self, LinkError> {
        let shown = shown(address);
        let failed = |source| LinkError::Connect { address: shown.clone(), source };
        let kind = match address {
            Address::Udp(name, port) => udp(name, *port).await.map_err(failed)?,
            Address::Tcp(name, port) => Kind::Stream(Link::tcp(&shown, name, *port).await?),
            Address::Tls(name, port) => {
                Kind::Stream(Link::tls(&shown, (name, *port), tls, host).await?)
            }
            Address::Unix(path) => Kind::Stream(Link::unix(&shown, path, host).await?),
            Address::Unixgram(path) => unixgram(path, host).map_err(failed)?,
            Address::Local => local(&shown, host).await?,
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
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let sent = match &mut self.kind {
            Kind::Stream(link) => return link.send(bytes).await,
            Kind::Udp(socket, _) => socket.send(bytes).await,
            Kind::Unixgram(socket) => match timeout(PATIENCE, socket.send(bytes)).await {
                Ok(sent) => sent,
                Err(_elapsed) => {
                    return Err(LinkError::Stalled { address: self.address.clone() });
                }
            },
        };
        let address = || self.address.clone();
        sent.map(drop).map_err(|source| LinkError::Send { address: address(), source })
    }

    /// Whether the other side's system has taken all that was sent.
    pub(super) fn has_taken(&self) -> Result<bool, LinkError> {
        match &self.kind {
            Kind::Stream(link) => link.has_taken(),
            Kind::Udp(..) | Kind::Unixgram(_) => Ok(true),
        }
    }

    /// Waits until the other side's system has taken all that was sent.
    pub(super) async fn taken(&mut self) -> Result<(), LinkError> {
        match &mut self.kind {
            Kind::Stream(link) => link.taken().await,
            Kind::Udp(..) | Kind::Unixgram(_) => Ok(()),
        }
    }

    /// Whether the other side has not closed the connection, as far as is known here.
    pub(super) async fn check(&mut self) -> Result<(), LinkError> {
        match &mut self.kind {
            Kind::Stream(link) => link.check().await,
            Kind::Udp(..) | Kind::Unixgram(_) => Ok(()),
        }
    }

    /// Says good-bye, which TLS wants.
    pub(super) async fn close(self) {
        if let Kind::Stream(link) = self.kind {
            link.close().await;
        }
    }
}

async fn udp(host: &str, port: u16) -> io::Result<Kind> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in resolve(host, port).await? {
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

fn unixgram(path: &Path, host: &HostRoot) -> io::Result<Kind> {
    let to = host.existing(path)?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(to.path())?;
    Ok(Kind::Unixgram(socket))
}

/// The first of the host's own sockets that can be connected to.
async fn local(shown: &str, host: &HostRoot) -> Result<Kind, LinkError> {
    let connect = |source| LinkError::Connect { address: shown.to_owned(), source };
    let mut last = connect(io::ErrorKind::NotFound.into());
    for path in LOCAL.map(PathBuf::from) {
        match unixgram(&path, host) {
            Ok(kind) => return Ok(kind),
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = connect(error),
            // A stream socket.
            Err(_) => match Link::unix(shown, &path, host).await {
                Ok(link) => return Ok(Kind::Stream(link)),
                Err(error) => last = error,
            },
        }
    }
    Err(last)
}
