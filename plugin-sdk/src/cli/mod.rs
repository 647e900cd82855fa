//! A client plugin of the docker command: `docker pgvol ...` and `docker pglog ...`, on the engine's host.
//!
//! The program that serves as plugin is also what Docker's CLI runs when it lies as `docker-NAME` in one
//! of its `cli-plugins` directories (docker/cli `cli-plugins/manager`). It asks that same CLI which engine
//! is meant, so that contexts, `DOCKER_HOST` and flags keep their meaning, and then calls the plugin on its
//! own socket, which only root of the engine's host can reach.
//!
//! A plugin implements [`Commands`] for an enum of its commands. A command is a struct with its arguments,
//! in a file of its own: it calls, then shows the answer by [`Session::show`], as text or as the JSON that
//! the plugin gave. Exit status: 0 done, 1 not done, 2 not understood.
//!
//! Absent: a way to talk to an engine on another machine, colours.

mod arguments;
mod attached;
mod bar;
mod completion;
mod engine;
mod interruption;
mod mistyped;
mod session;
pub mod text;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use serde::Serialize;

use self::arguments::{Described, Invocation};
pub use self::attached::Attached;
pub use self::bar::Bar;
use self::engine::Docker;
pub use self::engine::EngineError;
pub use self::interruption::Interruption;
pub use self::session::{Failure, Format, Nothing, Session};
use crate::chain::chain;

/// How long a shell waits for what it may offer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Exit status of an error that is the caller's way of saying it.
const NOT_UNDERSTOOD: u8 = 2;

/// What a client plugin is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The word after `docker`, and the interface socket's name without `.sock`.
    pub name: &'static str,
    /// One line for `docker --help`.
    pub about: &'static str,
    /// The program's version.
    pub version: &'static str,
}

/// The commands of a client plugin.
pub trait Commands: clap::Subcommand + 'static {
    /// Whose commands they are.
    const IDENTITY: Identity;

    /// Does the command that was given.
    fn run(self, session: &Session) -> Result<(), Failure>;

    /// What may stand for the argument called `argument`, for the shell's completion.
    fn candidates(argument: &str, session: &Session) -> Result<Vec<String>, Failure>;
}

/// What every command takes.
#[derive(Debug, clap::Args)]
struct Everywhere {
    /// Print the plugin's answer as JSON
    #[arg(long, global = true)]
    json: bool,
    /// The plugin to ask, by name or id, where several are installed
    #[arg(long, global = true, value_name = "NAME")]
    plugin: Option<String>,
}

#[derive(Debug, clap::Parser)]
struct CommandLine<C: clap::Subcommand> {
    #[command(flatten)]
    everywhere: Everywhere,
    #[command(subcommand)]
    command: C,
}

/// Does what the process was called for with `arguments`, its own name not among them.
pub fn main<C: Commands>(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match Invocation::parse(arguments, C::IDENTITY.name) {
        Invocation::Metadata => describe(C::IDENTITY),
        Invocation::Completion { words, described } => complete::<C>(words, described),
        Invocation::Command { flags, words } => return execute::<C>(flags, &words),
    };
    settle(C::IDENTITY, outcome.map_err(Failure::Output))
}

/// Parses and does a command.
fn execute<C: Commands>(flags: Vec<OsString>, words: &[OsString]) -> ExitCode {
    let name = OsString::from(C::IDENTITY.name);
    let all = std::iter::once(name).chain(words.iter().cloned());
    let matches = root::<C>().try_get_matches_from(all);
    let parsed = matches.and_then(|matches| CommandLine::<C>::from_arg_matches(&matches));
    let CommandLine { everywhere, command } = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help is asked for, and goes to standard output; anything else is not understood.
            let error = mistyped::explained(error, root::<C>(), words);
            let said = error.print();
            let status = if error.use_stderr() { NOT_UNDERSTOOD } else { u8::from(said.is_err()) };
            return ExitCode::from(status);
        }
    };
    let format = if everywhere.json { Format::Json } else { Format::Text };
    let session = Session::new(C::IDENTITY, Docker::new(flags), everywhere.plugin, format);
    settle(C::IDENTITY, command.run(&session))
}

fn root<C: Commands>() -> clap::Command {
    let Identity { name, about, version } = C::IDENTITY;
    CommandLine::<C>::command()
        .name(name)
        .display_name(format!("docker {name}"))
        .bin_name(format!("docker {name}"))
        .about(about)
        .version(version)
        .disable_help_subcommand(true)
        .after_help(format!(
            "It talks to the plugin {name} on this machine, as root. Exit status: 0 done, 1 not done, \
             2 not understood."
        ))
}

/// Says what went wrong and gives the exit status.
fn settle(identity: Identity, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has had enough of it.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            complain(identity, &failure);
            ExitCode::FAILURE
        }
    }
}

fn complain(identity: Identity, failure: &Failure) {
    if let Failure::Several(failures) = failure {
        return failures.iter().for_each(|failure| complain(identity, failure));
    }
    // With standard error gone too, the exit status has to do.
    // What Docker's command says may have lines.
    for line in chain(failure).lines() {
        drop(writeln!(io::stderr(), "docker {}: {}", identity.name, text::visible(line)));
    }
}

/// Answers `docker-cli-plugin-metadata` (docker/cli `cli-plugins/metadata`).
fn describe(identity: Identity) -> io::Result<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Metadata {
        schema_version: &'static str,
        vendor: &'static str,
        version: &'static str,
        short_description: &'static str,
    }
    let metadata = Metadata {
        schema_version: "0.1.0",
        vendor: "The pgvol and pglog authors",
        version: identity.version,
        short_description: identity.about,
    };
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &metadata)?;
    writeln!(stdout)
}

/// Answers `__complete`. What cannot be found out, since the plugin is off, does not answer soon or the caller
/// is not root, is not offered: a shell has no place for words about it.
fn complete<C: Commands>(words: Vec<String>, described: Described) -> io::Result<()> {
    let (found, offered) = mpsc::channel();
    // Whoever does not answer is not waited for: it ends with the process.
    thread::spawn(move || {
        let session = Session::new(C::IDENTITY, Docker::new(Vec::new()), None, Format::Text);
        let values = |argument: &str| match argument {
            "plugin" => session.plugins(),
            _ => C::candidates(argument, &session),
        };
        let values = |argument: &str| values(argument).unwrap_or_default();
        // The other end goes when nobody waits any more.
        drop(found.send(completion::candidates(root::<C>(), &words, values)));
    });
    let offered = offered.recv_timeout(PATIENCE).unwrap_or_default();
    io::stdout().write_all(completion::render(&offered, described).as_bytes())
}
