//! Log options (`--log-opt key=value`): the raw map in, [`LogSpec`] out.
//!
//! dockerd checks none of them, so what is refused here is refused at the container's start. Its
//! own keys (`mode`, `cache-*`) come along with ours and are let through. Where a key is also one
//! of Docker's `local` driver, its syntax is that driver's: dockerd may parse the same map for its
//! cache.

use std::collections::BTreeMap;
use std::fmt;

use regex_syntax::ast::parse::Parser;

use crate::tag;

/// What a container's log options ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    /// Largest segment of the journal.
    pub max_size: u64,
    /// How many times `max_size` the journal may hold.
    pub max_file: u32,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { max_size: 20 << 20, max_file: 5 }
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
        allowed: &'static str,
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
    ("sinks", Kind::NotBuilt(Some(""))),
    ("file-*", Kind::NotBuilt(None)),
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
        let bad: Vec<_> =
            options.iter().filter_map(|(key, value)| spec.take(key, value).err()).collect();
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
            Kind::Size => parse_size(&value).map(drop).ok_or(A_SIZE),
            Kind::MaxSize => parse_size(&value)
                .filter(|&size| size > 0)
                .map(|size| self.max_size = size)
                .ok_or("a size above 0 such as 500k, 10m or 1g"),
            Kind::Tag => tag::is_valid(&value)
                .then_some(())
                .ok_or("a template such as `{{.Name}}/{{.ID}}`, as Docker's drivers take it"),
            Kind::Regex => {
                Parser::new().parse(&value).map(drop).map_err(|_| "a regular expression")
            }
            Kind::MaxFile => parse_max_file(&value)
                .map(|count| self.max_file = count)
                .ok_or("a whole number from 1 on"),
            Kind::OnlyFalse => match parse_bool(&value) {
                Some(false) => Ok(()),
                Some(true) => {
                    return Err(BadOption::NotBuilt { key, value, instead: Some("false") });
                }
                None => Err("true or false"),
            },
            Kind::NotBuilt(instead) if instead == Some(&*value) => Ok(()),
            Kind::NotBuilt(instead) => return Err(BadOption::NotBuilt { key, value, instead }),
        };
        taken.map_err(|allowed| BadOption::Malformed { key, value, allowed })
    }
}

const A_SIZE: &str = "a size such as 500k, 10m or 1g";

fn parse_max_file(text: &str) -> Option<u32> {
    // Go's Atoi takes a sign.
    text.parse().ok().filter(|&count| count > 0)
}

/// What Go's `strconv.ParseBool` takes.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A size as Docker's `units.RAMInBytes` reads it: a number, which may have a fraction, at most
/// one space, and a binary unit `b`, `k`, `m`, `g`, `t` or `p` in either case, which but for `b`
/// may be followed by `b` or `ib`.
fn parse_size(text: &str) -> Option<u64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')? + 1;
    let (number, unit) = text.split_at(end);
    let number = number.strip_suffix(' ').unwrap_or(number);
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let unit = unit.to_ascii_lowercase();
    let mut letters = unit.chars();
    let shift = match (letters.next(), letters.as_str()) {
        (None, _) | (Some('b'), "") => 0,
        (Some(letter), "" | "b" | "ib") => 10 * ("kmgtp".find(letter)? + 1),
        _ => return None,
    };
    let scale = 1u64 << shift;
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(scale).filter(|&size| i64::try_from(size).is_ok()),
        Err(_) => scaled(number.parse().ok()?, scale),
    }
}

/// `number` times a power of two, cut to a whole number.
fn scaled(number: f64, scale: u64) -> Option<u64> {
    #[expect(clippy::cast_precision_loss, reason = "powers of two up to 2^50 are exact")]
    let size = number * scale as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "cut to a whole number on purpose, after a check of the range"
    )]
    let cut = size as u64;
    (0.0..9.2e18).contains(&size).then_some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<LogSpec, BadOptions> {
        let options = options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        LogSpec::parse(&options.collect())
    }

    #[test]
    fn sizes_are_docker_s() {
        for (text, size) in [
            ("32", 32),
            ("32b", 32),
            ("32 B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32 KiB", 32 << 10),
            ("10m", 10 << 20),
            ("1g", 1 << 30),
            ("2T", 2 << 40),
            ("1P", 1 << 50),
            ("32.5 kb", 33_280),
            (".5k", 512),
            ("1.", 1),
        ] {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
        for text in [
            "", "m", "10x", "10mbb", "10 mbib", "10bb", " 10", "10  k", "-1", "1e3", "0x10",
            "9999p",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn retention_is_read() {
        assert_eq!(parse(&[]).unwrap(), LogSpec { max_size: 20 << 20, max_file: 5 });
        let spec = parse(&[("max-size", "10m"), ("max-file", "3")]).unwrap();
        assert_eq!(spec, LogSpec { max_size: 10 << 20, max_file: 3 });
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
            [("compress", "true"), ("sinks", "file"), ("syslog-address", "udp://x"), ("route", "x")]
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
