//! The handshake of the forward protocol: both sides prove that they know the shared key, and
//! this side who it is, where it is asked. The server speaks first.
//!
//! What is proven is a SHA-512 over what each side has made up for this connection, so that the
//! key and the password never leave the host. They are in files of the host, read at each
//! connection, and never part of an error.

use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA512};
use ring::rand::{SecureRandom, SystemRandom};
use rmpv::Value;

use super::msgpack::{array, string};
use crate::sink::target::FluentdTarget;
use crate::sys::{self, HostRoot};

/// Longest key or password.
const LONGEST: u64 = 4096;

/// Most characters of a server's reason that are shown.
const LONGEST_REASON: usize = 200;

/// Why two sides do not come together.
#[derive(Debug, thiserror::Error)]
pub(in crate::sink) enum HandshakeError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no file of 1 to 4096 bytes", path.display())]
    NoSecret { path: PathBuf },
    #[error("the server begins with something else than HELO: it asks for no handshake")]
    NoHelo,
    #[error("the server asks for a user: `fluentd-user` and `fluentd-password-file` are missing")]
    NoUser,
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("the server does not know the shared key")]
    Impostor,
    #[error("no random numbers")]
    Random,
}

/// What the server begins with.
#[derive(Debug)]
pub(super) struct Helo {
    nonce: Vec<u8>,
    /// What the password is hashed with; empty when nobody is asked for one.
    auth: Vec<u8>,
    /// Whether more than one message may be sent on a connection.
    pub(super) keep_alive: bool,
}

/// This side's answer, and what is needed to judge the server's.
#[derive(Debug)]
pub(super) struct Ping {
    pub(super) message: Vec<u8>,
    salt: String,
    key: Vec<u8>,
    nonce: Vec<u8>,
}

impl Helo {
    pub(super) fn parse(value: &Value) -> Result<Self, HandshakeError> {
        let [word, options] = items(value).ok_or(HandshakeError::NoHelo)?;
        if bytes(word) != Some(b"HELO") {
            return Err(HandshakeError::NoHelo);
        }
        let field = |name: &str| {
            let fields = options.as_map()?.iter();
            fields
                .rev()
                .find(|(key, _)| bytes(key) == Some(name.as_bytes()))
                .map(|(_, value)| value)
        };
        let text = |name| field(name).and_then(bytes).unwrap_or_default().to_owned();
        let keep_alive = field("keepalive").and_then(Value::as_bool).unwrap_or(true);
        Ok(Self { nonce: text("nonce"), auth: text("auth"), keep_alive })
    }
}

impl Ping {
    /// Answers `helo`, with the secrets that `target` names.
    pub(super) fn answer(
        helo: &Helo,
        target: &FluentdTarget,
        shared_key: &Path,
        host: &HostRoot,
    ) -> Result<Self, HandshakeError> {
        let key = secret(host, shared_key)?;
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).map_err(|_| HandshakeError::Random)?;
        // In letters: there are servers to which a string that is no UTF-8 is another one.
        let salt = hexadecimal(&random);
        let hostname = target.hostname.clone().unwrap_or_else(sys::host_name);
        let (user, password) = match (&target.user, &target.password) {
            _ if helo.auth.is_empty() => ("", String::new()),
            (Some(user), Some(path)) => {
                let password = secret(host, path)?;
                (user.as_str(), hashed(&[&helo.auth, user.as_bytes(), &password]))
            }
            _ => return Err(HandshakeError::NoUser),
        };
        let digest = hashed(&[salt.as_bytes(), hostname.as_bytes(), &helo.nonce, &key]);
        let mut message = Vec::new();
        array(&mut message, 6);
        for part in ["PING", &hostname, &salt, &digest, user, &password] {
            string(&mut message, part.as_bytes());
        }
        Ok(Self { message, salt, key, nonce: helo.nonce.clone() })
    }

    /// Whether the server has taken it, and knows the key itself.
    pub(super) fn judge(&self, pong: &Value) -> Result<(), HandshakeError> {
        let odd = || HandshakeError::Refused("its answer is no PONG".to_owned());
        let [word, result, reason, name, digest] = items(pong).ok_or_else(odd)?;
        if bytes(word) != Some(b"PONG") {
            return Err(odd());
        }
        if result.as_bool() != Some(true) {
            let reason = String::from_utf8_lossy(bytes(reason).unwrap_or_default());
            let reason = reason.chars().take(LONGEST_REASON).collect();
            return Err(HandshakeError::Refused(reason));
        }
        let name = bytes(name).unwrap_or_default();
        let expected = hashed(&[self.salt.as_bytes(), name, &self.nonce, &self.key]);
        let proven = bytes(digest).is_some_and(|digest| digest == expected.as_bytes());
        if proven { Ok(()) } else { Err(HandshakeError::Impostor) }
    }
}

/// What a file of the host holds, without the newline that editors put at its end.
fn secret(host: &HostRoot, path: &Path) -> Result<Vec<u8>, HandshakeError> {
    let failed = |source| HandshakeError::Read { path: path.to_owned(), source };
    let mut secret = match host.existing(path).map_err(failed)?.read(LONGEST) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::FileTooLarge) => {
            return Err(HandshakeError::NoSecret { path: path.to_owned() });
        }
        read => read.map_err(failed)?,
    };
    while secret.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(HandshakeError::NoSecret { path: path.to_owned() });
    }
    Ok(secret)
}

/// SHA-512 of all parts, in hexadecimal.
fn hashed(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA512);
    for part in parts {
        context.update(part);
    }
    hexadecimal(context.finish().as_ref())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The items of an array of so many, or more.
fn items<const N: usize>(value: &Value) -> Option<&[Value; N]> {
    value.as_array()?.first_chunk()
}

/// A string, which need not be UTF-8, or binary: servers use either.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::String(text) => Some(text.as_bytes()),
        Value::Binary(bytes) => Some(bytes),
        _ => None,
    }
}
