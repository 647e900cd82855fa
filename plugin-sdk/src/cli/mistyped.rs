//! What is said where a command line is not understood: clap names the word that is wrong, and here what is
//! allowed in its place.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use super::completion::{Candidate, Place, flags, subcommands};

/// `error` about `words`, with the names of the commands or flags that there are where it is about one that
/// there is not.
pub(super) fn explained(error: Error, mut command: Command, words: &[OsString]) -> Error {
    let (kind, about) = match error.kind() {
        kind @ ErrorKind::InvalidSubcommand => (kind, ContextKind::InvalidSubcommand),
        kind @ ErrorKind::UnknownArgument => (kind, ContextKind::InvalidArg),
        _ => return error,
    };
    let Some(ContextValue::String(wrong)) = error.get(about) else { return error };
    command.build();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    // A flag that is wrong may have a value in the same word.
    let before = words.iter().position(|word| word.split('=').next() == Some(wrong));
    let at = Place::after(&command, &words[..before.unwrap_or(words.len())]).command;
    let (what, allowed) = match kind {
        ErrorKind::InvalidSubcommand => ("command", subcommands(at)),
        _ if wrong.starts_with('-') => ("flag", flags(at)),
        _ => return error,
    };
    let allowed: Vec<_> = allowed.into_iter().map(|Candidate { value, .. }| value).collect();
    let place = at.get_bin_name().unwrap_or_else(|| at.get_name());
    let said = format!("{place} has no {what} `{wrong}`: allowed are {}", allowed.join(", "));
    at.clone().error(kind, said)
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    fn command() -> Command {
        let json = Arg::new("json").long("json").action(ArgAction::SetTrue).global(true);
        let file = Arg::new("file").long("file");
        let below = ["ls", "rm"].map(Command::new);
        let snapshot = Command::new("snapshot").subcommand_required(true).subcommands(below);
        Command::new("pgvol")
            .bin_name("docker pgvol")
            .subcommand_required(true)
            .disable_help_subcommand(true)
            .arg(json)
            .subcommand(Command::new("status").arg(file))
            .subcommand(snapshot)
    }

    fn said(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let all = std::iter::once(OsString::from("pgvol")).chain(words.iter().cloned());
        let error = command().try_get_matches_from(all).unwrap_err();
        explained(error, command(), &words).to_string()
    }

    #[test]
    fn what_is_allowed_is_said_where_something_else_was_given() {
        for (line, part) in [
            ("statsu", "docker pgvol has no command `statsu`: allowed are status, snapshot\n"),
            (
                "--json snapshot sl x",
                "docker pgvol snapshot has no command `sl`: allowed are ls, rm\n",
            ),
            (
                "status --fiel x",
                "docker pgvol status has no flag `--fiel`: allowed are --file, --json, --help\n",
            ),
            ("status --fiel=x", "no flag `--fiel`: allowed are --file"),
            (
                "snapshot -x ls",
                "docker pgvol snapshot has no flag `-x`: allowed are --json, --help\n",
            ),
        ] {
            let said = said(line);
            assert!(
                said.contains(part) && said.contains("\nUsage: docker pgvol"),
                "{line}: {said}"
            );
        }
    }

    #[test]
    fn anything_else_is_clap_s_to_say() {
        for line in ["status too", "status --file", "snapshot"] {
            assert!(!said(line).contains("allowed are"), "{line}: {}", said(line));
        }
    }
}
