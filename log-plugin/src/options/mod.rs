//! Log options (`--log-opt key=value`): the raw map in, [`LogSpec`] out.
//!
//! dockerd checks none of them, so what is refused here is refused at the container's start. Its
//! own keys (`mode`, `cache-*`) come along with ours and are let through. Where a key is also one
//! of Docker's `local` driver, its syntax is that driver's: dockerd may parse the same map for its
//! cache.

mod bad;
mod extras;
mod file;
mod fluentd;
pub(crate) mod structured;
mod syslog;
mod tls;
mod value;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::bad::{BadOption, BadOptions};
pub use self::extras::Extras;
pub use self::file::{FileFormat, FileSpec};
use self::fluentd::Form;
pub use self::fluentd::{FluentdAddress, FluentdMode, FluentdSpec};
pub use self::syslog::{Address, Deliver, Framing, SyslogFormat, SyslogSpec};
pub use self::tls::{TlsSpec, TlsVersion};
pub(crate) use self::value::{A_SIZE, AN_AGE, age, size};
use crate::tag;

/// What a container's log options ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    /// Largest segment of the journal.
    pub max_size: u64,
    /// How many times `max_size` the journal may hold.
    pub max_file: u32,
    /// Whether what is done with is compressed.
    pub compress: bool,
    /// How long lines are kept at most.
    pub max_age: Option<Duration>,
    /// When what was stored is brought to the disk.
    pub sync: SyncPolicy,
    /// The sink that writes a file.
    pub file: Option<FileSpec>,
    /// The sink that sends to syslog servers.
    pub syslog: Option<SyslogSpec>,
    /// The sink that sends to a fluentd.
    pub fluentd: Option<FluentdSpec>,
    /// The template for what records are marked with.
    pub tag: Option<String>,
    /// Labels and variables that records have besides.
    pub extras: Extras,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self {
            max_size: 20 << 20,
            max_file: 5,
            compress: true,
            max_age: None,
            sync: SyncPolicy::Interval,
            file: None,
            syslog: None,
            fluentd: None,
            tag: None,
            extras: Extras::default(),
        }
    }
}

/// What a power cut may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// What the system has not written by itself.
    None,
    /// A second, or as long as the disk takes.
    Interval,
    /// What is in the pipe.
    Always,
}

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
    /// Labels and variables for records.
    Extras(extras::Key),
    /// `compress`.
    Compress,
    /// `max-age`.
    MaxAge,
    /// `sync`.
    Sync,
    /// `sinks`.
    Sinks,
    /// An option of the file sink.
    File(file::Key),
    /// An option of the syslog sink.
    Syslog(syslog::Key),
    /// An option of the fluentd sink.
    Fluentd(fluentd::Key),
    /// Known by name; taken only with this value, which asks for nothing.
    NotBuilt(Option<&'static str>),
}

/// Every key, in the order in which messages name them. A key that ends in `*` stands for all
/// that begin so.
const KEYS: &[(&str, Kind)] = &[
    ("max-size", Kind::MaxSize),
    ("max-file", Kind::MaxFile),
    ("compress", Kind::Compress),
    ("tag", Kind::Tag),
    ("labels", Kind::Extras(extras::Key::Labels)),
    ("labels-regex", Kind::Extras(extras::Key::LabelsRegex)),
    ("env", Kind::Extras(extras::Key::Env)),
    ("env-regex", Kind::Extras(extras::Key::EnvRegex)),
    ("mode", Kind::Mode),
    ("max-buffer-size", Kind::Size),
    ("cache-*", Kind::Any),
    ("max-age", Kind::MaxAge),
    ("sync", Kind::Sync),
    ("sinks", Kind::Sinks),
    ("file-path", Kind::File(file::Key::Path)),
    ("file-format", Kind::File(file::Key::Format)),
    ("file-max-size", Kind::File(file::Key::MaxSize)),
    ("file-max-files", Kind::File(file::Key::MaxFiles)),
    ("file-max-age", Kind::File(file::Key::MaxAge)),
    ("file-compress", Kind::File(file::Key::Compress)),
    ("file-mode", Kind::File(file::Key::Mode)),
    ("file-owner", Kind::File(file::Key::Owner)),
    ("syslog-address", Kind::Syslog(syslog::Key::Address)),
    ("syslog-deliver", Kind::Syslog(syslog::Key::Deliver)),
    ("syslog-facility", Kind::Syslog(syslog::Key::Facility)),
    ("syslog-format", Kind::Syslog(syslog::Key::Format)),
    ("syslog-framing", Kind::Syslog(syslog::Key::Framing)),
    ("syslog-sd-id", Kind::Syslog(syslog::Key::StructuredId)),
    ("syslog-tls-ca-cert", Kind::Syslog(syslog::Key::Tls(tls::Key::CaCert))),
    ("syslog-tls-cert", Kind::Syslog(syslog::Key::Tls(tls::Key::Cert))),
    ("syslog-tls-key", Kind::Syslog(syslog::Key::Tls(tls::Key::Secret))),
    ("syslog-tls-skip-verify", Kind::Syslog(syslog::Key::Tls(tls::Key::SkipVerify))),
    ("syslog-tls-server-name", Kind::Syslog(syslog::Key::Tls(tls::Key::ServerName))),
    ("syslog-tls-min-version", Kind::Syslog(syslog::Key::Tls(tls::Key::MinVersion))),
    ("fluentd-address", Kind::Fluentd(fluentd::Key::Address)),
    ("fluentd-mode", Kind::Fluentd(fluentd::Key::Mode)),
    ("fluentd-request-ack", Kind::Fluentd(fluentd::Key::RequestAck)),
    ("fluentd-sub-second-precision", Kind::Fluentd(fluentd::Key::SubSecond)),
    ("fluentd-hostname", Kind::Fluentd(fluentd::Key::Hostname)),
    ("fluentd-shared-key-file", Kind::Fluentd(fluentd::Key::SharedSecret)),
    ("fluentd-user", Kind::Fluentd(fluentd::Key::User)),
    ("fluentd-password-file", Kind::Fluentd(fluentd::Key::Password)),
    ("fluentd-tls-ca-cert", Kind::Fluentd(fluentd::Key::Tls(tls::Key::CaCert))),
    ("fluentd-tls-cert", Kind::Fluentd(fluentd::Key::Tls(tls::Key::Cert))),
    ("fluentd-tls-key", Kind::Fluentd(fluentd::Key::Tls(tls::Key::Secret))),
    ("fluentd-tls-skip-verify", Kind::Fluentd(fluentd::Key::Tls(tls::Key::SkipVerify))),
    ("fluentd-tls-server-name", Kind::Fluentd(fluentd::Key::Tls(tls::Key::ServerName))),
    ("fluentd-tls-min-version", Kind::Fluentd(fluentd::Key::Tls(tls::Key::MinVersion))),
    ("fluentd-async", Kind::Fluentd(fluentd::Key::Ignored(Form::Truth, "fluentd-async"))),
    (
        "fluentd-async-connect",
        Kind::Fluentd(fluentd::Key::Ignored(Form::Truth, "fluentd-async-connect")),
    ),
    (
        "fluentd-async-reconnect-interval",
        Kind::Fluentd(fluentd::Key::Ignored(Form::Duration, "fluentd-async-reconnect-interval")),
    ),
    (
        "fluentd-buffer-limit",
        Kind::Fluentd(fluentd::Key::Ignored(Form::Size, "fluentd-buffer-limit")),
    ),
    (
        "fluentd-max-retries",
        Kind::Fluentd(fluentd::Key::Ignored(Form::Count, "fluentd-max-retries")),
    ),
    (
        "fluentd-retry-wait",
        Kind::Fluentd(fluentd::Key::Ignored(Form::Duration, "fluentd-retry-wait")),
    ),
    (
        "fluentd-write-timeout",
        Kind::Fluentd(fluentd::Key::Ignored(Form::Duration, "fluentd-write-timeout")),
    ),
    (
        "fluentd-read-timeout",
        Kind::Fluentd(fluentd::Key::Ignored(Form::Duration, "fluentd-read-timeout")),
    ),
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
        let syslog = spec.syslog.as_ref().and_then(|sink| Some(("syslog", sink.conflict()?)));
        let fluentd = spec.fluentd.as_ref().and_then(|sink| Some(("fluentd", sink.conflict()?)));
        for (sink, (key, allowed)) in syslog.into_iter().chain(fluentd) {
            let key = format!("{sink}-{key}");
            let value = options.get(&key).cloned().unwrap_or_default();
            let allowed = allowed.replace("SINK", sink).into();
            bad.push(BadOption::Malformed { key, value, allowed });
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
                .ok_or(value::A_TEMPLATE),
            Kind::Extras(key) => self.extras.take(key, &value),
            Kind::MaxFile => value::count(&value)
                .map(|count| self.max_file = count)
                .ok_or("a whole number from 1 on"),
            Kind::Compress => value::boolean(&value)
                .map(|compress| self.compress = compress)
                .ok_or("true or false"),
            Kind::MaxAge if value.is_empty() => Ok(()),
            Kind::MaxAge => {
                value::age(&value).map(|age| self.max_age = Some(age)).ok_or(value::AN_AGE)
            }
            Kind::Sync => match &*value {
                "none" => Ok(SyncPolicy::None),
                "interval" => Ok(SyncPolicy::Interval),
                "always" => Ok(SyncPolicy::Always),
                _ => Err("none, interval or always"),
            }
            .map(|sync| self.sync = sync),
            Kind::Sinks | Kind::File(_) | Kind::Syslog(_) | Kind::Fluentd(_) => {
                match self.take_sink(kind, &value) {
                    Err(Fault::NotBuilt(instead)) => {
                        return Err(BadOption::NotBuilt { key, value, instead });
                    }
                    Err(Fault::Malformed(allowed)) => Err(allowed),
                    Ok(()) => Ok(()),
                }
            }
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
            Kind::Fluentd(key) => self.fluentd.get_or_insert_default().take(key, value),
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
                "fluentd" => {
                    self.fluentd.get_or_insert_default();
                }
                _ => return Err(Fault::Malformed("a list of sinks: `file`, `syslog`, `fluentd`")),
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
            ("max-age", ""),
        ])
        .unwrap();
    }

    #[test]
    fn every_bad_option_is_named_with_what_is_allowed() {
        let bad = parse(&[
            ("max-size", "ten"),
            ("max-file", "0"),
            ("compress", "maybe"),
            ("max-age", "7"),
            ("sync", "often"),
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
            [("postgres", "on"), ("redact", "strict"), ("log-line-prefix", "%m"), ("route", "x")]
        {
            let words = parse(&[(key, value)]).unwrap_err().to_string();
            assert!(words.contains(key) && words.contains("not built yet"), "{words}");
        }
        for (key, known) in [
            ("max-sise", "known are max-size, "),
            ("cache-", "and those of sinks: file-*, syslog-*, fluentd-*"),
            ("splunk-url", "known are max-size, "),
            ("file-max-file", "known are file-path, file-format, file-max-size, file-max-files, "),
            ("syslog-colour", "known are syslog-address, "),
        ] {
            let words = parse(&[(key, "1")]).unwrap_err().to_string();
            assert!(words.contains(&format!("`{key}`")) && words.contains(known), "{words}");
            assert!(words.len() < 400, "{words}");
        }
    }
}
