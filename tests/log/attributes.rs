//! Labels, variables and tags: what Docker's own drivers make of them on this engine, and the sinks,
//! field by field, of one container after the other with the same options.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Scenario, Stage, eventually};
use serde_json::Value;

use crate::{fluentd, syslog};

const LIMIT: Duration = Duration::from_mins(1);

/// What every container has.
const GIVEN: &[&str] = &[
    "--label=tier=front",
    r#"--label=com.example.team=a "b" \ <c> ü"#,
    "--label=both=of the label",
    "--label=empty=",
    "--env=APP_NAME=shop",
    "--env=APP_KEY=x=y",
    "--env=both=of the variable",
    "--env=EMPTY=",
];

/// Options that are given to each driver in turn.
const CHOICES: &[&[&str]] = &[
    &["labels=tier,none,empty,com.example.team,tier"],
    &[r"labels-regex=^com\.", "env-regex=^APP_", "tag={{.Name}}"],
    &["labels=both", "env=both,EMPTY,NONE", "tag="],
    &["labels-regex=.", "env-regex=.", "tag={{.ImageName}}.{{.ID}}"],
    &[r#"tag={{.DaemonName}}.{{index .ContainerLabels "tier" | upper}}.{{len .ContainerEnv}}"#],
    &[r#"tag={{range split .Name "-"}}{{.}}.{{end}}{{if eq .ImageName "base"}}yes{{end}}"#],
];

const SYSLOG: &[&str] = &["syslog-address=tcp://127.0.0.1:5514", "syslog-format=rfc5424"];
const FLUENTD: &[&str] = &["fluentd-address=127.0.0.1:24224"];

pub(crate) fn scenarios() -> Vec<Scenario> {
    // The servers go while the last lines do not count as delivered yet.
    const DEAD: &[&str] = &["a sink does not deliver"];
    vec![Scenario::new("attributes_are_docker_s", docker_s).tolerating(DEAD)]
}

fn docker_s(stage: &Stage) -> Result<()> {
    stage.driver("pglog")?;
    // Docker's `local` has none of them.
    let none = ["run", "--rm", "--log-driver=local", "--log-opt=labels=tier", "base", "true"];
    let words = stage.engine().refused(&none)?;
    ensure!(words.contains("labels"), "{words}");
    let servers = (syslog::Server::start(stage)?, fluentd::Server::start(stage, 24224, "{}")?);
    for (number, choice) in CHOICES.iter().enumerate() {
        let run = |driver, options: &[&str]| {
            Logged::run(
                stage,
                &format!("of-{driver}-{number}"),
                driver,
                &[choice, options].concat(),
            )
        };
        let own = run("pglog", &[SYSLOG, FLUENTD, &["file-format=json"]].concat())?;
        let (json, at_syslog, at_fluentd) =
            (run("json-file", &[])?, run("syslog", SYSLOG)?, run("fluentd", FLUENTD)?);
        let path = json.container.inspect("{{.LogPath}}")?;
        let log = format!("/var/log/pglog/{0}/{0}.log", own.container.name());
        let pairs = [
            (own.file(stage, &log)?, json.file(stage, &path)?),
            (own.at_syslog(stage)?, at_syslog.at_syslog(stage)?),
            (own.at_fluentd(stage)?, at_fluentd.at_fluentd(stage)?),
        ];
        for (ours, docker_s) in pairs {
            ensure!(ours == docker_s, "{choice:?}: {ours}\nDocker: {docker_s}");
        }
    }
    drop(servers);
    Ok(())
}

/// A container that has printed a line with its name.
struct Logged {
    container: Container,
    id: String,
}

impl Logged {
    fn run(stage: &Stage, name: &str, driver: &str, options: &[&str]) -> Result<Self> {
        let mut arguments = [&["--log-driver", driver], GIVEN].concat();
        for option in options {
            arguments.extend(["--log-opt", option]);
        }
        arguments.extend(["base", "echo", "a line of", name]);
        let container = Container::run(stage.engine(), name, &arguments)?;
        ensure!(container.wait(LIMIT)? == 0, "echo failed");
        let id = container.inspect("{{.Id}}")?;
        Ok(Self { container, id })
    }

    /// The attributes in a file that json-file has written, or the file sink.
    fn file(&self, stage: &Stage, path: &str) -> Result<String> {
        let line = eventually(LIMIT, || {
            let text = fs::read_to_string(stage.engine().path(path))?;
            let line: Value = serde_json::from_str(text.lines().next().context("a line")?)?;
            Ok(line)
        })?;
        ensure!(line["log"] == format!("a line of {}\n", self.container.name()), "{line}");
        Ok(self.comparable(&line["attrs"].to_string()))
    }

    /// The record at the syslog server, without the process that sent it.
    fn at_syslog(&self, stage: &Stage) -> Result<String> {
        let end = format!("a line of {}", self.container.name());
        let record = eventually(LIMIT, || {
            let all = syslog::Server::records(stage);
            let own = all.iter().find(|record| record.ends_with(&end)).cloned();
            own.with_context(|| format!("{end} is not there: {all:#?}"))
        })?;
        let mut fields: Vec<_> = record.splitn(8, '|').collect();
        ensure!(fields.len() == 8, "not a record: {record}");
        fields.remove(4);
        Ok(self.comparable(&fields.join("|")))
    }

    /// The event at the fluentd, without its time.
    fn at_fluentd(&self, stage: &Stage) -> Result<String> {
        let line = format!("a line of {}", self.container.name());
        let mut event = eventually(LIMIT, || {
            let all = fluentd::Server::records(stage)?;
            let own = all.iter().find(|event| event["record"]["log"] == *line).cloned();
            own.with_context(|| format!("{line} is not there: {all:#?}"))
        })?;
        event.as_object_mut().context("an object")?.remove("time");
        Ok(self.comparable(&event.to_string()))
    }

    /// `text` without what is this container's alone.
    fn comparable(&self, text: &str) -> String {
        let name = self.container.name();
        // The template has cut it up.
        let parts = format!("{}.", name.replace('-', "."));
        let text = text.replace(&self.id, "ID").replace(&self.id[..12], "ID");
        text.replace(name, "NAME").replace(&parts, "PARTS")
    }
}
