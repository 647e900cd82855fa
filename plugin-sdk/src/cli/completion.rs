//! The shell's completion, in the way that Docker's CLI expects of its plugins: a candidate a line, with a
//! tab and a description where wanted, and last a line `:DIRECTIVE` (spf13/cobra, "shell completions").

use clap::{Arg, ArgAction, Command};

use super::arguments::Described;

/// No file names beside the candidates.
const NO_FILES: &str = ":4\n";

/// Something that the last word may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) value: String,
    about: String,
}

/// What the last of `words` may become, with `command` before them. `values` knows what may stand for an
/// argument, by its name.
pub(super) fn candidates(
    mut command: Command,
    words: &[String],
    values: impl FnOnce(&str) -> Vec<String>,
) -> Vec<Candidate> {
    command.build();
    let (current, before) = words.split_last().map_or(("", words), |(last, rest)| (last, rest));
    let place = Place::after(&command, before);
    let mut found = match (place.flag, current.starts_with('-') && !place.flags_ended) {
        (Some(flag), _) => of_argument(flag, values),
        (None, true) => flags(place.command),
        (None, false) if place.command.has_subcommands() => subcommands(place.command),
        (None, false) => {
            let argument = positional(place.command, place.positionals.len());
            let mut found =
                argument.map_or_else(Vec::new, |argument| of_argument(argument, values));
            // Of a list nothing is wanted twice.
            if argument.is_some_and(is_list) {
                found.retain(|candidate| !place.positionals.contains(&&*candidate.value));
            }
            found
        }
    };
    found.retain(|candidate| candidate.value.starts_with(current));
    found
}

/// The answer to the shell.
pub(super) fn render(candidates: &[Candidate], described: Described) -> String {
    let mut answer = String::new();
    for Candidate { value, about } in candidates {
        answer.push_str(value);
        if described == Described::Yes && !about.is_empty() {
            answer.push('\t');
            answer.push_str(about);
        }
        answer.push('\n');
    }
    answer + NO_FILES
}

/// Where the words before the last have led.
pub(super) struct Place<'a> {
    pub(super) command: &'a Command,
    /// The flag whose value comes next.
    flag: Option<&'a Arg>,
    flags_ended: bool,
    positionals: Vec<&'a str>,
}

impl<'a> Place<'a> {
    /// Where `words` lead from `command`, which is built.
    pub(super) fn after(command: &'a Command, words: &'a [String]) -> Self {
        let mut place = Self { command, flag: None, flags_ended: false, positionals: Vec::new() };
        for word in words {
            if place.flag.take().is_some() {
                continue;
            }
            if !place.flags_ended && word == "--" {
                place.flags_ended = true;
            } else if !place.flags_ended && word.starts_with('-') {
                place.flag = flag(place.command, word).filter(|flag| takes_value(flag));
            } else if let Some(below) = place.command.find_subcommand(word) {
                place.command = below;
            } else {
                place.positionals.push(word);
            }
        }
        place
    }
}

/// The flag that is `word`; none for one that has its value in the same word.
fn flag<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| {
        let long = argument.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
        let short = argument.get_short().is_some_and(|short| {
            word.strip_prefix('-').is_some_and(|word| word.chars().eq([short]))
        });
        long || short
    })
}

fn takes_value(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Set | ArgAction::Append)
}

fn of_argument(argument: &Arg, values: impl FnOnce(&str) -> Vec<String>) -> Vec<Candidate> {
    let possible = argument.get_possible_values();
    if possible.is_empty() {
        let candidate = |value| Candidate { value, about: String::new() };
        return values(argument.get_id().as_str()).into_iter().map(candidate).collect();
    }
    let candidate = |value: &clap::builder::PossibleValue| Candidate {
        value: value.get_name().to_owned(),
        about: value.get_help().map(ToString::to_string).unwrap_or_default(),
    };
    possible.iter().map(candidate).collect()
}

pub(super) fn flags(command: &Command) -> Vec<Candidate> {
    let flag = |argument: &Arg| {
        let value = format!("--{}", argument.get_long()?);
        let about = argument.get_help().map(ToString::to_string).unwrap_or_default();
        (!argument.is_hide_set()).then_some(Candidate { value, about })
    };
    command.get_arguments().filter_map(flag).collect()
}

pub(super) fn subcommands(command: &Command) -> Vec<Candidate> {
    let candidate = |below: &Command| Candidate {
        value: below.get_name().to_owned(),
        about: below.get_about().map(ToString::to_string).unwrap_or_default(),
    };
    command.get_subcommands().filter(|below| !below.is_hide_set()).map(candidate).collect()
}

/// The positional argument after `count` others; the last one may be repeatable.
fn positional(command: &Command, count: usize) -> Option<&Arg> {
    let mut arguments = command.get_positionals().skip(count);
    let repeatable = |argument: &&Arg| is_list(argument);
    arguments.next().or_else(|| command.get_positionals().last().filter(repeatable))
}

fn is_list(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|range| range.max_values() > 1)
        || matches!(argument.get_action(), ArgAction::Append)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Subcommand;

    #[derive(Debug, Subcommand)]
    enum Tried {
        /// List them
        Ls,
        /// Show one
        Inspect {
            /// Which
            volume: Vec<String>,
            /// How much
            #[arg(long)]
            depth: Option<u32>,
        },
        /// Cat one
        Cat {
            /// Which
            volume: String,
            /// What to show
            #[arg(long, value_parser = ["all", "some"])]
            what: Option<String>,
        },
        /// Copy one
        Copy {
            /// Which
            volume: String,
            /// In the place of which
            #[arg(id = "volume_too")]
            other: String,
        },
    }

    fn offered(words: &[&str]) -> Vec<String> {
        let command = Tried::augment_subcommands(Command::new("pgvol"));
        let command = command.disable_help_subcommand(true);
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        let values = |argument: &str| match argument {
            "volume" | "volume_too" => vec!["appdb".to_owned(), "b".to_owned()],
            _ => Vec::new(),
        };
        candidates(command, &words, values).into_iter().map(|candidate| candidate.value).collect()
    }

    #[test]
    fn commands_and_what_they_take_are_offered() {
        assert_eq!(offered(&[""]), ["ls", "inspect", "cat", "copy"]);
        assert_eq!(offered(&["i"]), ["inspect"]);
        assert_eq!(offered(&["inspect", ""]), ["appdb", "b"]);
        assert_eq!(offered(&["inspect", "a"]), ["appdb"]);
        assert_eq!(offered(&["inspect", "appdb", ""]), ["b"]);
        assert_eq!(offered(&["cat", "appdb", ""]), [""; 0]);
        assert_eq!(offered(&["copy", "appdb", ""]), ["appdb", "b"]);
        assert_eq!(offered(&["ls", ""]), [""; 0]);
        assert_eq!(offered(&["nonsense", ""]), ["ls", "inspect", "cat", "copy"]);
    }

    #[test]
    fn flags_and_their_values_are_offered() {
        assert_eq!(offered(&["inspect", "--"]), ["--depth", "--help"]);
        assert_eq!(offered(&["inspect", "--depth", ""]), [""; 0]);
        assert_eq!(offered(&["inspect", "--depth", "1", ""]), ["appdb", "b"]);
        assert_eq!(offered(&["cat", "--what", "s"]), ["some"]);
        assert_eq!(offered(&["inspect", "--", "-"]), [""; 0]);
    }

    #[test]
    fn an_answer_has_a_line_each_and_the_directive() {
        let candidate = Candidate { value: "ls".to_owned(), about: "List them".to_owned() };
        assert_eq!(render(std::slice::from_ref(&candidate), Described::Yes), "ls\tList them\n:4\n");
        assert_eq!(render(&[candidate], Described::No), "ls\n:4\n");
        assert_eq!(render(&[], Described::Yes), ":4\n");
    }
}
