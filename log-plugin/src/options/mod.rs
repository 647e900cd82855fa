//! Log options (`--log-opt key=value`): the raw map in, [`LogSpec`] out.
//!
//! dockerd checks none of them, so what is refused here is refused at the container's start. Its
//! own keys (`mode`, `cache-*`) come along with ours and are let through. Where a key is also one
//! of Docker's `local` driver, its syntax is that driver's: dockerd may parse the same map for its
//! cache.

mod file;
mod syslog;
mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use regex_syntax::ast::parse::Parser;

pub use self::file::{FileFormat, FileSpec};
pub use self::syslog::{Address, Framing, SyslogFormat, SyslogSpec, TlsSpec};
use crate::tag;

/// What a container's log options ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    /// Largest segment of the journal.
    pub max_size: u64,
    /// How many times `max_size` the journal may hold.
    pub max_file: u32,
    /// The sink that writes a file.
    pub file: Option<FileSpec>,
    /// The sink that sends to syslog servers.
    pub syslog: Option<SyslogSpec>,
    /// The template for what records are marked with.
    pub tag: Option<String>,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { max_size: 20 << 20, max_file: 5, file: None, syslog: None, tag: None }
    }
}

/// One option that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadOption {
    /// Nobody knows the key.
    Unknown {
        /// The key.
        key: String,
    },
    /// Known, but this version cannot do it.
    NotBuilt {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// The value that can be had, if there is one.
        instead: Option<&'static str>,
    },
    /// The value is not what the key takes.
    Malformed {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What the key takes.
        allowed: Cow<'static, str>,
    },
}

/// All that is wrong with a container's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOptions(pub Vec<BadOption>);

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { key } => {
                write!(f, "unknown log option `{key}`; known are ")?;
                let known = KEYS.iter().filter(|(_, kind)| !matches!(kind, Kind::NotBuilt(_)));
                for (at, (key, _)) in known.enumerate() {
                    write!(f, "{}{key}", if at == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::NotBuilt { key, value, instead: None } => {
                write!(f, "log option `{key}` (`{value}`) is not built yet")
            }
            Self::NotBuilt { key, value, instead: Some(instead) } => {
                write!(f, "log option `{key}={value}` is not built yet; allowed is `{instead}`")
            }
            Self::Malformed { key, value, allowed } => {
                write!(f, "log option `{key}={value}`: allowed is {allowed}")
            }
        }
    }
}

impl fmt::Display for BadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, bad) in self.0.iter().enumerate() {
            write!(f, "{}{bad}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for BadOptions {}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// dockerd acts on it, or a sink would: any value is taken.
    Any,
    /// dockerd's delivery mode.
    Mode,
    /// A size.
    Size,
    /// `max-size`.
    MaxSize,
    /// `max-file`.
    MaxFile,
    /// A template over the container.
    Tag,
    /// A regular expression.
    Regex,
    /// A boolean of which only `false` can be had.
    OnlyFalse,
    /// `sinks`.
    Sinks,
    /// An option of the file sink.
    File(file::Key),
    /// An option of the syslog sink.
    Syslog(syslog::Key),
    /// Known by name; taken only with this value, which asks for nothing.
    NotBuilt(Option<&'static str>),
}

/// Every key, in the order in which messages name them. A key that ends in `*` stands for all
/// that begin so.
const KEYS: &[(&str, Kind)] = &[
    ("max-size", Kind::MaxSize),
    ("max-file", Kind::MaxFile),
    ("compress", Kind::OnlyFalse),
    ("tag", Kind::Tag),
    ("labels", Kind::Any),
    ("labels-regex", Kind::Regex),
    ("env", Kind::Any),
    ("env-regex", Kind::Regex),
    ("mode", Kind::Mode),
    ("max-buffer-size", Kind::Size),
    ("cache-*", Kind::Any),
    ("max-age", Kind::NotBuilt(None)),
    ("sync", Kind::NotBuilt(Some("none"))),
    ("sinks", Kind::Sinks),
    ("file-path", Kind::File(file::Key::Path)),
    ("file-format", Kind::File(file::Key::Format)),
    ("file-max-size", Kind::File(file::Key::MaxSize)),
    ("file-max-files", Kind::File(file::Key::MaxFiles)),
    ("file-mode", Kind::File(file::Key::Mode)),
    ("file-owner", Kind::File(file::Key::Owner)),
    ("file-*", Kind::NotBuilt(None)),
    ("syslog-address", Kind::Syslog(syslog::Key::Address)),
    ("syslog-facility", Kind::Syslog(syslog::Key::Facility)),
    ("syslog-format", Kind::Syslog(syslog::Key::Format)),
    ("syslog-framing", Kind::Syslog(syslog::Key::Framing)),
    ("syslog-tls-ca-cert", Kind::Syslog(syslog::Key::CaCert)),
    ("syslog-tls-cert", Kind::Syslog(syslog::Key::Cert)),
    ("syslog-tls-key", Kind::Syslog(syslog::Key::TlsSecret)),
    ("syslog-tls-skip-verify", Kind::Syslog(syslog::Key::SkipVerify)),
    ("syslog-tls-server-name", Kind::Syslog(syslog::Key::ServerName)),
    ("syslog-*", Kind::NotBuilt(None)),
    ("fluentd-*", Kind::NotBuilt(None)),
    ("postgres", Kind::NotBuilt(Some("off"))),
    ("log-line-prefix", Kind::NotBuilt(None)),
    ("redact", Kind::NotBuilt(Some("off"))),
    ("route", Kind::NotBuilt(None)),
];

impl LogSpec {
    /// Reads the options of a container; on failure says all that is wrong.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, BadOptions> {
        let mut spec = Self::default();
        let mut bad: Vec<_> =
            options.iter().filter_map(|(key, value)| spec.take(key, value).err()).collect();
        if let Some((key, allowed)) = spec.syslog.as_ref().and_then(SyslogSpec::conflict) {
            let (key, value) = (key.to_owned(), options.get(key).cloned().unwrap_or_default());
            bad.push(BadOption::Malformed { key, value, allowed: allowed.into() });
        }
        if bad.is_empty() { Ok(spec) } else { Err(BadOptions(bad)) }
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), BadOption> {
        let kind = KEYS.iter().find(|(known, _)| match known.strip_suffix('*') {
            Some(prefix) => key.len() > prefix.len() && key.starts_with(prefix),
            None => key == *known,
        });
        let Some(&(_, kind)) = kind else {
            return Err(BadOption::Unknown { key: key.to_owned() });
        };
        let (key, value) = (key.to_owned(), value.to_owned());
        let taken = match kind {
            Kind::Any => Ok(()),
            Kind::Mode if matches!(&*value, "" | "blocking" | "non-blocking") => Ok(()),
            Kind::Mode => Err("blocking or non-blocking"),
            Kind::Size => value::size(&value).map(drop).ok_or(value::A_SIZE),
            Kind::MaxSize => value::size(&value)
                .filter(|&size| size > 0)
                .map(|size| self.max_size = size)
                .ok_or("a size above 0 such as 500k, 10m or 1g"),
            Kind::Tag => tag::is_valid(&value)
                .then(|| self.tag = Some(value.clone()).filter(|value| !value.is_empty()))
                .ok_or("a template such as `{{.Name}}/{{.ID}}`, as Docker's drivers take it"),
            Kind::Regex => {
                Parser::new().parse(&value).map(drop).map_err(|_| "a regular expression")
            }
            Kind::MaxFile => value::count(&value)
                .map(|count| self.max_file = count)
                .ok_or("a whole number from 1 on"),
            Kind::OnlyFalse => match value::boolean(&value) {
                Some(false) => Ok(()),
                Some(true) => {
                    return Err(BadOption::NotBuilt { key, value, instead: Some("false") });
                }
                None => Err("true or false"),
            },
            Kind::Sinks | Kind::File(_) | Kind::Syslog(_) => match self.take_sink(kind, &value) {
                Err(Fault::NotBuilt(instead)) => {
                    return Err(BadOption::NotBuilt { key, value, instead });
                }
                Err(Fault::Malformed(allowed)) => Err(allowed),
                Ok(()) => Ok(()),
            },
            Kind::NotBuilt(instead) if instead == Some(&*value) => Ok(()),
            Kind::NotBuilt(instead) => return Err(BadOption::NotBuilt { key, value, instead }),
        };
        taken.map_err(|allowed| BadOption::Malformed { key, value, allowed: allowed.into() })
    }

    /// An option that concerns sinks.
    fn take_sink(&mut self, kind: Kind, value: &str) -> Result<(), Fault> {
        match kind {
            Kind::File(key) => self.file.get_or_insert_default().take(key, value),
            Kind::Syslog(key) => self.syslog.get_or_insert_default().take(key, value),
            _ => self.take_sinks(value),
        }
    }

    /// Sinks by name; giving any option of one names it too.
    fn take_sinks(&mut self, value: &str) -> Result<(), Fault> {
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "file" => {
                    self.file.get_or_insert_default();
                }
                "syslog" => {
                    self.syslog.get_or_insert_default();
                }
                "fluentd" => return Err(Fault::NotBuilt(Some("file,syslog"))),
                _ => return Err(Fault::Malformed("a list of sinks: `file`, `syslog`")),
            }
        }
        Ok(())
    }
}

/// Why a sink's option cannot be taken.
enum Fault {
    /// What is taken instead, if anything is.
    NotBuilt(Option<&'static str>),
    /// What is allowed.
    Malformed(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<LogSpec, BadOptions> {
        let options = options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        LogSpec::parse(&options.collect())
    }

    #[test]
    fn retention_is_read() {
        assert_eq!(parse(&[]).unwrap(), LogSpec::default());
        let spec = parse(&[("max-size", "10m"), ("max-file", "3")]).unwrap();
        assert_eq!(spec, LogSpec { max_size: 10 << 20, max_file: 3, ..LogSpec::default() });
    }

    #[test]
    fn keys_of_docker_s_own_are_taken() {
        parse(&[
            ("mode", "non-blocking"),
            ("max-buffer-size", "4m"),
            ("cache-disabled", "true"),
            ("cache-max-size", "anything"),
            ("compress", "false"),
            ("tag", "{{.Name}}"),
            ("labels", "a,b"),
            ("labels-regex", "^a"),
            ("env", "A"),
            ("env-regex", "^A"),
            ("redact", "off"),
            ("postgres", "off"),
            ("sinks", ""),
            ("sync", "none"),
        ])
        .unwrap();
    }

    #[test]
    fn every_bad_option_is_named_with_what_is_allowed() {
        let bad = parse(&[
            ("max-size", "ten"),
            ("max-file", "0"),
            ("compress", "maybe"),
            ("mode", "lossy"),
            ("max-buffer-size", "x"),
            ("tag", "{{.Nickname}}"),
            ("env-regex", "("),
        ]);
        let words = bad.unwrap_err().to_string();
        for expected in
            ["`max-size=ten`", "10m", "`max-file=0`", "`compress=maybe`", "`mode=lossy`"]
        {
            assert!(words.contains(expected), "{expected} in {words}");
        }
        assert!(
            words.contains("`tag={{.Nickname}}`") && words.contains("`env-regex=(`"),
            "{words}"
        );
        for size in ["0", "-1"] {
            assert_eq!(parse(&[("max-size", size)]).unwrap_err().0.len(), 1);
        }
    }

    #[test]
    fn what_is_not_built_and_what_is_unknown_is_refused_by_name() {
        for (key, value) in
            [("compress", "true"), ("sinks", "fluentd"), ("fluentd-address", "x"), ("route", "x")]
        {
            let words = parse(&[(key, value)]).unwrap_err().to_string();
            assert!(words.contains(key) && words.contains("not built yet"), "{words}");
        }
        for key in ["max-sise", "cache-", "splunk-url"] {
            let words = parse(&[(key, "1")]).unwrap_err().to_string();
            assert!(words.contains(key) && words.contains("known are max-size, "), "{words}");
        }
    }
}
