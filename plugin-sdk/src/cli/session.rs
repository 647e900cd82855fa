//! One command's talk with the plugin, and how its answer is shown.

use std::cell::OnceCell;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;

use hyper::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::attached::Attached;
use super::engine::{Docker, Found};
use super::{EngineError, Identity};
use crate::client::{CallError, Client};

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is nobody to talk to.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The call had no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The plugin said no, in its own words.
    #[error("{0}")]
    Refused(String),
    /// The plugin does not know the call.
    #[error("the plugin {plugin} is older than this command and has no {call}: upgrade it")]
    Older {
        /// The plugin.
        plugin: String,
        /// The call.
        call: String,
    },
    /// The plugin said something else than expected.
    #[error("the plugin's answer to {call} is not understood")]
    Answer {
        /// The call.
        call: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The process cannot talk to anybody.
    #[error("start the runtime")]
    Runtime(#[source] io::Error),
    /// The answer cannot be shown.
    #[error("write")]
    Output(#[source] io::Error),
    /// Some of what was asked for was not done.
    #[error("{} failures", .0.len())]
    Several(Vec<Failure>),
}

/// A request that says nothing.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Nothing {}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// As the plugin gave it, whatever this program knows of it.
    Json,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    identity: Identity,
    docker: Docker,
    wanted: Option<String>,
    format: Format,
    connection: OnceCell<Connection>,
}

#[derive(Debug)]
struct Connection {
    plugin: String,
    client: Client,
    runtime: Runtime,
}

impl Connection {
    /// The answer to `path`, unless it is a refusal.
    fn judge(&self, path: &str, status: StatusCode, bytes: &[u8]) -> Result<Value, Failure> {
        let call = path.to_owned();
        if status == StatusCode::NOT_FOUND {
            return Err(Failure::Older { plugin: self.plugin.clone(), call });
        }
        let value: Value =
            serde_json::from_slice(bytes).map_err(|source| Failure::Answer { call, source })?;
        match value.get("Err").and_then(Value::as_str) {
            Some(words) if !words.is_empty() => Err(Failure::Refused(words.to_owned())),
            _ => Ok(value),
        }
    }
}

impl Session {
    pub(super) fn new(
        identity: Identity,
        docker: Docker,
        wanted: Option<String>,
        format: Format,
    ) -> Self {
        Self { identity, docker, wanted, format, connection: OnceCell::new() }
    }

    /// Calls the plugin, which is looked for at the first call, and gives its answer.
    pub fn call(&self, path: &str, request: &impl Serialize) -> Result<Value, Failure> {
        let answer = |source| Failure::Answer { call: path.to_owned(), source };
        let request = serde_json::to_vec(request).map_err(answer)?;
        let connection = self.connection()?;
        let (status, bytes) = connection.runtime.block_on(connection.client.post(path, request))?;
        connection.judge(path, status, &bytes)
    }

    /// As [`Session::call`], with the answer taken apart.
    pub fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, Failure> {
        read(self.call(path, request)?)
    }

    /// As [`Session::call`], of a call that answers with a stream of bytes.
    pub fn stream(
        &self,
        path: &str,
        request: &impl Serialize,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let answer = |source| Failure::Answer { call: path.to_owned(), source };
        let request = serde_json::to_vec(request).map_err(answer)?;
        let connection = self.connection()?;
        let mut taken = Ok(());
        let (status, refusal) =
            connection.runtime.block_on(connection.client.stream(path, request, |bytes| {
                taken = take(bytes);
                if taken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            }))?;
        if status == StatusCode::OK {
            return taken.map_err(Failure::Output);
        }
        connection.judge(path, status, &refusal).map(drop)
    }

    /// The names of the plugins that one of may be chosen.
    pub(super) fn plugins(&self) -> Result<Vec<String>, Failure> {
        Ok(self.docker.names(self.identity)?)
    }

    /// How answers are shown.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Runs `docker WORDS` on the engine that is meant and gives what it prints.
    pub fn docker(&self, words: &[&str]) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&self.docker.output(words)?).into_owned())
    }

    /// Starts `docker WORDS` on the engine that is meant.
    pub fn attach(&self, words: &[&str]) -> Result<Attached, Failure> {
        Ok(self.docker.attach(words)?)
    }

    /// Shows `answer`: as JSON if that was asked for, else as the text that `render` makes of it.
    pub fn show<T: DeserializeOwned>(
        &self,
        answer: Value,
        render: impl FnOnce(T) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => format!("{answer:#}\n"),
            Format::Text => render(read(answer)?),
        };
        io::stdout().write_all(text.as_bytes()).map_err(Failure::Output)
    }

    /// Gets an answer for each of `names` and shows what came, with `between` between two, a list in JSON; what did not come is the
    /// failure, after everything else was shown.
    pub fn show_each(
        &self,
        names: Vec<String>,
        get: impl Fn(&str) -> Result<Value, Failure>,
        render: impl Fn(&Value) -> String,
        between: &str,
    ) -> Result<(), Failure> {
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for name in names {
            match get(&name) {
                Ok(answer) => answers.push(answer),
                // One that holds for every name is said once.
                Err(failure @ Failure::Engine(_)) => return Err(failure),
                Err(failure) => failures.push(failure),
            }
        }
        self.show(Value::Array(answers), |answers: Vec<Value>| {
            answers.iter().map(render).collect::<Vec<_>>().join(between)
        })?;
        if failures.is_empty() { Ok(()) } else { Err(Failure::Several(failures)) }
    }

    fn connection(&self) -> Result<&Connection, Failure> {
        if let Some(connection) = self.connection.get() {
            return Ok(connection);
        }
        let found = self.docker.find(self.identity, self.wanted.as_deref())?;
        knock(self.identity, &found)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let connection = Connection {
            plugin: found.name,
            client: Client::new(&found.socket),
            runtime: runtime.map_err(Failure::Runtime)?,
        };
        Ok(self.connection.get_or_init(|| connection))
    }
}

/// What the plugin said, as far as it is known here.
fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer)
        .map_err(|source| Failure::Answer { call: "the call".to_owned(), source })
}

/// Whether anybody takes a connection; a plugin is used to connections without a request.
fn knock(identity: Identity, found: &Found) -> Result<(), EngineError> {
    let Found { name: plugin, socket, endpoint } = found.clone();
    match UnixStream::connect(&socket) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(EngineError::NotRoot(identity.name))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(EngineError::Elsewhere { endpoint, plugin, socket })
        }
        Err(source) => Err(EngineError::Silent { plugin, socket, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const IDENTITY: Identity = Identity { name: "pgvol", about: "", version: "" };

    #[test]
    fn a_socket_that_is_not_here_and_one_that_nobody_serves_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("pgvol.sock");
        let found =
            Found { name: "p:1".to_owned(), socket: socket.clone(), endpoint: "unix:///s".into() };
        let words = || knock(IDENTITY, &found).map_err(|error| error.to_string());
        assert!(words().unwrap_err().contains("not on this machine"));
        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(words(), Ok(()));
        drop(listener);
        assert!(words().unwrap_err().contains("does not answer"));
    }

    #[test]
    fn refusals_and_calls_that_are_not_known_are_told_apart() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let client = Client::new(std::path::Path::new("/nowhere"));
        let connection = Connection { plugin: "p:1".to_owned(), client, runtime };
        let judged = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            connection.judge("/X.Y", status, body.as_bytes()).map_err(|error| error.to_string())
        };
        assert_eq!(judged(200, r#"{"a":1,"Err":""}"#).unwrap()["a"], 1);
        assert_eq!(judged(200, r#"{"Err":"no such volume: v"}"#).unwrap_err(), "no such volume: v");
        assert_eq!(judged(500, r#"{"Err":"torn"}"#).unwrap_err(), "torn");
        let older = judged(404, r#"{"Err":"this plugin has no call"}"#).unwrap_err();
        assert!(older.contains("p:1 is older") && older.contains("/X.Y"), "{older}");
        assert!(judged(200, "{").unwrap_err().contains("not understood"));
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        assert_eq!(read::<u8>(Value::from(7)).unwrap(), 7);
        assert!(read::<u8>(Value::from("x")).is_err());
    }
}
