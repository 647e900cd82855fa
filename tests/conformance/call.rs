//! What dockerd and the plugins have said to each other, out of the recorder's file.

use std::fs;
use std::mem;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Engine, eventually};
use serde_json::Value;

use crate::rig::STATE;

/// Calls that follow a docker command come soon after its end.
const LIMIT: Duration = Duration::from_secs(20);

/// What belongs to one docker command comes without longer pauses.
const QUIET: Duration = Duration::from_millis(300);

/// Something that reached the recorder, in the order of arrival.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// `pgvol` or `pglog`.
    pub(crate) plugin: String,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// The plugin's first process began.
    Started,
    /// It got SIGTERM.
    ToldToEnd,
    /// A connection that said nothing.
    Probed,
    Call(Call),
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Such as `VolumeDriver.Mount`.
    pub(crate) name: String,
    /// The body as it came; dockerd's repetitions have none.
    pub(crate) body: String,
    /// None yet, or the status and the body; status 0 is a connection that was closed instead.
    pub(crate) answer: Option<(u64, String)>,
}

impl Call {
    /// A field of the request; null where there is none.
    pub(crate) fn field(&self, name: &str) -> Value {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body[name].clone()
    }

    /// What came of it, in a word.
    pub(crate) fn outcome(&self) -> &'static str {
        let Some((status, body)) = &self.answer else { return "no answer yet" };
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let error = body["Err"].as_str().unwrap_or_default();
        match (status, error) {
            (0, _) => "hung up",
            (200, "") => "ok",
            _ => "refused",
        }
    }
}

/// The part of the record that began with it.
#[derive(Debug)]
pub(crate) struct Recording {
    file: PathBuf,
    position: usize,
}

impl Recording {
    /// Begins at the present end of the record.
    pub(crate) fn start(engine: &Engine) -> Result<Self> {
        let file = engine.path(&format!("{STATE}/trace"));
        let position = fs::read(&file).context("the record")?.len();
        Ok(Self { file, position })
    }

    /// Waits until nothing more comes of what was done before.
    pub(crate) fn wait_for_quiet(&self) -> Result<()> {
        let mut before = 0;
        eventually(LIMIT, || {
            thread::sleep(QUIET);
            let length = fs::read(&self.file)?.len();
            ensure!(mem::replace(&mut before, length) == length, "the plugins are still called");
            Ok(())
        })
    }

    /// What has come since, calls together with their answers.
    pub(crate) fn events(&self) -> Result<Vec<Event>> {
        let bytes = fs::read(&self.file)?;
        let text = String::from_utf8(bytes.get(self.position..).context("the record")?.to_vec())?;
        let mut events: Vec<(String, Event)> = Vec::new();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let kind = match value["event"].as_str().unwrap_or_default() {
                "started" => Kind::Started,
                "told to end" => Kind::ToldToEnd,
                "probed" => Kind::Probed,
                "call" => Kind::Call(Call {
                    name: text("path").trim_start_matches('/').to_owned(),
                    body: text("body"),
                    answer: None,
                }),
                _ => {
                    let number = text("number");
                    // Of a call before this recording, otherwise.
                    if let Some((_, Event { kind: Kind::Call(call), .. })) =
                        events.iter_mut().find(|(found, _)| *found == number)
                    {
                        let status = value["status"].as_u64().context("a status")?;
                        call.answer = Some((status, text("body")));
                    }
                    continue;
                }
            };
            events.push((text("number"), Event { plugin: text("plugin"), kind }));
        }
        Ok(events.into_iter().map(|(_, event)| event).collect())
    }

    /// The calls named `name`, such as `VolumeDriver.Mount`.
    pub(crate) fn calls(&self, name: &str) -> Result<Vec<Call>> {
        let call = |event: Event| match event.kind {
            Kind::Call(call) if call.name == name => Some(call),
            _ => None,
        };
        Ok(self.events()?.into_iter().filter_map(call).collect())
    }

    /// Waits until the calls of a volume driver are as many as `counts` says, and stay so.
    pub(crate) fn expect(&self, counts: &[(&str, usize)]) -> Result<()> {
        let check = || {
            let mut found = Vec::new();
            for (name, _) in counts {
                found.push((*name, self.calls(&format!("VolumeDriver.{name}"))?.len()));
            }
            ensure!(found == counts, "calls are {found:?} instead of {counts:?}");
            Ok(())
        };
        eventually(LIMIT, check)?;
        // What follows a command comes soon, or it would be seen by chance only.
        thread::sleep(QUIET);
        check()
    }
}
