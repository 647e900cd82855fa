//! Which engine is meant and which of its plugins, asked of Docker's own CLI.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::Identity;
use super::attached::{Attached, refusal};

/// Set by Docker's CLI to its own command; while it completes, to the plugin's path.
const ORIGINAL_COMMAND: &str = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND";

/// Where engines have the sockets of their plugins, in a directory for each id (moby
/// `daemon/daemon_linux.go`: getPluginExecRoot, the same for every engine).
const SOCKETS: &str = "/run/docker/plugins";

/// Why there is nobody to talk to.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The docker command cannot be run.
    #[error("run {}", command.display())]
    Start {
        /// The command.
        command: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The docker command said no.
    #[error("{0}")]
    Docker(String),
    /// The docker command said something else than expected.
    #[error("`docker {what}` answered what is not understood")]
    Answer {
        /// The docker command.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The engine is on another machine.
    #[error(
        "this talks to the plugin on the engine's own host; the engine is at {endpoint}: run it there \
         (or name a local engine, such as `docker --host unix:///var/run/docker.sock {name} ...`)"
    )]
    Remote {
        /// The plugin's name.
        name: &'static str,
        /// The engine's address.
        endpoint: String,
    },
    /// The engine has the plugin, but not here.
    #[error(
        "the engine at {endpoint} is not on this machine: its plugin {plugin} has no socket at {}; \
         run it on the engine's own host", socket.display()
    )]
    Elsewhere {
        /// The engine's address.
        endpoint: String,
        /// The plugin.
        plugin: String,
        /// Where its socket would be.
        socket: PathBuf,
    },
    /// Only root reaches the plugin's socket.
    #[error("only root can reach the plugin: run it as root, such as `sudo docker {0} ...`")]
    NotRoot(&'static str),
    /// The engine has no such plugin.
    #[error(
        "the plugin {name} is not installed on the engine at {endpoint}; scripts/install.sh installs it, \
         or `docker plugin install`"
    )]
    NotInstalled {
        /// The plugin's name.
        name: &'static str,
        /// The engine's address.
        endpoint: String,
    },
    /// `--plugin` names another plugin.
    #[error("the plugin {found} is not {name}")]
    Another {
        /// The plugin that was looked for.
        name: &'static str,
        /// The one that was named.
        found: String,
    },
    /// The engine has more than one.
    #[error("{name} is installed more than once: choose by --plugin {}", found.join(" or --plugin "))]
    Several {
        /// The plugin's name.
        name: &'static str,
        /// What they are called.
        found: Vec<String>,
    },
    /// It is not enabled.
    #[error("the plugin {0} is installed, but disabled: `docker plugin enable --timeout 0 {0}`")]
    Disabled(String),
    /// It is enabled and does not take a connection.
    #[error("the plugin {plugin} does not answer at {}", socket.display())]
    Silent {
        /// The plugin.
        plugin: String,
        /// Its socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The docker command that called us, with the flags that it was given.
#[derive(Debug)]
pub(super) struct Docker {
    command: PathBuf,
    flags: Vec<OsString>,
}

/// A plugin on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// What the engine calls it.
    pub(super) name: String,
    /// Its socket.
    pub(super) socket: PathBuf,
    /// The engine's address.
    pub(super) endpoint: String,
}

/// Of `docker plugin inspect`, what is needed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Plugin {
    id: String,
    name: String,
    enabled: bool,
    config: Config,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    interface: Interface,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Interface {
    socket: String,
}

impl Plugin {
    /// Whether it is `name`, whatever the engine calls it.
    fn is(&self, name: &str) -> bool {
        self.config.interface.socket.strip_suffix(".sock") == Some(name)
    }
}

impl Docker {
    /// The CLI that called us, else the one in PATH.
    pub(super) fn new(flags: Vec<OsString>) -> Self {
        let original =
            env::var_os(ORIGINAL_COMMAND).filter(|command| !is_ourselves(command.as_ref()));
        let command = original.unwrap_or_else(|| "docker".into()).into();
        Self { command, flags }
    }

    /// Runs `docker WORDS` and gives its standard output.
    pub(super) fn output(&self, words: &[&str]) -> Result<Vec<u8>, EngineError> {
        let mut command = self.command(words);
        let output = command.stdin(Stdio::null()).output().map_err(|error| self.start(error))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(refusal(words, output.status, &output.stderr))
    }

    /// Starts `docker WORDS`, whose standard input stays open for as long as the answer is kept.
    pub(super) fn attach(&self, words: &[&str]) -> Result<Attached, EngineError> {
        Attached::start(self.command(words), words).map_err(|error| self.start(error))
    }

    /// In a process group of its own: what is put in order after a signal is not ended by it.
    fn command(&self, words: &[&str]) -> Command {
        #[expect(
            clippy::disallowed_methods,
            reason = "the user sees and ends it as any docker command; there is no plugin to be kept waiting"
        )]
        let mut command = Command::new(&self.command);
        command.args(&self.flags).args(words).env_remove(ORIGINAL_COMMAND).process_group(0);
        command
    }

    fn start(&self, source: io::Error) -> EngineError {
        EngineError::Start { command: self.command.clone(), source }
    }

    /// Finds the plugin on the engine that is meant, or the one that is `wanted`.
    pub(super) fn find(
        &self,
        identity: Identity,
        wanted: Option<&str>,
    ) -> Result<Found, EngineError> {
        let name = identity.name;
        let context =
            self.output(&["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"])?;
        let endpoint = String::from_utf8_lossy(&context).trim().to_owned();
        if !endpoint.starts_with("unix://") {
            return Err(EngineError::Remote { name, endpoint });
        }
        if !is_root() {
            return Err(EngineError::NotRoot(name));
        }
        let plugins = match wanted {
            Some(wanted) => self.inspect(&[wanted])?,
            None => self.inspect(&self.ids()?.iter().map(String::as_str).collect::<Vec<_>>())?,
        };
        let plugin = choose(name, wanted, plugins, &endpoint)?;
        let socket = Path::new(SOCKETS).join(&plugin.id).join(&plugin.config.interface.socket);
        Ok(Found { name: plugin.name, socket, endpoint })
    }

    /// What the engine calls its plugins that are of this kind.
    pub(super) fn names(&self, identity: Identity) -> Result<Vec<String>, EngineError> {
        let plugins = self.inspect(&self.ids()?.iter().map(String::as_str).collect::<Vec<_>>())?;
        let ours = plugins.into_iter().filter(|plugin| plugin.is(identity.name));
        Ok(ours.map(|plugin| plugin.name).collect())
    }

    fn ids(&self) -> Result<Vec<String>, EngineError> {
        let ids = self.output(&["plugin", "ls", "--quiet", "--no-trunc"])?;
        Ok(String::from_utf8_lossy(&ids).split_whitespace().map(str::to_owned).collect())
    }

    fn inspect(&self, plugins: &[&str]) -> Result<Vec<Plugin>, EngineError> {
        if plugins.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.output(&[&["plugin", "inspect"], plugins].concat())?;
        serde_json::from_slice(&answer)
            .map_err(|source| EngineError::Answer { what: "plugin inspect", source })
    }
}

/// The one plugin of `plugins` that listens as `name` does.
fn choose(
    name: &'static str,
    wanted: Option<&str>,
    plugins: Vec<Plugin>,
    endpoint: &str,
) -> Result<Plugin, EngineError> {
    let (ours, others): (Vec<_>, Vec<_>) = plugins.into_iter().partition(|plugin| plugin.is(name));
    let mut ours = ours.into_iter();
    let Some(plugin) = ours.next() else {
        return Err(match (wanted, others.into_iter().next()) {
            (Some(_), Some(other)) => EngineError::Another { name, found: other.name },
            _ => EngineError::NotInstalled { name, endpoint: endpoint.to_owned() },
        });
    };
    let more: Vec<_> = ours.map(|plugin| plugin.name).collect();
    if !more.is_empty() {
        let found = std::iter::once(plugin.name).chain(more).collect();
        return Err(EngineError::Several { name, found });
    }
    if plugin.enabled { Ok(plugin) } else { Err(EngineError::Disabled(plugin.name)) }
}

/// Docker sets the name of a plugin's own file while it completes.
fn is_ourselves(command: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    matches!((real(command), env::current_exe().ok()), (Some(command), Some(own)) if command == own)
}

fn is_root() -> bool {
    // Owned by the effective user.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(name: &str, socket: &str, enabled: bool) -> Plugin {
        let config = Config { interface: Interface { socket: socket.to_owned() } };
        Plugin { id: "0f".repeat(32), name: name.to_owned(), enabled, config }
    }

    fn chosen(wanted: Option<&str>, plugins: &[Plugin]) -> Result<String, String> {
        choose("pgvol", wanted, plugins.to_vec(), "unix:///s")
            .map(|plugin| plugin.name)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_plugin_is_known_by_its_socket_whatever_it_is_called() {
        let others = [plugin("x:latest", "x.sock", true), plugin("mine:1", "pgvol.sock", true)];
        assert_eq!(chosen(None, &others).as_deref(), Ok("mine:1"));
        assert!(chosen(None, &others[..1]).unwrap_err().contains("not installed"));
        assert!(chosen(None, &[]).unwrap_err().contains("not installed"));
        assert!(chosen(Some("x"), &others[..1]).unwrap_err().contains("x:latest is not pgvol"));
    }

    #[test]
    fn of_several_one_has_to_be_named_and_it_must_be_enabled() {
        let two = [plugin("a", "pgvol.sock", true), plugin("b", "pgvol.sock", false)];
        let words = chosen(None, &two).unwrap_err();
        assert!(words.contains("--plugin a or --plugin b"), "{words}");
        assert_eq!(chosen(Some("a"), &two[..1]).as_deref(), Ok("a"));
        assert!(
            chosen(None, &two[1..]).unwrap_err().contains("docker plugin enable --timeout 0 b")
        );
    }

    #[test]
    fn what_docker_says_is_said_on() {
        let docker = Docker { command: "/bin/sh".into(), flags: vec!["-c".into()] };
        let error = docker.output(&["echo no such engine >&2; exit 1"]).unwrap_err();
        assert_eq!(error.to_string(), "no such engine");
        let error = docker.output(&["exit 3"]).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        let gone = Docker { command: "/nowhere/docker".into(), flags: Vec::new() };
        assert!(matches!(gone.output(&[]), Err(EngineError::Start { .. })));
    }

    #[test]
    fn another_machine_s_engine_is_not_asked() {
        let say = |endpoint: &str| Docker {
            command: "/bin/sh".into(),
            flags: vec!["-c".into(), format!("echo {endpoint}").into()],
        };
        let identity = Identity { name: "pgvol", about: "", version: "" };
        for endpoint in ["tcp://10.0.0.1:2376", "ssh://me@db"] {
            let error = say(endpoint).find(identity, None).unwrap_err().to_string();
            assert!(error.contains(endpoint) && error.contains("run it there"), "{error}");
        }
    }

    #[test]
    fn we_know_ourselves() {
        assert!(is_ourselves(&env::current_exe().unwrap()));
        assert!(!is_ourselves(Path::new("/bin/sh")) && !is_ourselves(Path::new("docker")));
    }
}
