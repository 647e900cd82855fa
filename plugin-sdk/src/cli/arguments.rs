//! What Docker's CLI calls a client plugin with: its own arguments as they were given, so its flags come
//! first, then the plugin's name, then the words for the plugin.

use std::ffi::{OsStr, OsString};

/// What `docker-cli-plugin-metadata` and completion are asked by.
const METADATA: &str = "docker-cli-plugin-metadata";
const COMPLETE: &str = "__complete";
const COMPLETE_PLAIN: &str = "__completeNoDesc";

/// Docker's flags whose value may be the next word.
const WITH_VALUE: [&str; 7] =
    ["--config", "--context", "--host", "--log-level", "--tlscacert", "--tlscert", "--tlskey"];
/// Letters of those that have one.
const LETTERS_WITH_VALUE: &[u8] = b"cHl";

/// Whether a completion's candidates come with a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Described {
    /// With.
    Yes,
    /// Without.
    No,
}

/// What the process was called for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Invocation {
    /// To say what plugin this is.
    Metadata,
    /// To offer what the last of the words may become.
    Completion {
        /// The words after the plugin's name.
        words: Vec<String>,
        /// How.
        described: Described,
    },
    /// To do something.
    Command {
        /// Docker's own flags, to be repeated to it.
        flags: Vec<OsString>,
        /// The words after the plugin's name.
        words: Vec<OsString>,
    },
}

impl Invocation {
    /// Takes `arguments` apart. The name of the plugin may be missing, so that the program can be run by
    /// its own path too.
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>, name: &str) -> Self {
        let (flags, help, mut words) = split(arguments.into_iter().collect());
        let first = words.first().and_then(|word| word.to_str()).unwrap_or_default();
        match first {
            METADATA => return Self::Metadata,
            COMPLETE | COMPLETE_PLAIN => {
                let described = if first == COMPLETE { Described::Yes } else { Described::No };
                let skip = if words.get(1).is_some_and(|word| word == name) { 2 } else { 1 };
                let words = words.drain(..).skip(skip);
                let words = words.map(|word| word.to_string_lossy().into_owned()).collect();
                return Self::Completion { words, described };
            }
            // `docker help NAME`.
            "help" if words.get(1).is_some_and(|word| word == name) => {
                words.drain(..2);
                words.push("--help".into());
            }
            first if first == name => drop(words.remove(0)),
            _ => {}
        }
        if help {
            words.push("--help".into());
        }
        Self::Command { flags, words }
    }
}

/// Docker's flags in front, whether help was asked for among them, and the rest.
fn split(arguments: Vec<OsString>) -> (Vec<OsString>, bool, Vec<OsString>) {
    let (mut flags, mut help) = (Vec::new(), false);
    let mut rest = arguments.into_iter().peekable();
    while let Some(flag) = rest.next_if(|word| word.as_encoded_bytes().starts_with(b"-")) {
        if flag == "--help" || flag == "-h" {
            help = true;
            continue;
        }
        if flag == "--version" || flag == "-V" {
            // Docker has its own; what comes here is ours.
            return (flags, help, std::iter::once(flag).chain(rest).collect());
        }
        let value = wants_value(&flag);
        flags.push(flag);
        if value {
            flags.extend(rest.next());
        }
    }
    (flags, help, rest.collect())
}

/// Whether the value of `flag` is the next word.
fn wants_value(flag: &OsStr) -> bool {
    let bytes = flag.as_encoded_bytes();
    if bytes.starts_with(b"--") {
        return WITH_VALUE.iter().any(|long| flag == *long);
    }
    // Of letters in one word only the last can have its value outside.
    let at = bytes.iter().position(|letter| LETTERS_WITH_VALUE.contains(letter));
    at.is_some_and(|at| at + 1 == bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Invocation {
        Invocation::parse(line.split(' ').map(|word| word.trim_matches('\'').into()), "pgvol")
    }

    fn command(flags: &[&str], words: &[&str]) -> Invocation {
        let own = |words: &[&str]| words.iter().map(OsString::from).collect();
        Invocation::Command { flags: own(flags), words: own(words) }
    }

    #[test]
    fn docker_s_flags_come_first_and_are_kept() {
        assert_eq!(parse("pgvol ls --json"), command(&[], &["ls", "--json"]));
        for (flags, count) in [
            ("-H tcp://h:1", 2),
            ("-Htcp://h:1", 1),
            ("-D --host=tcp://h:1 --tls", 3),
            ("-DH tcp://h:1 -l debug", 4),
            ("--context pgvol --config /x", 4),
        ] {
            let parsed = parse(&format!("{flags} pgvol inspect a"));
            let flags: Vec<_> = flags.split(' ').collect();
            assert_eq!(flags.len(), count);
            assert_eq!(parsed, command(&flags, &["inspect", "a"]));
        }
    }

    #[test]
    fn the_name_may_be_missing() {
        assert_eq!(parse("ls"), command(&[], &["ls"]));
        assert_eq!(parse("--version"), command(&[], &["--version"]));
    }

    #[test]
    fn every_way_to_ask_for_help_is_one() {
        for line in ["help pgvol", "--help pgvol", "-h pgvol", "pgvol --help"] {
            assert_eq!(parse(line), command(&[], &["--help"]), "{line}");
        }
        assert_eq!(parse("help pgvol ls"), command(&[], &["ls", "--help"]));
    }

    #[test]
    fn metadata_and_completion_are_told_apart() {
        assert_eq!(parse("docker-cli-plugin-metadata"), Invocation::Metadata);
        for (line, described) in [
            ("__complete pgvol inspect ''", Described::Yes),
            ("__completeNoDesc pgvol inspect ''", Described::No),
        ] {
            let words = vec!["inspect".to_owned(), String::new()];
            assert_eq!(parse(line), Invocation::Completion { words, described });
        }
    }
}
