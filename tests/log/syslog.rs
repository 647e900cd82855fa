//! The syslog sink, with rsyslog at the other end.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Scenario, Stage, eventually, numbered};
use plugin_sdk::durable;

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

/// A certificate for `localhost` and the one that vouches for it.
const CERTIFICATES: &str = r"
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=ca -days 2 -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request
echo subjectAltName=DNS:localhost >extensions
openssl x509 -req -in request -CA ca.pem -CAkey ca.key -days 2 -extfile extensions -out cert.pem
";

pub(crate) fn scenarios() -> Vec<Scenario> {
    const DEAD: &[&str] = &["a sink does not deliver"];
    vec![
        Scenario::new("syslog_is_what_docker_sends", what_docker_sends),
        Scenario::new("syslog_by_tls", by_tls).tolerating(DEAD),
        Scenario::new("syslog_through_kills_of_both_sides", kills).tolerating(DEAD),
    ]
}

/// rsyslog in a container on the host's network.
struct Server {
    container: Container,
}

impl Server {
    fn start(stage: &Stage) -> Result<Self> {
        let engine = stage.engine();
        if engine.docker(&["image", "ls", "--quiet", "rsyslog"])?.is_empty() {
            engine.add_image("rsyslog", "openssl,rsyslog,rsyslog-openssl")?;
        }
        engine.shell(&format!("rm -rf {PEER}; mkdir {PEER}"))?;
        durable::write(&engine.path(&format!("{PEER}/conf")), CONFIGURATION.as_bytes())?;
        let script = format!(
            "cd /peer; [ -e cert.pem ] || {{ {CERTIFICATES} }} 2>/dev/null
            exec rsyslogd -n -i NONE -f /peer/conf"
        );
        let mount = format!("{PEER}:/peer");
        let arguments = ["--network", "host", "-v", &mount, "rsyslog", "bash", "-euc", &script];
        let container = Container::run(engine, "rsyslogd", &arguments)?;
        let server = Self { container };
        server.wait(stage)?;
        Ok(server)
    }

    fn wait(&self, stage: &Stage) -> Result<()> {
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

    /// The records that came so far.
    fn records(stage: &Stage) -> Vec<String> {
        let text = fs::read(stage.engine().path(&format!("{PEER}/out"))).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Those that came, `count` at least, when there is nothing more to come; forgets them.
    fn take(stage: &Stage, count: usize) -> Result<Vec<String>> {
        let records = eventually(LIMIT, || {
            let records = Self::records(stage);
            ensure!(records.len() >= count, "{} records instead of {count}", records.len());
            Ok(records)
        })?;
        stage.engine().shell(&format!("truncate --size 0 {PEER}/out"))?;
        Ok(records)
    }
}

/// The same records as from Docker's own driver, but for the process that sent them.
fn what_docker_sends(stage: &Stage) -> Result<()> {
    stage.driver("pglog")?;
    let server = Server::start(stage)?;
    let script = r"echo one; sleep 0.2; echo two >&2; sleep 0.2; echo; echo ' three  <b> ü'; \
        head -c 20000 /dev/zero | tr '\0' x; echo; printf end";
    for address in ["udp://127.0.0.1:5514", "tcp://127.0.0.1:5514", "unixgram:///var/lib/peer/log"]
    {
        for format in ["", "rfc3164", "rfc5424", "rfc5424micro"] {
            // The local format names no host: over a network the receiver would take the tag.
            if format.is_empty() != address.starts_with("unix") {
                continue;
            }
            let mut found = Vec::new();
            for driver in ["syslog", "pglog"] {
                let options = [
                    format!("syslog-address={address}"),
                    format!("syslog-format={format}"),
                    "syslog-facility=local3".to_owned(),
                    "tag={{.ImageName}}.{{.DaemonName}}".to_owned(),
                ];
                let mut arguments = vec!["--log-driver", driver];
                for option in &options {
                    arguments.extend(["--log-opt", option]);
                }
                arguments.extend(["base", "bash", "-uc", script]);
                let container = Container::run(stage.engine(), "syslogged", &arguments)?;
                ensure!(container.wait(LIMIT)? == 0, "the script failed");
                found.push(without_process(Server::take(stage, 6)?));
            }
            ensure!(found[0] == found[1], "{address} {format}: {found:#?}");
        }
    }
    drop(server);
    Ok(())
}

/// Records without the fifth field.
fn without_process(records: Vec<String>) -> Vec<String> {
    let cut = |record: String| {
        let mut fields: Vec<_> = record.splitn(8, '|').collect();
        if fields.len() == 8 {
            fields.remove(4);
        }
        fields.join("|")
    };
    records.into_iter().map(cut).collect()
}

fn by_tls(stage: &Stage) -> Result<()> {
    stage.driver("pglog")?;
    let server = Server::start(stage)?;
    let run = |name: &str, options: &[&str], line: &str| {
        let mut arguments = vec!["--log-driver", "pglog"];
        for option in options {
            arguments.extend(["--log-opt", option]);
        }
        arguments.extend(["base", "echo", line]);
        Container::run(stage.engine(), name, &arguments)
    };
    let address = "syslog-address=tcp+tls://localhost:6514";
    let (ca, format) = ("syslog-tls-ca-cert=/var/lib/peer/ca.pem", "syslog-format=rfc5424");
    let trusted = run("trusted", &[address, ca, format, "tag=t"], "trusted")?;
    let records = Server::take(stage, 1)?;
    ensure!(records[0].ends_with("|t|-|trusted") && records.len() == 1, "{records:?}");
    let stranger = ["syslog-address=tcp+tls://127.0.0.1:6514", ca];
    let refusing = run("refusing", &stranger, "not for a stranger")?;
    let says = || {
        let log = stage.engine().log().plugin_tail(20)?;
        ensure!(log.contains("certificate"), "no word of the certificate: {log}");
        Ok(())
    };
    eventually(LIMIT, says)?;
    let named =
        run("named", &[&stranger[..], &["syslog-tls-server-name=localhost"]].concat(), "n")?;
    Server::take(stage, 1)?;
    let any = run("any", &[stranger[0], "syslog-tls-skip-verify=true"], "whoever it is")?;
    let records = Server::take(stage, 1)?;
    ensure!(records.len() == 1 && records[0].ends_with("whoever it is"), "{records:?}");
    drop((trusted, refusing, named, any, server));
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
