//! Options of the file sink.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Fault, value};
use crate::template::{Template, TemplateError};

/// Most files of one container.
const MOST_FILES: u32 = 1000;

/// Which option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    Path,
    Format,
    MaxSize,
    MaxFiles,
    MaxAge,
    Compress,
    Mode,
    Owner,
}

/// What is written for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// The line as the container wrote it.
    Raw,
    /// An object as Docker's json-file driver writes it.
    Json,
}

/// What the options of the file sink ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// The path below the log directory.
    pub path: Template,
    /// The same as it was given.
    pub path_text: String,
    /// What is written.
    pub format: FileFormat,
    /// From this size on the next line goes to a new file.
    pub max_size: u64,
    /// How many files there are at most, the current one included.
    pub max_files: u32,
    /// How long files before the current one are kept.
    pub max_age: Option<Duration>,
    /// Whether they are compressed.
    pub compress: bool,
    /// Permissions of the files.
    pub mode: u32,
    /// Their owner.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
}

const PATH: &str = "{{.Name}}/{{.Name}}.log";

impl Default for FileSpec {
    /// # Panics
    /// When the default path is no template, which the tests would show.
    fn default() -> Self {
        Self {
            path: Template::parse(PATH).unwrap_or_else(|error| panic!("{PATH}: {error}")),
            path_text: PATH.to_owned(),
            format: FileFormat::Raw,
            max_size: 20 << 20,
            max_files: 5,
            max_age: None,
            compress: false,
            mode: 0o640,
            uid: 0,
            gid: 0,
        }
    }
}

impl FileSpec {
    pub(super) fn take(&mut self, key: Key, text: &str) -> Result<(), Fault> {
        match key {
            Key::Path => {
                self.path = template(text)?;
                text.clone_into(&mut self.path_text);
            }
            Key::Format => self.format = format(text)?,
            Key::MaxSize => {
                let size = value::size(text).filter(|&size| size > 0);
                let allowed = "a size above 0 such as 500k, 10m or 1g";
                self.max_size = size.ok_or(Fault::Malformed(allowed))?;
            }
            Key::MaxFiles => {
                let count = value::count(text).filter(|&count| count <= MOST_FILES);
                self.max_files = count.ok_or(Fault::Malformed("a whole number from 1 to 1000"))?;
            }
            Key::MaxAge => {
                let age = value::age(text).ok_or(Fault::Malformed(value::AN_AGE))?;
                self.max_age = Some(age);
            }
            Key::Compress => self.compress = value::truth(text)?,
            Key::Mode => {
                let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o666 == 0);
                self.mode = mode.ok_or(Fault::Malformed(
                    "permissions to read and write in octal, such as 0640",
                ))?;
            }
            Key::Owner => {
                let (uid, gid) = text.split_once(':').unwrap_or((text, text));
                let ids = uid.parse().ok().zip(gid.parse().ok());
                let allowed = "UID or UID:GID, as numbers";
                (self.uid, self.gid) = ids.ok_or(Fault::Malformed(allowed))?;
            }
        }
        Ok(())
    }
}

fn template(text: &str) -> Result<Template, Fault> {
    Template::parse(text).map_err(|error| match error {
        TemplateError::NotBuilt(_) => Fault::NotBuilt(Some(
            "a template of fields, functions, variables and blocks, such as `{{.Name}}/{{.Name}}.log`",
        )),
        _ => Fault::Malformed(value::A_TEMPLATE),
    })
}

fn format(text: &str) -> Result<FileFormat, Fault> {
    match text {
        "raw" => Ok(FileFormat::Raw),
        "json" => Ok(FileFormat::Json),
        "jsonlog" | "csvlog" | "pgbadger" => Err(Fault::NotBuilt(Some("raw or json"))),
        _ => Err(Fault::Malformed("raw or json")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BadOption, LogSpec};
    use super::*;
    use std::collections::BTreeMap;

    fn parse(key: &str, value: &str) -> Result<FileSpec, Vec<BadOption>> {
        let options = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        LogSpec::parse(&options).map(|spec| spec.file.unwrap()).map_err(|bad| bad.0)
    }

    #[test]
    fn any_option_names_the_sink() {
        assert_eq!(LogSpec::parse(&BTreeMap::new()).unwrap().file, None);
        assert_eq!(parse("sinks", "file").unwrap(), FileSpec::default());
        let json = FileSpec { format: FileFormat::Json, ..FileSpec::default() };
        assert_eq!(parse("file-format", "json").unwrap(), json);
        assert_eq!(parse("file-max-size", "1m").unwrap().max_size, 1 << 20);
        assert_eq!(parse("file-max-files", "1").unwrap().max_files, 1);
        assert_eq!(parse("file-max-age", "2h").unwrap().max_age, Some(Duration::from_hours(2)));
        assert!(parse("file-compress", "true").unwrap().compress);
        assert_eq!(parse("file-mode", "0644").unwrap().mode, 0o644);
        let owner = |text| parse("file-owner", text).map(|spec| (spec.uid, spec.gid));
        assert_eq!((owner("999"), owner("1:2")), (Ok((999, 999)), Ok((1, 2))));
        assert_eq!(parse("file-path", "{{.ID}}.log").unwrap().path_text, "{{.ID}}.log");
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (key, value) in [
            ("file-path", "{{.Nickname}}"),
            ("file-path", "{{.Name"),
            ("file-path", "{{html .Name}}"),
            ("file-format", "xml"),
            ("file-format", "jsonlog"),
            ("file-max-size", "0"),
            ("file-max-size", "many"),
            ("file-max-files", "0"),
            ("file-max-files", "1001"),
            ("file-mode", "0777"),
            ("file-mode", "rw"),
            ("file-owner", "postgres"),
            ("file-owner", "1:2:3"),
            ("file-max-age", "7"),
            ("file-compress", "gzip"),
            ("sinks", "file,paper"),
        ] {
            let bad = parse(key, value).unwrap_err();
            let words = bad[0].to_string();
            assert!(bad.len() == 1 && words.contains(key) && words.contains(value), "{words}");
        }
    }
}
