//! Options of the fluentd sink: those of Docker's driver, and what delivery, TLS and the
//! handshake need besides.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::syslog::host_and_port;
use super::tls::{self, TlsSpec};
use super::{Fault, value};

/// Host and port where an address names none, as Docker has them.
const HOST: &str = "127.0.0.1";
const PORT: u16 = 24224;

/// Which option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    Address,
    Mode,
    RequestAck,
    SubSecond,
    Hostname,
    SharedSecret,
    User,
    Password,
    Tls(tls::Key),
    /// Docker's, without a meaning here: of this form, by this name.
    Ignored(Form, &'static str),
}

/// What the value of an option that is not gone by looks like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Truth,
    Duration,
    Size,
    Count,
}

/// Where a fluentd listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FluentdAddress {
    /// Host and port.
    Tcp(String, u16),
    /// Host and port.
    Tls(String, u16),
    /// A socket of the host.
    Unix(PathBuf),
}

/// How records are carried (the forward protocol's event modes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FluentdMode {
    /// One by one, as Docker does.
    Message,
    /// An array of many.
    Forward,
    /// Many as one binary string, which a server need not look into.
    Packed,
    /// The same, compressed by gzip.
    Compressed,
}

/// What the options of the fluentd sink ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FluentdSpec {
    /// Where records go.
    pub address: FluentdAddress,
    /// How they are carried.
    pub mode: FluentdMode,
    /// Whether the server says what it has taken.
    pub ack: bool,
    /// Whether times have nanoseconds; else they are whole seconds.
    pub sub_second: bool,
    /// What this side calls itself; by default the host's name.
    pub hostname: Option<String>,
    /// A file of the host with the key that both sides know; asks for the handshake.
    pub shared_key: Option<PathBuf>,
    /// Who this side is, for servers that ask.
    pub user: Option<String>,
    /// A file of the host with this user's password.
    pub password: Option<PathBuf>,
    /// For an address that needs it.
    pub tls: TlsSpec,
    /// Options that were given and mean nothing here.
    pub ignored: BTreeSet<&'static str>,
}

impl Default for FluentdSpec {
    fn default() -> Self {
        Self {
            address: FluentdAddress::Tcp(HOST.to_owned(), PORT),
            mode: FluentdMode::Packed,
            ack: true,
            sub_second: true,
            hostname: None,
            shared_key: None,
            user: None,
            password: None,
            tls: TlsSpec::default(),
            ignored: BTreeSet::new(),
        }
    }
}

impl FluentdSpec {
    pub(super) fn take(&mut self, key: Key, text: &str) -> Result<(), Fault> {
        match key {
            Key::Address => {
                self.address = address(text).ok_or(Fault::Malformed(
                    "HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH",
                ))?;
            }
            Key::Mode => {
                self.mode = match text {
                    "message" => FluentdMode::Message,
                    "forward" => FluentdMode::Forward,
                    "packed" => FluentdMode::Packed,
                    "compressed" => FluentdMode::Compressed,
                    _ => return Err(Fault::Malformed("message, forward, packed or compressed")),
                }
            }
            // As with Docker, an empty value is no value.
            Key::RequestAck => self.ack = text.is_empty() || value::truth(text)?,
            Key::SubSecond => self.sub_second = text.is_empty() || value::truth(text)?,
            Key::Hostname => self.hostname = Some(a_word(text)?),
            Key::SharedSecret => self.shared_key = Some(value::path(text)?),
            Key::User => self.user = Some(a_word(text)?),
            Key::Password => self.password = Some(value::path(text)?),
            Key::Tls(key) => self.tls.take(key, text)?,
            Key::Ignored(form, name) => {
                if !text.is_empty() {
                    form.check(text)?;
                }
                self.ignored.insert(name);
            }
        }
        Ok(())
    }

    /// What is wrong with the options as a whole: the end of the key to name and what is allowed.
    pub(super) fn conflict(&self) -> Option<(&'static str, &'static str)> {
        match (&self.user, &self.password, &self.shared_key) {
            (Some(_), None, _) => Some(("user", "only together with `fluentd-password-file`")),
            (None, Some(_), _) => Some(("password-file", "only together with `fluentd-user`")),
            (Some(_), _, None) => Some(("user", "only together with `fluentd-shared-key-file`")),
            _ if !matches!(self.address, FluentdAddress::Tls(..)) => {
                Some((self.tls.given()?, "only together with a `fluentd-address` of tls://"))
            }
            _ => self.tls.conflict(),
        }
    }
}

impl Form {
    fn check(self, text: &str) -> Result<(), Fault> {
        let (good, allowed) = match self {
            Self::Truth => (value::boolean(text).is_some(), "true or false"),
            Self::Duration => (value::duration(text).is_some(), "a time such as 500ms or 2s"),
            Self::Size => (value::size(text).is_some(), value::A_SIZE),
            Self::Count => (text.parse::<u32>().is_ok(), "a whole number"),
        };
        if good { Ok(()) } else { Err(Fault::Malformed(allowed)) }
    }
}

fn a_word(text: &str) -> Result<String, Fault> {
    if text.is_empty() { Err(Fault::Malformed("a name")) } else { Ok(text.to_owned()) }
}

fn address(text: &str) -> Option<FluentdAddress> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    if scheme == "unix" {
        let path = Some(PathBuf::from(rest)).filter(|path| path.is_absolute() && rest.len() > 1);
        return path.map(FluentdAddress::Unix);
    }
    // Either may be left out.
    let whole = match rest {
        "" => HOST.to_owned(),
        port if port.starts_with(':') => format!("{HOST}{port}"),
        whole => whole.to_owned(),
    };
    let (host, port) = host_and_port(&whole, PORT)?;
    match scheme {
        "tcp" => Some(FluentdAddress::Tcp(host, port)),
        "tls" => Some(FluentdAddress::Tls(host, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogSpec;
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<FluentdSpec, String> {
        let options = options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        LogSpec::parse(&options.collect())
            .map(|spec| spec.fluentd.unwrap())
            .map_err(|bad| bad.to_string())
    }

    #[test]
    fn addresses_are_docker_s() {
        let one = |text| parse(&[("fluentd-address", text)]).unwrap().address;
        let tcp = |host: &str, port| FluentdAddress::Tcp(host.to_owned(), port);
        assert_eq!(one(""), tcp("127.0.0.1", 24224));
        assert_eq!(one("log.example"), tcp("log.example", 24224));
        assert_eq!(one("log.example:1"), tcp("log.example", 1));
        assert_eq!(one("tcp://:99"), tcp("127.0.0.1", 99));
        assert_eq!(one("tls://[::1]:24225"), FluentdAddress::Tls("::1".to_owned(), 24225));
        assert_eq!(one("unix:///run/f.sock"), FluentdAddress::Unix("/run/f.sock".into()));
    }

    #[test]
    fn what_docker_s_driver_takes_is_taken() {
        let spec = parse(&[
            ("fluentd-async", "true"),
            ("fluentd-async-connect", ""),
            ("fluentd-async-reconnect-interval", "500ms"),
            ("fluentd-buffer-limit", "8m"),
            ("fluentd-max-retries", "4294967295"),
            ("fluentd-retry-wait", "1s"),
            ("fluentd-write-timeout", "5s"),
            ("fluentd-read-timeout", "5s"),
            ("fluentd-request-ack", "false"),
            ("fluentd-sub-second-precision", "false"),
        ])
        .unwrap();
        assert!(!spec.ack && !spec.sub_second && spec.ignored.len() == 8);
        assert_eq!(parse(&[("sinks", "fluentd")]).unwrap(), FluentdSpec::default());
        let mode = |text| parse(&[("fluentd-mode", text)]).unwrap().mode;
        assert_eq!(mode("compressed"), FluentdMode::Compressed);
        assert_eq!(mode("message"), FluentdMode::Message);
        let secure = parse(&[
            ("fluentd-shared-key-file", "/k"),
            ("fluentd-user", "u"),
            ("fluentd-password-file", "/p"),
            ("fluentd-tls-ca-cert", "/ca"),
            ("fluentd-address", "tls://a:1"),
        ])
        .unwrap();
        assert_eq!((secure.user.as_deref(), secure.tls.ca), (Some("u"), Some("/ca".into())));
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (key, value) in [
            ("fluentd-address", "udp://a:1"),
            ("fluentd-address", "tcp://a:1/path"),
            ("fluentd-address", "unix://"),
            ("fluentd-address", "unix:///"),
            ("fluentd-address", "a:b"),
            ("fluentd-mode", "json"),
            ("fluentd-request-ack", "perhaps"),
            ("fluentd-async", "perhaps"),
            ("fluentd-retry-wait", "1"),
            ("fluentd-buffer-limit", "much"),
            ("fluentd-max-retries", "-1"),
            ("fluentd-shared-key-file", "key"),
            ("fluentd-user", "alone"),
            ("fluentd-user", ""),
            ("fluentd-password-file", "/alone"),
            ("fluentd-tls-key", "/alone"),
            ("fluentd-tls-min-version", "1.1"),
            ("fluentd-tls-ca-cert", "/ca"),
        ] {
            let words = parse(&[(key, value)]).unwrap_err();
            assert!(words.contains(key) && words.contains(value), "{words}");
        }
        // What is not known may be a secret: its value is not said again.
        let words = parse(&[("fluentd-password", "hunter2")]).unwrap_err();
        assert!(words.contains("fluentd-password") && !words.contains("hunter2"), "{words}");
    }
}
