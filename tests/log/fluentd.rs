//! The fluentd sink, with the `FluentServer` of npm's `@fluent-org/logger` at the other end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Scenario, Stage, eventually, npm_package, numbered};
use plugin_sdk::durable;
use serde_json::Value;

use crate::certificates::CERTIFICATES;

const LIMIT: Duration = Duration::from_mins(2);

/// A directory of the host with the server's program, its files and what it was sent.
const PEER: &str = "/var/lib/fluentd";

const PROGRAM: &str = include_str!("fluentd_server.js");

const MODES: [&str; 4] = ["message", "forward", "packed", "compressed"];

pub(crate) fn scenarios() -> Vec<Scenario> {
    const DEAD: &[&str] = &["a sink does not deliver"];
    vec![
        Scenario::new("fluentd_is_what_docker_sends", what_docker_sends).tolerating(DEAD),
        Scenario::new("fluentd_by_tls_with_a_shared_key", secured).tolerating(DEAD),
        Scenario::new("fluentd_through_kills_of_both_sides", kills).tolerating(DEAD),
    ]
}

/// A server in a container on the host's network.
pub(crate) struct Server {
    pub(crate) container: Container,
}

impl Server {
    /// Starts it on `port` with `options`, JSON that the program understands.
    pub(crate) fn start(stage: &Stage, port: u16, options: &str) -> Result<Self> {
        let engine = stage.engine();
        if engine.docker(&["image", "ls", "--quiet", "node"])?.is_empty() {
            engine.add_image("node", "nodejs,openssl")?;
        }
        let library = npm_package("@fluent-org/logger", "1.0.10")?;
        engine.shell(&format!("rm -rf {PEER}; mkdir {PEER}"))?;
        engine.add_directory(&library.join("node_modules"), PEER)?;
        durable::write(&engine.path(&format!("{PEER}/server.js")), PROGRAM.as_bytes())?;
        let script = format!(
            "cd /peer; [ -e cert.pem ] || {{ {CERTIFICATES} }} 2>/dev/null; rm -f socket
            exec node server.js \"$@\" out"
        );
        let (mount, port) = (format!("{PEER}:/peer"), port.to_string());
        let program = ["bash", "-euc", &script, "-", &port, options];
        let arguments = [&["--network", "host", "-v", &mount, "node"], &program[..]].concat();
        let container = Container::run(engine, "fluentd", &arguments)?;
        let server = Self { container };
        server.wait()?;
        Ok(server)
    }

    /// Waits until it listens.
    pub(crate) fn wait(&self) -> Result<()> {
        eventually(LIMIT, || {
            let logs = self.container.logs(&[])?;
            let complaints = String::from_utf8_lossy(&logs.stderr).into_owned();
            ensure!(logs.stdout.starts_with(b"listening"), "it does not listen: {complaints}");
            Ok(())
        })
    }

    /// The whole records that came so far.
    pub(crate) fn records(stage: &Stage) -> Result<Vec<Value>> {
        let text = fs::read(stage.engine().path(&format!("{PEER}/out"))).unwrap_or_default();
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let lines = text[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).context("a record")).collect()
    }

    /// Those with `tag`, once there are `count`.
    fn tagged(stage: &Stage, tag: &str, count: usize) -> Result<Vec<Value>> {
        eventually(LIMIT, || {
            let mut records = Self::records(stage)?;
            records.retain(|record| record["tag"] == tag);
            ensure!(records.len() >= count, "{} of {count} of {tag}: {records:#?}", records.len());
            Ok(records)
        })
    }
}

/// The records of Docker's own driver, field by field, in every mode and on every way.
fn what_docker_sends(stage: &Stage) -> Result<()> {
    stage.driver("pglog")?;
    let script = r"echo one; sleep 0.2; echo two >&2; sleep 0.2; echo; echo ' three  <b> ü'; \
        head -c 20000 /dev/zero | tr '\0' x; echo; printf end";
    let run = |driver: &'static str, tag: &str, address: &str, own: &[String]| {
        let common = [
            format!("fluentd-address={address}"),
            format!("tag={{{{.DaemonName}}}}.{tag}"),
            "labels=tier,none".to_owned(),
            "env-regex=^APP_".to_owned(),
        ];
        let mut arguments = vec!["--log-driver", driver, "--label", "tier=front"];
        arguments.extend(["--env", "APP_NAME=shop", "--env", "OTHER=x"]);
        for option in common.iter().chain(own) {
            arguments.extend(["--log-opt", option]);
        }
        arguments.extend(["base", "bash", "-uc", script]);
        let container = Container::run(stage.engine(), "logged", &arguments)?;
        ensure!(container.wait(LIMIT)? == 0, "the script failed");
        let tag = format!("docker.{tag}");
        let records = Server::tagged(stage, &tag, 7)?;
        comparable(records, &container.inspect("{{.Id}}")?)
    };
    let server = Server::start(stage, 24224, "{}")?;
    let docker_s = run("fluentd", "own", "127.0.0.1:24224", &[])?;
    let first = &docker_s[0]["record"];
    ensure!(first["tier"] == "front" && first["APP_NAME"] == "shop", "{docker_s:#?}");
    for mode in MODES {
        for ack in ["true", "false"] {
            let own = [
                format!("fluentd-mode={mode}"),
                format!("fluentd-request-ack={ack}"),
                "fluentd-sub-second-precision=false".to_owned(),
                // Docker's own loses the last line with it.
                "fluentd-async=true".to_owned(),
            ];
            let found = run("pglog", &format!("{mode}.{ack}"), "tcp://:24224", &own)?;
            ensure!(found == docker_s, "{mode}, ack {ack}: {found:#?}\nDocker: {docker_s:#?}");
        }
    }
    // Times as Docker's driver has them, to the second and below it.
    let seconds = Server::tagged(stage, "docker.packed.true", 7)?;
    ensure!(seconds.iter().all(|record| record["time"].is_u64()), "{seconds:#?}");
    drop(server);
    let server = Server::start(stage, 0, r#"{"unix": "/peer/socket"}"#)?;
    let socket = format!("unix://{PEER}/socket");
    let found = run("pglog", "socket", &socket, &[])?;
    ensure!(found == docker_s, "by a socket: {found:#?}");
    let nanos = Server::tagged(stage, "docker.socket", 7)?;
    ensure!(nanos.iter().any(|record| record["time"]["nanos"] != 0), "{nanos:#?}");
    drop(server);
    Ok(())
}

/// Records in their order, without what differs from one container to the next.
fn comparable(records: Vec<Value>, container: &str) -> Result<Vec<Value>> {
    let mut lines = BTreeMap::new();
    let mut comparable = |mut event: Value| {
        let fields = event.as_object_mut().context("an object")?;
        fields.remove("tag");
        fields.remove("time");
        let record = fields["record"].as_object_mut().context("a record")?;
        let id = record.insert("container_id".to_owned(), Value::Null);
        ensure!(id.is_some_and(|id| id == container), "the container's id is another: {record:?}");
        if let Some(line) = record.remove("partial_id") {
            let count = lines.len();
            let number = *lines.entry(line.to_string()).or_insert(count);
            record.insert("partial_id".to_owned(), number.into());
        }
        Ok(event)
    };
    records.into_iter().map(&mut comparable).collect()
}

/// TLS, the shared key, and users: who knows them is let in, who does not is told why.
fn secured(stage: &Stage) -> Result<()> {
    stage.driver("pglog")?;
    let options = r#"{"tls": {"cert": "cert.pem", "key": "key.pem"},
        "security": {"serverHostname": "server", "sharedKey": "open sesame", "authorize": true,
        "userDict": {"app": "hunter2"}}}"#;
    let server = Server::start(stage, 24225, options)?;
    let engine = stage.engine();
    engine.shell(&format!(
        "cd {PEER}; echo 'open sesame' >key; echo hunter2 >password; echo x >no"
    ))?;
    let ca = format!("fluentd-tls-ca-cert={PEER}/ca.pem");
    let run = |name: &str, key: &str, more: &[&str]| {
        let key = format!("fluentd-shared-key-file={PEER}/{key}");
        let password = format!("fluentd-password-file={PEER}/password");
        let user = ["fluentd-user=app", &password];
        let mut arguments = vec!["--log-driver", "pglog", "--log-opt", "tag={{.Name}}"];
        for option in [&key, &ca].into_iter().map(String::as_str).chain(user).chain(more.to_vec()) {
            arguments.extend(["--log-opt", option]);
        }
        arguments.extend(["base", "echo", "a line of", name]);
        Container::run(engine, name, &arguments)
    };
    let local = "fluentd-address=tls://localhost:24225";
    let known = run("known", "key", &[local, "fluentd-tls-min-version=1.3"])?;
    let records = Server::tagged(stage, "known", 1)?;
    ensure!(records[0]["record"]["log"] == "a line of known", "{records:#?}");
    let position = engine.log().position()?;
    let stranger = run("stranger", "no", &[local])?;
    let elsewhere = run("elsewhere", "key", &["fluentd-address=tls://127.0.0.1:24225"])?;
    eventually(LIMIT, || {
        let lines = engine.log().plugin_lines(position)?;
        // This server hangs up on who has another key without a word.
        for (name, word) in [("stranger", "does not deliver"), ("elsewhere", "certificate")] {
            let said = lines.iter().any(|line| line.contains(name) && line.contains(word));
            ensure!(said, "no word of {word}: {lines:#?}");
        }
        Ok(())
    })?;
    let kept = engine.shell("cat /var/lib/pglog/sinks/*.record")?;
    let all = engine.log().plugin_lines(0)?.join("\n") + &kept;
    ensure!(kept.contains("/password"), "the records of sinks are elsewhere");
    ensure!(!all.contains("hunter2") && !all.contains("open sesame"), "a secret is shown");
    // Right ones may come later.
    engine.shell(&format!("cp {PEER}/key {PEER}/no"))?;
    Server::tagged(stage, "stranger", 1)?;
    drop((known, stranger, elsewhere, server));
    Ok(())
}

/// The plugin and the server are killed in turn under three containers: every line arrives.
fn kills(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let server = Server::start(stage, 24224, "{}")?;
    // Some thousands of lines a second: the server, which has them all to write, is not the matter.
    let slower = numbered::SLOWLY.replace("0.01", "0.1");
    let print = |(n, mode): (usize, &&str)| {
        let (mode, tag) = (format!("fluentd-mode={mode}"), format!("tag=sent{n}"));
        let options = ["fluentd-address=127.0.0.1:24224", &mode, &tag, "max-size=200m"];
        let mut arguments = vec!["--log-driver", "pglog"];
        for option in options {
            arguments.extend(["--log-opt", option]);
        }
        arguments.extend(["base", "perl", "-e", &slower, "1000000000", "USR1", "60"]);
        Container::run(stage.engine(), &format!("sent{n}"), &arguments)
    };
    let containers = MODES.iter().enumerate().map(print).collect::<Result<Vec<_>>>()?;
    plugin.kill()?;
    stage.engine().docker(&["kill", "fluentd"])?;
    plugin.kill()?;
    server.container.start()?;
    plugin.kill()?;
    let mut printed = Vec::new();
    for container in &containers {
        stage.engine().docker(&["kill", "--signal", "USR1", container.name()])?;
        ensure!(container.wait(LIMIT)? == 0, "the container failed");
        let logs = container.logs(&[])?;
        let count: usize = String::from_utf8(logs.stderr)?.trim().parse()?;
        numbered::check(&logs.stdout, count)?;
        printed.push(count);
    }
    eventually(LIMIT, || {
        let records = Server::records(stage)?;
        for (n, count) in printed.iter().enumerate() {
            let of_container = records.iter().filter(|event| event["tag"] == format!("sent{n}"));
            let numbers: BTreeSet<usize> = of_container
                .filter_map(|event| event["record"]["log"].as_str()?.parse().ok())
                .collect();
            let missing = (1..=*count).filter(|number| !numbers.contains(number)).count();
            ensure!(missing == 0, "{missing} of {count} lines of sent{n} are missing");
        }
        Ok(())
    })
}
