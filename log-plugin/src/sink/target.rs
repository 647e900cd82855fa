//! Where a container's log goes, rendered for that container: what sinks work by, and what is
//! kept on disk so that the next life of the process goes on.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file;
use super::status::{SinkId, SinkKind};
use super::syslog::structured;
use crate::container::Container;
use crate::options::{
    Address, BadOption, BadOptions, Deliver, FileFormat, FileSpec, FluentdAddress, FluentdMode,
    FluentdSpec, Framing, LogSpec, SyslogFormat, SyslogSpec, TlsSpec,
};
use crate::template::Template;

/// Most bytes of structured data: more would leave a datagram no room for the longest line.
const LARGEST_ELEMENT: usize = 8 << 10;

/// All sinks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// The file, if there is one.
    #[serde(default)]
    pub file: Option<FileTarget>,
    /// Syslog servers, if there are any.
    #[serde(default)]
    pub syslog: Option<SyslogTarget>,
    /// A fluentd, if there is one.
    #[serde(default)]
    pub fluentd: Option<FluentdTarget>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    File(FileTarget),
    Syslog(SyslogTarget),
    Fluentd(Box<FluentdTarget>),
}

/// Syslog servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyslogTarget {
    /// One at least.
    pub addresses: Vec<Address>,
    /// Which of them a message goes to.
    #[serde(default)]
    pub deliver: Deliver,
    /// 0 to 23.
    pub facility: u8,
    /// How messages are laid out.
    pub format: SyslogFormat,
    /// How they end in a stream, where that was asked for.
    pub framing: Option<Framing>,
    /// For the addresses that need it.
    pub tls: TlsSpec,
    /// What messages are marked with.
    pub tag: String,
    /// An element of structured data, as messages have it.
    #[serde(default)]
    pub structured: Option<String>,
}

/// A fluentd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FluentdTarget {
    /// Where it listens.
    pub address: FluentdAddress,
    /// How records are carried.
    pub mode: FluentdMode,
    /// Whether the server says what it has taken.
    pub ack: bool,
    /// Whether times have nanoseconds.
    pub sub_second: bool,
    /// What this side calls itself, where that was asked for.
    pub hostname: Option<String>,
    /// A file of the host with the key that both sides know.
    pub shared_key: Option<PathBuf>,
    /// Who this side is.
    pub user: Option<String>,
    /// A file of the host with this user's password.
    pub password: Option<PathBuf>,
    /// For an address that needs it.
    pub tls: TlsSpec,
    /// What messages are marked with.
    pub tag: String,
    /// The container's name, as Docker writes it into records.
    pub container_name: String,
    /// Labels and variables that records have besides.
    pub extra: BTreeMap<String, String>,
    /// Options that were given and mean nothing here.
    pub ignored: Vec<String>,
}

/// A file of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTarget {
    /// Below the log directory; names only.
    pub path: PathBuf,
    /// What is written for an entry.
    pub format: FileFormat,
    /// From this size on the next line goes to a new file.
    pub max_size: u64,
    /// How many files there are at most, the current one included.
    pub max_files: u32,
    /// A file that nobody has written to for so long is removed, but for the current one.
    #[serde(default)]
    pub max_age: Option<Duration>,
    /// Whether files before the current one are compressed.
    #[serde(default)]
    pub compress: bool,
    /// Permissions of files that are made.
    pub mode: u32,
    /// Owner of files that are made.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// Attributes for the format `json`, a JSON object.
    #[serde(default)]
    pub attributes: Option<String>,
}

impl Targets {
    /// What `spec` asks for, for `container`; or why its options cannot be had.
    pub fn of(spec: &LogSpec, container: &Container) -> Result<Self, BadOptions> {
        let file = spec.file.as_ref().map(|file| file_target(file, spec, container)).transpose();
        let syslog = spec.syslog.as_ref().map(|syslog| syslog_target(syslog, spec, container));
        let fluentd = spec.fluentd.as_ref().map(|to| fluentd_target(to, spec, container));
        match (file, syslog.transpose(), fluentd.transpose()) {
            (Ok(file), Ok(syslog), Ok(fluentd)) => Ok(Self { file, syslog, fluentd }),
            (file, syslog, fluentd) => {
                let bad = [file.err(), syslog.err().or(fluentd.err())];
                Err(BadOptions(bad.into_iter().flatten().collect()))
            }
        }
    }

    /// Each of them.
    pub(super) fn each(&self) -> impl Iterator<Item = (SinkId, Target)> {
        let file = self.file.clone().map(Target::File);
        let fluentd = self.fluentd.clone().map(|target| Target::Fluentd(Box::new(target)));
        let alone = file.into_iter().chain(fluentd).map(|target| (target.kind().into(), target));
        let syslog = self.syslog.iter().flat_map(SyslogTarget::each).enumerate();
        let syslog = syslog.map(|(number, target)| {
            (SinkId { kind: SinkKind::Syslog, number }, Target::Syslog(target))
        });
        alone.chain(syslog)
    }
}

impl SyslogTarget {
    /// A target for each sink that it takes: where a message goes to all addresses, one that is
    /// dead must not hold up the others.
    fn each(&self) -> Vec<Self> {
        match self.deliver {
            Deliver::Failover => vec![self.clone()],
            Deliver::All => {
                let alone = |address: &Address| vec![address.clone()];
                let addresses = self.addresses.iter().map(alone);
                addresses.map(|addresses| Self { addresses, ..self.clone() }).collect()
            }
        }
    }
}

impl Target {
    pub(super) fn kind(&self) -> SinkKind {
        match self {
            Self::File(_) => SinkKind::File,
            Self::Syslog(_) => SinkKind::Syslog,
            Self::Fluentd(_) => SinkKind::Fluentd,
        }
    }
}

fn syslog_target(
    spec: &SyslogSpec,
    options: &LogSpec,
    container: &Container,
) -> Result<SyslogTarget, BadOption> {
    let SyslogSpec { addresses, deliver, facility, format, framing, structured, tls } =
        spec.clone();
    let tag = tag(options, container)?;
    let element = |id: &String| structured::element(id, &options.extras.of(container));
    let structured = match structured.as_ref().and_then(element) {
        Some(element) if element.len() > LARGEST_ELEMENT => Err(BadOption::Malformed {
            key: "syslog-sd-id".to_owned(),
            value: spec.structured.clone().unwrap_or_default(),
            allowed: "an id where `labels` and `env` choose no more than 8 KiB".into(),
        }),
        element => Ok(element),
    }?;
    Ok(SyslogTarget { addresses, deliver, facility, format, framing, tls, tag, structured })
}

fn fluentd_target(
    spec: &FluentdSpec,
    options: &LogSpec,
    container: &Container,
) -> Result<FluentdTarget, BadOption> {
    let FluentdSpec { address, mode, ack, sub_second, hostname, .. } = spec.clone();
    let FluentdSpec { shared_key, user, password, tls, ignored, .. } = spec.clone();
    Ok(FluentdTarget {
        address,
        mode,
        ack,
        sub_second,
        hostname,
        shared_key,
        user,
        password,
        tls,
        tag: tag(options, container)?,
        container_name: container.name.clone(),
        extra: options.extras.of(container),
        ignored: ignored.into_iter().map(str::to_owned).collect(),
    })
}

/// The option `tag`, put in for `container`.
fn tag(options: &LogSpec, container: &Container) -> Result<String, BadOption> {
    let template = options.tag.as_deref().unwrap_or("{{.ID}}");
    let rendered = Template::parse(template).and_then(|template| template.render(container));
    rendered.map_err(|error| BadOption::Malformed {
        key: "tag".to_owned(),
        value: template.to_owned(),
        allowed: format!("for a sink a template that this container can be put into: {error}")
            .into(),
    })
}

fn file_target(
    spec: &FileSpec,
    options: &LogSpec,
    container: &Container,
) -> Result<FileTarget, BadOption> {
    let rendered = spec.path.render(container).map_err(|error| BadOption::Malformed {
        key: "file-path".to_owned(),
        value: spec.path_text.clone(),
        allowed: format!("a template that this container can be put into: {error}").into(),
    })?;
    let path = below(&rendered).ok_or_else(|| BadOption::Malformed {
        key: "file-path".to_owned(),
        value: rendered.clone(),
        allowed: "a path below the log directory, without `..`, that does not end as a rotated \
                  file's does (`.1`, `.1.gz`, `.1.gz.tmp`)"
            .into(),
    })?;
    Ok(FileTarget {
        path,
        format: spec.format,
        max_size: spec.max_size,
        max_files: spec.max_files,
        max_age: spec.max_age,
        compress: spec.compress,
        mode: spec.mode,
        uid: spec.uid,
        gid: spec.gid,
        attributes: attributes(spec, options, container)?,
    })
}

/// What json-file writes as `attrs`: labels and variables, and the tag where one was asked for.
fn attributes(
    spec: &FileSpec,
    options: &LogSpec,
    container: &Container,
) -> Result<Option<String>, BadOption> {
    if spec.format != FileFormat::Json {
        return Ok(None);
    }
    let mut attributes = options.extras.of(container);
    if options.tag.is_some() {
        attributes.insert("tag".to_owned(), tag(options, container)?);
    }
    attributes.retain(|key, value| key != "tag" || !value.is_empty());
    Ok((!attributes.is_empty()).then(|| file::attributes(&attributes)))
}

/// `text` as a path of names only, if it is one that cannot be taken for a rotated file.
fn below(text: &str) -> Option<PathBuf> {
    const LONGEST_NAME: usize = 240;
    let text = text.strip_prefix('/').unwrap_or(text);
    let path = Path::new(text);
    let good = |part: Component<'_>| match part {
        Component::Normal(name) => name.len() <= LONGEST_NAME,
        _ => false,
    };
    let name = path.file_name()?.to_str()?;
    let number = name.strip_suffix(".gz.tmp").or_else(|| name.strip_suffix(".gz"));
    let number = number.unwrap_or(name).rsplit_once('.');
    let rotated = number
        .is_some_and(|(_, end)| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit()));
    let whole = path.components().all(good) && !text.ends_with('/') && !text.contains('\0');
    (whole && !rotated).then(|| path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_log_directory() {
        for (text, path) in [
            ("web/web.log", "web/web.log"),
            ("/web.log", "web.log"),
            ("a//b/./c", "a/b/c"),
            ("v1.2/log.1x", "v1.2/log.1x"),
            ("a.1.tmp", "a.1.tmp"),
        ] {
            assert_eq!(below(text), Some(PathBuf::from(path)), "{text}");
        }
        let long = "a".repeat(241);
        for text in [
            "",
            "/",
            "..",
            "../a",
            "a/../b",
            "a/",
            "//a",
            "a.1",
            "a.23.gz",
            "a.1.gz.tmp",
            &long,
            "a\0",
        ] {
            assert_eq!(below(text), None, "{text}");
        }
    }
}
