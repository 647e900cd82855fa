//! A connection to a fluentd: the handshake, and the answers that come back.

use std::io;
use std::path::Path;

use rmpv::Value;
use rmpv::decode::read_value_with_max_depth;
use tokio::time::timeout;

use super::handshake::{HandshakeError, Helo, Ping, bytes};
use crate::options::FluentdAddress;
use crate::sink::link::{Link, LinkError, PATIENCE};
use crate::sink::target::FluentdTarget;
use crate::sys::HostRoot;

/// Most bytes of one thing that a server says, and how deep it may be nested.
const LONGEST: usize = 64 * 1024;
const DEEPEST: usize = 8;

/// Why nothing is delivered.
#[derive(Debug, thiserror::Error)]
pub(in crate::sink) enum FluentdError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{address}: handshake")]
    Handshake { address: String, source: HandshakeError },
    #[error("{address} says nothing")]
    Silent { address: String },
    #[error("{address} asks for a handshake: `fluentd-shared-key-file` is missing")]
    WantsHandshake { address: String },
    #[error("{address} does not speak fluentd's forward protocol")]
    Nonsense { address: String },
    #[error("{address} has not acknowledged what it was sent within {seconds} s")]
    NoAck { address: String, seconds: u64 },
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: Link,
    /// What the server has said and nobody has looked at.
    heard: Vec<u8>,
    /// Whether more than one message may be sent.
    pub(super) keep_alive: bool,
    /// A message is on its way: whoever finds this set was cut short, and the stream is useless.
    pub(super) midway: bool,
}

/// `address` as people write it.
pub(super) fn shown(address: &FluentdAddress) -> String {
    let host = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match address {
        FluentdAddress::Tcp(name, port) => format!("tcp://{}:{port}", host(name)),
        FluentdAddress::Tls(name, port) => format!("tls://{}:{port}", host(name)),
        FluentdAddress::Unix(path) => format!("unix://{}", path.display()),
    }
}

impl Connection {
    /// Connects to where `target` says, and shakes hands where it has a key.
    pub(super) async fn open(
        target: &FluentdTarget,
        host: &HostRoot,
    ) -> Result<Self, FluentdError> {
        let address = shown(&target.address);
        let link = match &target.address {
            FluentdAddress::Tcp(name, port) => Link::tcp(&address, name, *port).await?,
            FluentdAddress::Tls(name, port) => {
                Link::tls(&address, (name, *port), &target.tls, host).await?
            }
            FluentdAddress::Unix(path) => Link::unix(&address, path, host).await?,
        };
        let mut connection = Self { link, heard: Vec::new(), keep_alive: true, midway: false };
        if let Some(key) = &target.shared_key {
            let shaken = timeout(PATIENCE, connection.shake(target, key, host)).await;
            shaken.unwrap_or(Err(FluentdError::Silent { address }))?;
        }
        Ok(connection)
    }

    async fn shake(
        &mut self,
        target: &FluentdTarget,
        key: &Path,
        host: &HostRoot,
    ) -> Result<(), FluentdError> {
        let address = self.link.address().to_owned();
        let failed = |source| FluentdError::Handshake { address: address.clone(), source };
        let helo = Helo::parse(&self.hear().await?).map_err(failed)?;
        let ping = Ping::answer(&helo, target, key, host).map_err(failed)?;
        self.link.send(&ping.message).await?;
        ping.judge(&self.hear().await?).map_err(failed)?;
        self.keep_alive = helo.keep_alive;
        Ok(())
    }

    /// Waits for the next acknowledgement: the name of a chunk. May be given up at any time.
    pub(super) async fn acknowledged(&mut self) -> Result<String, FluentdError> {
        let heard = self.hear().await?;
        let address = || self.link.address().to_owned();
        if Helo::parse(&heard).is_ok() {
            return Err(FluentdError::WantsHandshake { address: address() });
        }
        let fields = heard.as_map().map(Vec::as_slice).unwrap_or_default();
        let ack = fields.iter().find(|(key, _)| bytes(key) == Some(b"ack"));
        let id = ack.and_then(|(_, id)| bytes(id)).and_then(|id| std::str::from_utf8(id).ok());
        id.map(str::to_owned).ok_or_else(|| FluentdError::Nonsense { address: address() })
    }

    /// The next thing that the server says. May be given up at any time.
    async fn hear(&mut self) -> Result<Value, FluentdError> {
        loop {
            let mut rest = self.heard.as_slice();
            match read_value_with_max_depth(&mut rest, DEEPEST) {
                Ok(value) => {
                    let taken = self.heard.len() - rest.len();
                    self.heard.drain(..taken);
                    return Ok(value);
                }
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof
                        && self.heard.len() <= LONGEST => {}
                Err(_) => {
                    return Err(FluentdError::Nonsense { address: self.link.address().to_owned() });
                }
            }
            self.link.receive(&mut self.heard).await?;
        }
    }
}
