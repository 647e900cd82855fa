//! Options of the syslog sink: Docker's own, and what TLS and several addresses need besides.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::tls::{self, TlsSpec};
use super::{Fault, structured};

/// The port where an address names none, as Docker has it.
const PORT: u16 = 514;

/// Which option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    Address,
    Deliver,
    Facility,
    Format,
    Framing,
    StructuredId,
    Tls(tls::Key),
}

/// One place that messages can go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// The first of the host's own sockets that there is: `/dev/log`, `/var/run/syslog`,
    /// `/var/run/log`.
    Local,
    /// A stream socket of the host.
    Unix(PathBuf),
    /// A datagram socket of the host.
    Unixgram(PathBuf),
    /// Host and port.
    Udp(String, u16),
    /// Host and port.
    Tcp(String, u16),
    /// Host and port.
    Tls(String, u16),
}

/// Which of several addresses a message goes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deliver {
    /// The first that answers.
    #[default]
    Failover,
    /// Each of them.
    All,
}

/// How a message is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyslogFormat {
    /// RFC 3164 without a host name, as for a local socket.
    Local,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, times in seconds.
    Rfc5424,
    /// RFC 5424, times in microseconds.
    Rfc5424Micro,
}

/// How a message ends in a stream (RFC 6587).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// With a newline.
    Lf,
    /// Its length comes first; the newline is part of it, as with Docker.
    OctetCounting,
}

/// What the options of the syslog sink ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogSpec {
    /// One at least.
    pub addresses: Vec<Address>,
    /// Which of them a message goes to.
    pub deliver: Deliver,
    /// 0 to 23.
    pub facility: u8,
    /// The layout.
    pub format: SyslogFormat,
    /// As asked for; else it follows from address and format.
    pub framing: Option<Framing>,
    /// The id under which labels and variables are structured data.
    pub structured: Option<String>,
    /// For the addresses that need it.
    pub tls: TlsSpec,
}

impl Default for SyslogSpec {
    fn default() -> Self {
        Self {
            addresses: vec![Address::Local],
            deliver: Deliver::Failover,
            facility: 3,
            format: SyslogFormat::Local,
            framing: None,
            structured: None,
            tls: TlsSpec::default(),
        }
    }
}

impl SyslogSpec {
    pub(super) fn take(&mut self, key: Key, text: &str) -> Result<(), Fault> {
        match key {
            Key::Address => self.addresses = addresses(text)?,
            Key::Deliver => {
                self.deliver = match text {
                    "failover" => Deliver::Failover,
                    "all" => Deliver::All,
                    _ => return Err(Fault::Malformed("failover or all")),
                }
            }
            Key::Facility => self.facility = facility(text)?,
            Key::Format => self.format = format(text)?,
            Key::Framing => {
                self.framing = Some(match text {
                    "lf" => Framing::Lf,
                    "octet-counting" => Framing::OctetCounting,
                    _ => return Err(Fault::Malformed("lf or octet-counting")),
                });
            }
            Key::StructuredId if structured::is_id(text) => self.structured = Some(text.to_owned()),
            Key::StructuredId => {
                return Err(Fault::Malformed(
                    "NAME@NUMBER in at most 32 characters, the number a private enterprise's",
                ));
            }
            Key::Tls(key) => self.tls.take(key, text)?,
        }
        Ok(())
    }

    /// What is wrong with the options as a whole: the end of the key to name and what is allowed.
    pub(super) fn conflict(&self) -> Option<(&'static str, &'static str)> {
        let Self { addresses, deliver, format, structured, tls, .. } = self;
        let twice = || (1..addresses.len()).any(|at| addresses[..at].contains(&addresses[at]));
        if structured.is_some() && matches!(format, SyslogFormat::Local | SyslogFormat::Rfc3164) {
            let key = "sd-id";
            return Some((key, "only together with `syslog-format` rfc5424 or rfc5424micro"));
        }
        match deliver {
            Deliver::All if *addresses == [Address::Local] => {
                Some(("deliver", "all only together with the addresses, `syslog-address`"))
            }
            Deliver::All if twice() => {
                Some(("address", "each address once, where `syslog-deliver` is all"))
            }
            _ if !addresses.iter().any(|address| matches!(address, Address::Tls(..))) => {
                Some((tls.given()?, "only together with a `syslog-address` of tcp+tls://"))
            }
            _ => tls.conflict(),
        }
    }
}

fn addresses(text: &str) -> Result<Vec<Address>, Fault> {
    if text.is_empty() {
        return Ok(vec![Address::Local]);
    }
    let parsed: Option<Vec<_>> = text.split(',').map(|one| address(one.trim())).collect();
    parsed.ok_or(Fault::Malformed(
        "a comma list of udp://HOST:PORT, tcp://HOST:PORT, tcp+tls://HOST:PORT, unix:///PATH and \
         unixgram:///PATH",
    ))
}

fn address(text: &str) -> Option<Address> {
    let (scheme, rest) = text.split_once("://")?;
    if matches!(scheme, "unix" | "unixgram") {
        let path = Some(PathBuf::from(rest)).filter(|path| path.is_absolute())?;
        return Some(if scheme == "unix" { Address::Unix(path) } else { Address::Unixgram(path) });
    }
    let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest), PORT)?;
    match scheme {
        "udp" => Some(Address::Udp(host, port)),
        "tcp" => Some(Address::Tcp(host, port)),
        "tcp+tls" => Some(Address::Tls(host, port)),
        _ => None,
    }
}

pub(super) fn host_and_port(text: &str, usual: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(literal) => {
            let (host, port) = literal.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, (!port.is_empty()).then(|| port.strip_prefix(':').unwrap_or("none")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|&port| port > 0))?;
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    (!host.is_empty() && host.chars().all(name)).then(|| (host.to_owned(), port))
}

fn facility(text: &str) -> Result<u8, Fault> {
    const NAMES: [&str; 24] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron",
        "authpriv", "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4",
        "local5", "local6", "local7",
    ];
    let named = NAMES.iter().position(|name| !name.is_empty() && *name == text);
    let number = || text.parse().ok().filter(|&number| number < 24);
    named.and_then(|at| u8::try_from(at).ok()).or_else(number).ok_or(Fault::Malformed(
        "a number from 0 to 23, or kern, user, mail, daemon, auth, syslog, lpr, news, uucp, cron, \
         authpriv, ftp, local0 to local7",
    ))
}

fn format(text: &str) -> Result<SyslogFormat, Fault> {
    match text {
        "" => Ok(SyslogFormat::Local),
        "rfc3164" => Ok(SyslogFormat::Rfc3164),
        "rfc5424" => Ok(SyslogFormat::Rfc5424),
        "rfc5424micro" => Ok(SyslogFormat::Rfc5424Micro),
        "postgres" => Err(Fault::NotBuilt(Some("rfc3164, rfc5424 or rfc5424micro"))),
        _ => Err(Fault::Malformed("rfc3164, rfc5424 or rfc5424micro")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogSpec;
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<SyslogSpec, String> {
        let options = options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        LogSpec::parse(&options.collect())
            .map(|spec| spec.syslog.unwrap())
            .map_err(|bad| bad.to_string())
    }

    #[test]
    fn addresses_are_docker_s_and_several() {
        let all = |text| parse(&[("syslog-address", text)]).unwrap().addresses;
        let host = || "log.example".to_owned();
        assert_eq!(all("udp://log.example"), [Address::Udp(host(), 514)]);
        assert_eq!(all("tcp://log.example:1514/"), [Address::Tcp(host(), 1514)]);
        assert_eq!(all("tcp+tls://[::1]:6514"), [Address::Tls("::1".to_owned(), 6514)]);
        assert_eq!(
            all("tcp://log.example, unix:///run/s, unixgram:///dev/log"),
            [
                Address::Tcp(host(), 514),
                Address::Unix("/run/s".into()),
                Address::Unixgram("/dev/log".into())
            ]
        );
        assert_eq!(all(""), [Address::Local]);
        assert_eq!(parse(&[("sinks", "syslog")]).unwrap(), SyslogSpec::default());
    }

    #[test]
    fn messages_go_to_one_address_or_to_all() {
        let two = ("syslog-address", "tcp://a,tcp://b");
        let deliver = |options: &[_]| parse(options).unwrap().deliver;
        assert_eq!(deliver(&[two]), Deliver::Failover);
        assert_eq!(deliver(&[two, ("syslog-deliver", "failover")]), Deliver::Failover);
        assert_eq!(deliver(&[two, ("syslog-deliver", "all")]), Deliver::All);
        assert_eq!(
            deliver(&[("syslog-address", "tcp://a"), ("syslog-deliver", "all")]),
            Deliver::All
        );
        let twice = [("syslog-address", "tcp://a,udp://a,tcp://a:514"), ("syslog-deliver", "all")];
        let words = parse(&twice).unwrap_err();
        assert!(words.contains("`syslog-address=tcp://a,udp://a,tcp://a:514`"), "{words}");
        assert!(words.contains("each address once"), "{words}");
        parse(&twice[..1]).unwrap();
    }

    #[test]
    fn facilities_and_formats_are_docker_s() {
        let facility = |text| parse(&[("syslog-facility", text)]).unwrap().facility;
        assert_eq!((facility("local7"), facility("kern"), facility("17")), (23, 0, 17));
        let format = |text| parse(&[("syslog-format", text)]).unwrap().format;
        assert_eq!(format("rfc5424micro"), SyslogFormat::Rfc5424Micro);
        assert_eq!(format(""), SyslogFormat::Local);
        let framing = parse(&[("syslog-framing", "octet-counting")]).unwrap().framing;
        assert_eq!(framing, Some(Framing::OctetCounting));
        let server = ("syslog-address", "tcp+tls://a");
        let tls = |key, value| parse(&[server, (key, value)]).unwrap().tls;
        assert_eq!(tls("syslog-tls-ca-cert", "/ca").ca, Some("/ca".into()));
        assert!(tls("syslog-tls-skip-verify", "true").skip_verify);
        for (text, skip) in [("1", true), ("T", true), ("false", false), ("0", false)] {
            assert_eq!(tls("syslog-tls-skip-verify", text).skip_verify, skip, "{text}");
        }
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (key, value) in [
            ("syslog-address", "log.example:514"),
            ("syslog-address", "http://log.example"),
            ("syslog-address", "tcp://"),
            ("syslog-address", "tcp://a:b"),
            ("syslog-address", "tcp://a:0"),
            ("syslog-address", "tcp://a:99999"),
            ("syslog-address", "tcp://a b"),
            ("syslog-address", "tcp://[::1]514"),
            ("syslog-address", "unix://relative"),
            ("syslog-address", "tcp://a,,tcp://b"),
            ("syslog-facility", "local8"),
            ("syslog-facility", "24"),
            ("syslog-format", "rfc9999"),
            ("syslog-format", "postgres"),
            ("syslog-framing", "nul"),
            ("syslog-sd-id", "origin"),
            ("syslog-sd-id", "pglog@32473"),
            ("syslog-deliver", "any"),
            ("syslog-deliver", "all"),
            ("syslog-tls-ca-cert", "ca.pem"),
            ("syslog-tls-cert", "/only"),
            ("syslog-tls-key", "/only"),
            ("syslog-tls-skip-verify", "no"),
            ("syslog-tls-skip-verify", "off"),
            ("syslog-tls-skip-verify", "flase"),
            ("syslog-tls-skip-verify", ""),
            ("syslog-tls-skip-verify", "true"),
            ("syslog-tls-server-name", "a"),
            ("syslog-tls-min-version", "1.3"),
        ] {
            let words = parse(&[(key, value)]).unwrap_err();
            assert!(words.contains(key) && words.contains(value), "{words}");
        }
        let words =
            parse(&[("syslog-address", "tcp+tls://a"), ("syslog-tls-cert", "/c")]).unwrap_err();
        assert!(words.contains("together with its key, `syslog-tls-key`"), "{words}");
    }
}
