//! Options of TLS, the same for every sink that has them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Fault, value};

/// Which option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    CaCert,
    Cert,
    Secret,
    SkipVerify,
    ServerName,
    MinVersion,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// 1.2, the oldest that is spoken.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Files of the host that TLS needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSpec {
    /// Certificates that vouch for the server's; without it, those that the host trusts.
    pub ca: Option<PathBuf>,
    /// This side's certificates.
    pub certificate: Option<PathBuf>,
    /// The key to the first of them.
    pub key: Option<PathBuf>,
    /// Whom the server's certificate may name is not looked at, nor who vouches for it.
    pub skip_verify: bool,
    /// The name in the server's certificate where it is not the address's.
    pub server_name: Option<String>,
    /// The oldest version that the server may choose.
    #[serde(default)]
    pub min_version: TlsVersion,
}

impl TlsSpec {
    pub(super) fn take(&mut self, key: Key, text: &str) -> Result<(), Fault> {
        match key {
            Key::CaCert => self.ca = Some(value::path(text)?),
            Key::Cert => self.certificate = Some(value::path(text)?),
            Key::Secret => self.key = Some(value::path(text)?),
            // For Docker any value means yes, also `no`.
            Key::SkipVerify => self.skip_verify = value::truth(text)?,
            Key::ServerName => self.server_name = Some(text.to_owned()),
            Key::MinVersion => {
                self.min_version = match text {
                    "1.2" => TlsVersion::V1_2,
                    "1.3" => TlsVersion::V1_3,
                    _ => return Err(Fault::Malformed("1.2 or 1.3")),
                }
            }
        }
        Ok(())
    }

    /// What is wrong with the options as a whole: the end of the key to name and what is allowed.
    pub(super) fn conflict(&self) -> Option<(&'static str, &'static str)> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => Some(("tls-cert", "only together with its key, `SINK-tls-key`")),
            (None, Some(_)) => {
                Some(("tls-key", "only together with its certificate, `SINK-tls-cert`"))
            }
            _ => None,
        }
    }

    /// The end of the key of an option that was given: without a server that is reached by TLS, whoever
    /// gave it would take for hidden what all can read.
    pub(super) fn given(&self) -> Option<&'static str> {
        let Self { ca, certificate, key, skip_verify, server_name, min_version } = self;
        let given = [
            (ca.is_some(), "tls-ca-cert"),
            (certificate.is_some(), "tls-cert"),
            (key.is_some(), "tls-key"),
            (*skip_verify, "tls-skip-verify"),
            (server_name.is_some(), "tls-server-name"),
            (*min_version != TlsVersion::default(), "tls-min-version"),
        ];
        given.into_iter().find_map(|(given, key)| given.then_some(key))
    }
}
