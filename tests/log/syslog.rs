//! The syslog sink, with rsyslog at the other end.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Scenario, Stage, eventually, numbered};
use plugin_sdk::durable;

use crate::certificates::CERTIFICATES;

const LIMIT: Duration = Duration::from_mins(1);

/// A directory of the host with rsyslog's configuration, its socket and what it was sent.
const PEER: &str = "/var/lib/peer";

const CONFIGURATION: &str = r#"
global(maxMessageSize="64k"
  DefaultNetstreamDriverCAFile="/peer/ca.pem"
  DefaultNetstreamDriverCertFile="/peer/cert.pem"
  DefaultNetstreamDriverKeyFile="/peer/key.pem")
module(load="imudp")
module(load="imtcp")
module(load="imuxsock" SysSock.Use="off")
template(name="fields" type="string"
  string="%pri%|%protocol-version%|%hostname%|%app-name%|%procid%|%msgid%|%structured-data%|%msg%\n")
input(type="imudp" address="127.0.0.1" port="5514")
input(type="imtcp" address="127.0.0.1" port="5514")
input(type="imtcp" address="127.0.0.1" port="6514"
  StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
input(type="imuxsock" Socket="/peer/log" UseSysTimeStamp="off" RateLimit.Interval="0")
action(type="omfile" file="/peer/out" template="fields")
"#;

pub(crate) fn scenarios() -> Vec<Scenario> {
    const DEAD: &[&str] = &["a sink does not deliver"];
    vec![
        // Its server goes while the last lines do not count as delivered yet.
        Scenario::new("syslog_is_what_docker_sends", what_docker_sends).tolerating(DEAD),
        Scenario::new("syslog_by_tls", by_tls).tolerating(DEAD),
        Scenario::new("syslog_looks_names_up_again", name_that_moves).tolerating(DEAD),
        Scenario::new("syslog_through_kills_of_both_sides", kills).tolerating(DEAD),
    ]
}

/// rsyslog in a container on the host's network.
pub(crate) struct Server {
    pub(crate) container: Container,
}

impl Server {
    pub(crate) fn start(stage: &Stage) -> Result<Self> {
        let engine = stage.engine();
        if engine.docker(&["image", "ls", "--quiet", "rsyslog"])?.is_empty() {
            engine.add_image("rsyslog", "openssl,rsyslog,rsyslog-openssl")?;
        }
        engine.shell(&format!("rm -rf {PEER}; mkdir {PEER}"))?;
        durable::write(&engine.path(&format!("{PEER}/conf")), CONFIGURATION.as_bytes())?;
        let script = format!(
            "cd /peer; [ -e cert.pem ] || {{ {CERTIFICATES} }} 2>/dev/null
            echo >>out; exec rsyslogd -n -i NONE -f /peer/conf"
        );
        let mount = format!("{PEER}:/peer");
        let arguments = ["--network", "host", "-v", &mount, "rsyslog", "bash", "-euc", &script];
        let container = Container::run(engine, "rsyslogd", &arguments)?;
        let server = Self { container };
        server.wait(stage)?;
        Ok(server)
    }

    pub(crate) fn wait(&self, stage: &Stage) -> Result<()> {
        eventually(LIMIT, || {
            stage.engine().shell("for p in 5514 6514; do : </dev/tcp/127.0.0.1/$p; done").map(drop)
        })
        .with_context(|| {
            self.container.logs(&[]).map_or_else(
                |e| e.to_string(),
                |logs| String::from_utf8_lossy(&logs.stderr).into_owned(),
            )
        })
    }

    /// The whole records that came so far. rsyslog writes a long one in several pieces; where it
    /// was killed in between, an empty line follows.
    pub(crate) fn records(stage: &Stage) -> Vec<String> {
        let text = fs::read(stage.engine().path(&format!("{PEER}/out"))).unwrap_or_default();
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        String::from_utf8_lossy(&text[..whole]).lines().map(str::to_owned).collect()
    }

    /// Those of them that were sent with `tag`, once there are `count`. Others may come at any
    /// time: what rsyslog itself has to say, and what an earlier container has yet to deliver.
    pub(crate) fn tagged(stage: &Stage, tag: &str, count: usize) -> Result<Vec<String>> {
        eventually(LIMIT, || {
            let all = Self::records(stage);
            let of_tag = all.iter().filter(|record| record.split('|').nth(3) == Some(tag));
            let of_tag: Vec<_> = of_tag.cloned().collect();
            ensure!(of_tag.len() >= count, "{} of {count} with {tag}: {all:#?}", of_tag.len());
            Ok(of_tag)
        })
    }
}

/// The same records as from Docker's own driver, but for the process that sent them.
fn what_docker_sends(stage: &Stage) -> Result<()> {
    stage.driver("pglog")?;
    let server = Server::start(stage)?;
    let script = r"echo one; sleep 0.2; echo two >&2; sleep 0.2; echo; echo ' three  <b> ü'; \
        head -c 20000 /dev/zero | tr '\0' x; echo; printf end";
    let addresses =
        ["udp://127.0.0.1:5514", "tcp://127.0.0.1:5514", "unixgram:///var/lib/peer/log"];
    let mut turn = 0;
    for address in addresses {
        for format in ["", "rfc3164", "rfc5424", "rfc5424micro"] {
            // The local format names no host: over a network the receiver would take the tag.
            if format.is_empty() != address.starts_with("unix") {
                continue;
            }
            turn += 1;
            let mut found = Vec::new();
            for driver in ["syslog", "pglog"] {
                // RFC 5424 leaves it no more than 32 characters.
                let tag = format!("base.docker.{turn}.{driver}");
                let options = [
                    format!("syslog-address={address}"),
                    format!("syslog-format={format}"),
                    "syslog-facility=local3".to_owned(),
                    format!("tag={{{{.ImageName}}}}.{{{{.DaemonName}}}}.{turn}.{driver}"),
                ];
                let mut arguments = vec!["--log-driver", driver];
                for option in &options {
                    arguments.extend(["--log-opt", option]);
                }
                arguments.extend(["base", "bash", "-uc", script]);
                let container = Container::run(stage.engine(), "syslogged", &arguments)?;
                ensure!(container.wait(LIMIT)? == 0, "the script failed");
                let records = Server::tagged(stage, &tag, 6)?;
                found.push(comparable(records, &tag));
            }
            ensure!(found[0] == found[1], "{address} {format}: {found:#?}");
        }
    }
    drop(server);
    Ok(())
}

/// Records without the process, which is the fifth field, and with another word for the tag.
fn comparable(records: Vec<String>, tag: &str) -> Vec<String> {
    let cut = |record: String| {
        let mut fields: Vec<_> = record.splitn(8, '|').collect();
        if fields.len() == 8 {
            fields.remove(4);
        }
        fields.join("|").replace(tag, "TAG")
    };
    records.into_iter().map(cut).collect()
}

fn by_tls(stage: &Stage) -> Result<()> {
    stage.driver("pglog")?;
    let server = Server::start(stage)?;
    // The name of a container is its tag, and nobody else's.
    let run = |name: &str, options: &[&str]| {
        let mut arguments = vec!["--log-driver", "pglog", "--log-opt", "tag={{.Name}}"];
        for option in options {
            arguments.extend(["--log-opt", option]);
        }
        arguments.extend(["base", "echo", "a line of", name]);
        Container::run(stage.engine(), name, &arguments)
    };
    // Over a stream a line may come twice.
    let arrives = |name: &str| {
        let records = Server::tagged(stage, name, 1)?;
        let whole = format!("|a line of {name}");
        ensure!(records.iter().all(|record| record.ends_with(&whole)), "{records:?}");
        Ok(())
    };
    let (ca, format) = ("syslog-tls-ca-cert=/var/lib/peer/ca.pem", "syslog-format=rfc5424");
    let trusted = run("trusted", &["syslog-address=tcp+tls://localhost:6514", ca, format])?;
    arrives("trusted")?;
    let stranger = "syslog-address=tcp+tls://127.0.0.1:6514";
    let position = stage.engine().log().position()?;
    let refusing = run("refusing", &[stranger, ca, format])?;
    let says = || {
        let lines = stage.engine().log().plugin_lines(position)?;
        let own = |line: &&String| line.contains("refusing") && line.contains("certificate");
        ensure!(lines.iter().any(|line| own(&line)), "no word of the certificate: {lines:#?}");
        Ok(())
    };
    eventually(LIMIT, says)?;
    let named = run("named", &[stranger, ca, format, "syslog-tls-server-name=localhost"])?;
    arrives("named")?;
    let any = run("any", &[stranger, format, "syslog-tls-skip-verify=true"])?;
    arrives("any")?;
    let records = Server::records(stage);
    ensure!(!records.iter().any(|record| record.contains("a line of refusing")), "{records:#?}");
    drop((trusted, refusing, named, any, server));
    Ok(())
}

/// A server that goes to another address, where nobody listens at first.
fn name_that_moves(stage: &Stage) -> Result<()> {
    stage.driver("pglog")?;
    let server = Server::start(stage)?;
    let engine = stage.engine();
    engine.shell("cp /etc/hosts /run/hosts; echo 127.0.0.77 syslog.test >>/etc/hosts")?;
    let address = "syslog-address=tcp://syslog.test:5514";
    let options = ["--log-driver=pglog", "--log-opt", address, "--log-opt", "tag={{.Name}}"];
    let moved = [&options[..], &["base", "echo", "a line"]].concat();
    let position = engine.log().position()?;
    let container = Container::run(engine, "moved", &moved)?;
    eventually(LIMIT, || {
        let lines = engine.log().plugin_lines(position)?;
        let refused = |line: &String| line.contains("syslog.test:5514: Connection refused");
        ensure!(lines.iter().any(refused), "it was not looked up: {lines:#?}");
        Ok(())
    })?;
    // Its file is the plugin's too, and stays the same one.
    engine.shell("{ cat /run/hosts; echo 127.0.0.1 syslog.test; } >/etc/hosts")?;
    Server::tagged(stage, "moved", 1)?;
    engine.shell("cat /run/hosts >/etc/hosts; rm /run/hosts")?;
    drop((container, server));
    Ok(())
}

/// The plugin and the server are killed in turn under three containers: every line arrives.
fn kills(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let server = Server::start(stage)?;
    // Some thousands of lines a second: rsyslog, which has them all to write, is not the matter.
    let slower = numbered::SLOWLY.replace("0.01", "0.1");
    let print = |n: usize| {
        let options = ["syslog-address=tcp://127.0.0.1:5514", "tag={{.Name}}", "max-size=200m"];
        let mut arguments = vec!["--log-driver", "pglog"];
        for option in options {
            arguments.extend(["--log-opt", option]);
        }
        arguments.extend(["base", "perl", "-e", &slower, "1000000000"]);
        Container::run(stage.engine(), &format!("sent{n}"), &arguments)
    };
    let containers = (0..3).map(print).collect::<Result<Vec<_>>>()?;
    plugin.kill()?;
    stage.engine().docker(&["kill", "rsyslogd"])?;
    plugin.kill()?;
    server.container.start()?;
    server.wait(stage)?;
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
        let records = Server::records(stage);
        for (n, count) in printed.iter().enumerate() {
            let tag = format!("sent{n}");
            let of_container = records.iter().filter(|record| record.contains(&tag));
            let numbers: BTreeSet<usize> = of_container
                .filter_map(|record| record.rsplit(['|', ' ']).next()?.trim().parse().ok())
                .collect();
            let missing = (1..=*count).filter(|number| !numbers.contains(number)).count();
            ensure!(missing == 0, "{missing} of {count} lines of {tag} are missing");
        }
        Ok(())
    })
}
