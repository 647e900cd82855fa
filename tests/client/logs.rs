//! `docker pglog` on real logs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Plugin, Scenario, Stage, eventually};
use serde_json::{Value, json as value};

use crate::{ends_with, json, says};

const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("logs_are_listed_those_of_removed_containers_too", ls),
        Scenario::new("a_log_is_inspected", inspect),
        Scenario::new("a_stored_log_is_shown_as_docker_shows_it", cat),
        Scenario::new("a_log_is_deleted_once_it_has_ended", rm)
            .tolerating(&["a sink does not deliver"]),
        Scenario::new("lost_messages_are_counted", dropped).tolerating(&[
            "cannot be stored",
            "messages were lost",
            "cannot be written yet",
            "dropped the",
            "cannot be noted",
        ]),
    ]
}

/// The plugin, for as long as a scenario takes.
struct Logging<'a>(&'a Stage, Plugin);

impl<'a> Logging<'a> {
    fn start(stage: &'a Stage) -> Result<Self> {
        Ok(Self(stage, Plugin::install(stage.engine(), "pglog", &[])?))
    }

    fn run(&self, name: &str, script: &str) -> Result<Container> {
        let arguments =
            ["--log-driver", "pglog", "--log-opt", "max-size=1m", "base", "bash", "-euc", script];
        Container::run(self.0.engine(), name, &arguments)
    }

    fn end(self) -> Result<()> {
        self.1.remove()?;
        self.0.engine().shell("rm -r /var/lib/pglog").map(drop)
    }
}

fn ls(stage: &Stage) -> Result<()> {
    let logging = Logging::start(stage)?;
    let list = json(stage, &["pglog", "ls", "--json"])?;
    ensure!(list == value!({"containers": []}), "{list}");
    let app = logging.run("app", "echo one; sleep 1000")?;
    let id = app.inspect("{{.Id}}")?;
    let seen = |stored: &str| {
        eventually(LIMIT, || {
            let list = json(stage, &["pglog", "ls", "--json"])?;
            let found = list["containers"].as_array().context("a list")?.first().cloned();
            let found = found.context("no container")?;
            ensure!(found["id"] == id && found["name"] == "app" && found["bytes"] != 0, "{list}");
            ensure!(found["streams"] == u8::from(stored == "open"), "{list}");
            Ok(found)
        })
    };
    let running = seen("open")?;
    ensure!(running["segments"] == 1 && running["first"].is_string(), "{running}");
    app.stop(LIMIT)?;
    seen("ended")?;
    app.remove(LIMIT)?;
    // Nobody but the plugin knows the name now, also after its death.
    logging.1.kill()?;
    seen("ended")?;
    let text = stage.engine().docker(&["pglog", "ls"])?;
    says(&text, &["CONTAINER", &id[..12], "app ", "ended"])?;
    let short = json(stage, &["pglog", "inspect", &id[..8], "--json"])?;
    ensure!(short[0]["id"] == id, "{short}");
    logging.end()
}

fn inspect(stage: &Stage) -> Result<()> {
    let logging = Logging::start(stage)?;
    let app = logging.run("app", "seq 1000; sleep 1000")?;
    let id = app.inspect("{{.Id}}")?;
    eventually(LIMIT, || {
        ensure!(app.logs(&[])?.stdout.ends_with(b"1000\n"), "not all is stored");
        Ok(())
    })?;
    let shown = json(stage, &["pglog", "inspect", "app", "--json"])?;
    let log = &shown[0];
    ensure!(log["id"] == id && log["name"] == "app", "{log}");
    ensure!(log["options"] == value!({"max-size": "1m"}), "{log}");
    ensure!(log["limits"] == value!({"max_size": 1 << 20, "max_file": 5}), "{log}");
    let streams = log["open"].as_array().context("streams")?;
    ensure!(streams.len() == 1 && streams[0]["started"].is_string(), "{log}");
    let bytes: u64 = log["stored"]
        .as_array()
        .context("segments")?
        .iter()
        .filter_map(|s| s["bytes"].as_u64())
        .sum();
    ensure!(log["bytes"] == bytes && log["stored"][0]["sequence"] == 1, "{log}");
    ensure!(log["stored"][0]["growing"] == true, "{log}");
    // Also by the name that it has now, which no stream was begun with.
    stage.engine().docker(&["rename", "app", "renamed"])?;
    let renamed = json(stage, &["pglog", "inspect", "renamed", "--json"])?;
    stage.engine().docker(&["rename", "renamed", "app"])?;
    ensure!(renamed[0]["id"] == id, "{renamed}");
    says(
        &ends_with(stage, 1, "docker pglog inspect gone")?,
        &["docker pglog: no log of a container gone"],
    )?;
    let status = json(stage, &["pglog", "status", "--json"])?;
    ensure!(
        status["streams"] == 1 && status["containers"] == 1 && status["bytes"] == bytes,
        "{status}"
    );
    ensure!(status["settings"]["LOG_LEVEL"] == "info", "{status}");
    ensure!(
        status["dropped"] == value!({"messages": 0, "bytes": 0, "removed": 0, "garbled": 0}),
        "{status}"
    );
    says(
        &stage.engine().docker(&["pglog", "status"])?,
        &["streams:    1 open", "of 1 containers"],
    )?;
    app.remove(LIMIT)?;
    logging.end()
}

/// What `docker logs` shows of a container, `docker pglog cat` shows too, and goes on to.
fn cat(stage: &Stage) -> Result<()> {
    let logging = Logging::start(stage)?;
    let script = "for n in $(seq 200); do echo $n; [ $((n % 50)) != 0 ] || { echo e$n >&2; sleep 0.1; }; done; \
        head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'no newline'";
    let app = logging.run("app", script)?;
    ensure!(app.wait(LIMIT)? == 0, "the script failed");
    let stamped = String::from_utf8(app.logs(&["--timestamps"])?.stdout)?;
    let middle =
        stamped.lines().nth(100).and_then(|line| line.split(' ').next()).context("a stamp")?;
    let command = |words: &str| {
        let engine = stage.engine();
        engine.run_shell(LIMIT, &format!("docker {words} app"))
    };
    let options = [
        String::new(),
        "--timestamps".to_owned(),
        "--tail 7".to_owned(),
        "-n all -t".to_owned(),
        format!("--since {middle}"),
        format!("--until {middle} --tail 20"),
        "--since 1h --until 0s".to_owned(),
        "--since 2100-01-01".to_owned(),
    ];
    let mut expected = Vec::new();
    for options in &options {
        let docker = command(&format!("logs {options}"))?;
        let ours = command(&format!("pglog cat {options}"))?;
        ensure!(ours.success, "{options}: {}", String::from_utf8_lossy(&ours.stderr));
        ensure!(
            ours.stdout == docker.stdout && ours.stderr == docker.stderr,
            "{options}: another log"
        );
        expected.push(ours.stdout);
    }
    ensure!(expected[0].len() > 40_000 && expected[7].is_empty(), "not what was written");
    app.remove(LIMIT)?;
    for (options, expected) in options.iter().zip(expected) {
        let ours = command(&format!("pglog cat {options}"))?;
        ensure!(ours.stdout == expected, "{options}: another log after the container's end");
    }
    let json = stage.engine().docker(&["pglog", "cat", "--json", "--tail", "1", "app"])?;
    let line: Value = serde_json::from_str(&json)?;
    ensure!(
        line["log"] == "no newline" && line["stream"] == "stdout" && line["time"].is_string(),
        "{line}"
    );
    says(
        &ends_with(stage, 2, "docker pglog cat --since yesterday app")?,
        &["--since", "allowed are"],
    )?;
    says(&ends_with(stage, 2, "docker pglog cat --tail some app")?, &["--tail", "allowed are"])?;
    says(&ends_with(stage, 1, "docker pglog cat nobody")?, &["no log of a container nobody"])?;
    logging.end()
}

/// Beside it goes what the sinks know of it: the next run's lines are all delivered.
fn rm(stage: &Stage) -> Result<()> {
    let logging = Logging::start(stage)?;
    let engine = stage.engine();
    let options = ["--log-driver", "pglog", "--log-opt", "file-path=rm.log"];
    let script = ["base", "bash", "-euc", "echo one; sleep 1000"];
    let app = Container::run(engine, "app", &[&options[..], &script].concat())?;
    let delivered = |lines: &str| {
        eventually(LIMIT, || {
            ensure!(app.logs(&[])?.stdout == b"one\n", "not just one line is stored");
            let file = engine.shell("cat /var/log/pglog/rm.log")?;
            ensure!(file == lines, "delivered is {file:?}");
            Ok(())
        })
    };
    delivered("one")?;
    says(&ends_with(stage, 1, "docker pglog rm app")?, &["is being logged; stop it first"])?;
    delivered("one")?;
    app.stop(LIMIT)?;
    let id = app.inspect("{{.Id}}")?;
    let said = eventually(LIMIT, || {
        // The sink takes a moment to end.
        let said = ends_with(stage, 1, "docker pglog rm app gone")?;
        says(&said, &[&id, "no log of a container gone"]).map(|()| said)
    })?;
    ensure!(said.lines().count() == 3, "{said}");
    let list = json(stage, &["pglog", "ls", "--json"])?;
    ensure!(list == value!({"containers": []}), "{list}");
    let nothing_is_kept_of = |id: &str| -> Result<()> {
        let find = "find /var/lib/pglog/journals /var/lib/pglog/sinks -name";
        let kept = engine.shell(&format!("{find} '{id}*'"))?;
        ensure!(kept.is_empty(), "kept is {kept}");
        Ok(())
    };
    nothing_is_kept_of(&id)?;
    // The container's next run has a log again.
    app.start()?;
    delivered("one\none")?;
    app.remove(LIMIT)?;
    engine.shell("rm /var/log/pglog/rm.log")?;
    // A server that will never be there, for a container that is not there any more.
    let options = ["--log-driver=pglog", "--log-opt=syslog-address=tcp://127.0.0.1:9"];
    let gone = Container::run(engine, "gone", &[&options[..], &["base", "echo", "one"]].concat())?;
    let id = gone.inspect("{{.Id}}")?;
    gone.wait(LIMIT)?;
    gone.remove(LIMIT)?;
    let said = ends_with(stage, 1, &format!("docker pglog rm {id}"))?;
    says(&said, &["has not delivered all", "`docker pglog rm --undelivered` gives that up"])?;
    let said = engine.docker(&["pglog", "rm", "--undelivered", &id])?;
    ensure!(said == id, "{said}");
    nothing_is_kept_of(&id)?;
    ensure!(json(stage, &["pglog", "status", "--json"])?["sinks"] == value!([]), "a sink is left");
    logging.end()
}

/// On a disk that takes nothing at all.
fn dropped(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    engine.shell("mkdir /var/lib/tiny && mount -t tmpfs -o size=64k tmpfs /var/lib/tiny")?;
    let plugin = Plugin::install(engine, "pglog", &["state.source=/var/lib/tiny"])?;
    let fill = "head -c 1m /dev/zero >/var/lib/tiny/filler 2>/dev/null || true";
    engine.shell(fill)?;
    let arguments = ["--log-driver", "pglog", "base", "bash", "-euc", "seq 5000; sleep 1000"];
    let app = Container::run(engine, "app", &arguments)?;
    let count = |answer: &Value| answer["dropped"]["messages"].as_u64().unwrap_or_default();
    eventually(LIMIT, || {
        let status = json(stage, &["pglog", "status", "--json"])?;
        ensure!(count(&status) == 5000, "{status}");
        Ok(())
    })?;
    let list = json(stage, &["pglog", "ls", "--json"])?;
    ensure!(count(&list["containers"][0]) == 5000, "{list}");
    says(&engine.docker(&["pglog", "status"])?, &["5000 messages"])?;
    app.remove(LIMIT)?;
    plugin.remove()?;
    engine.shell("umount /var/lib/tiny && rmdir /var/lib/tiny").map(drop)
}
