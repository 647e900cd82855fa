//! The syslog sink, with syslog-ng and rsyslog at its other ends at once: each makes the same of it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Scenario, Stage, eventually};
use plugin_sdk::durable;

use crate::certificates::CERTIFICATES;
use crate::syslog::Server;

const LIMIT: Duration = Duration::from_mins(1);

/// A directory of the host with syslog-ng's configuration, its sockets and what it was sent.
const PEER: &str = "/var/lib/peer-ng";

/// RFC 3164 and 5424 by LF, the latter by octet counting too. The fields are those of rsyslog's
/// template, but for the version, which no macro tells, and data that it adds itself to what comes
/// in the old format.
const CONFIGURATION: &str = r#"@version: current
options { keep-hostname(yes); use-dns(no); log-msg-size(65536); stats(freq(0)); };
template fields { template("$PRI||$HOST|$PROGRAM|$PID|$MSGID|$SDATA|$MSG\n"); };
template old_fields { template("$PRI||$HOST|$PROGRAM|$PID|$MSGID||$MSG\n"); };
source old { network(ip("127.0.0.1") port(5515) transport("udp")); };
source new {
    network(ip("127.0.0.1") port(5516) transport("udp") flags(syslog-protocol));
    network(ip("127.0.0.1") port(5516) transport("tcp") flags(syslog-protocol));
    syslog(ip("127.0.0.1") port(5517) transport("tcp"));
    syslog(ip("127.0.0.1") port(6515) transport("tls")
        tls(key-file("/peer/key.pem") cert-file("/peer/cert.pem") peer-verify(optional-untrusted)));
};
source own { unix-stream("/peer/stream"); unix-dgram("/peer/log"); };
log { source(new); destination { file("/peer/out" template(fields)); }; };
log { source(old); source(own); destination { file("/peer/out" template(old_fields) persist-name("old")); }; };
"#;

pub(crate) fn scenarios() -> Vec<Scenario> {
    // The servers go while the last lines do not count as delivered yet.
    const DEAD: &[&str] = &["a sink does not deliver"];
    vec![Scenario::new("syslog_ng_has_what_rsyslog_has", what_rsyslog_has).tolerating(DEAD)]
}

/// syslog-ng in a container on the host's network.
fn start(stage: &Stage) -> Result<Container> {
    let engine = stage.engine();
    if engine.docker(&["image", "ls", "--quiet", "syslog-ng"])?.is_empty() {
        engine.add_image("syslog-ng", "openssl,syslog-ng-core")?;
    }
    engine.shell(&format!("rm -rf {PEER}; mkdir {PEER}"))?;
    durable::write(&engine.path(&format!("{PEER}/conf")), CONFIGURATION.as_bytes())?;
    let script = format!(
        "cd /peer; {{ {CERTIFICATES} }} 2>/dev/null
        exec syslog-ng --foreground --no-caps --cfgfile=/peer/conf"
    );
    let mount = format!("{PEER}:/peer");
    let arguments = ["--network", "host", "-v", &mount, "syslog-ng", "bash", "-euc", &script];
    let container = Container::run(engine, "syslog-ng", &arguments)?;
    let listens = || {
        let ports = "for p in 5516 5517 6515; do : </dev/tcp/127.0.0.1/$p; done";
        engine.shell(&format!("{ports}; [ -S {PEER}/log ]")).map(drop)
    };
    eventually(LIMIT, listens).with_context(|| {
        let logs = container.logs(&[]).map(|logs| [logs.stdout, logs.stderr].concat());
        logs.map_or_else(|e| e.to_string(), |logs| String::from_utf8_lossy(&logs).into_owned())
    })?;
    Ok(container)
}

/// The records that came to syslog-ng with `tag`, once there are `count`.
fn tagged(stage: &Stage, tag: &str, count: usize) -> Result<Vec<String>> {
    let path = stage.engine().path(&format!("{PEER}/out"));
    eventually(LIMIT, || {
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let of_tag = text.lines().filter(|record| record.split('|').nth(3) == Some(tag));
        let of_tag: Vec<_> = of_tag.map(str::to_owned).collect();
        ensure!(of_tag.len() >= count, "{} of {count} with {tag}: {text}", of_tag.len());
        Ok(of_tag)
    })
}

/// One way to both servers.
struct Way {
    rsyslog: &'static str,
    syslog_ng: &'static str,
    options: &'static [&'static str],
    /// What each record has as structured data.
    data: &'static str,
}

const WAYS: &[Way] = &[
    Way {
        rsyslog: "udp://127.0.0.1:5514",
        syslog_ng: "udp://127.0.0.1:5515",
        options: &["syslog-format=rfc3164"],
        data: "",
    },
    Way {
        rsyslog: "udp://127.0.0.1:5514",
        syslog_ng: "udp://127.0.0.1:5516",
        options: &["syslog-format=rfc5424"],
        data: "",
    },
    Way {
        rsyslog: "tcp://127.0.0.1:5514",
        syslog_ng: "tcp://127.0.0.1:5516",
        options: &["syslog-format=rfc5424", "syslog-sd-id=pglog@32473", "env=TEAM"],
        data: r#"[pglog@32473 TEAM="a \"b\" \\ \] ü"]"#,
    },
    Way {
        rsyslog: "tcp://127.0.0.1:5514",
        syslog_ng: "tcp://127.0.0.1:5517",
        options: &["syslog-format=rfc5424micro", "syslog-framing=octet-counting"],
        data: "",
    },
    Way {
        rsyslog: "tcp+tls://localhost:6514",
        syslog_ng: "tcp+tls://localhost:6515",
        options: &[
            "syslog-format=rfc5424",
            "syslog-tls-skip-verify=true",
            "syslog-sd-id=pglog@32473",
            "labels=team",
        ],
        data: r#"[pglog@32473 team="billing"]"#,
    },
    Way {
        rsyslog: "unixgram:///var/lib/peer/log",
        syslog_ng: "unixgram:///var/lib/peer-ng/log",
        options: &[],
        data: "",
    },
    // rsyslog has no stream socket.
    Way {
        rsyslog: "unixgram:///var/lib/peer/log",
        syslog_ng: "unix:///var/lib/peer-ng/stream",
        options: &[],
        data: "",
    },
];

fn what_rsyslog_has(stage: &Stage) -> Result<()> {
    stage.driver("pglog")?;
    let (rsyslog, syslog_ng) = (Server::start(stage)?, start(stage)?);
    let script = r"echo one; sleep 0.1; echo two >&2; sleep 0.1; echo; echo ' three  <b> [c] ü'; \
        head -c 20000 /dev/zero | tr '\0' x; echo; printf end";
    for (turn, way) in WAYS.iter().enumerate() {
        let Way { rsyslog, syslog_ng, .. } = way;
        let name = format!("both{turn}");
        let mut options = vec![
            format!("syslog-address={rsyslog},{syslog_ng}"),
            "syslog-deliver=all".to_owned(),
            "syslog-facility=local5".to_owned(),
            "tag={{.Name}}".to_owned(),
        ];
        options.extend(way.options.iter().map(|&option| option.to_owned()));
        let mut arguments = vec!["--log-driver", "pglog", "--label", "team=billing"];
        arguments.extend(["--env", r#"TEAM=a "b" \ ] ü"#]);
        for option in &options {
            arguments.extend(["--log-opt", option]);
        }
        arguments.extend(["base", "bash", "-uc", script]);
        let container = Container::run(stage.engine(), &name, &arguments)?;
        ensure!(container.wait(LIMIT)? == 0, "the script failed");
        let first = Server::tagged(stage, &name, 6)?;
        let first = first.iter().map(|record| comparable(record)).collect::<Result<Vec<_>>>()?;
        let second = tagged(stage, &name, 6)?;
        let second = second.iter().map(|record| comparable(record)).collect::<Result<Vec<_>>>()?;
        ensure!(first == second, "{rsyslog} {syslog_ng}: {first:#?} {second:#?}");
        let data = first.iter().all(|record| record[5] == way.data);
        ensure!(data, "{syslog_ng}: {first:#?}");
    }
    drop((rsyslog, syslog_ng));
    Ok(())
}

/// The fields of a record, without the version. For what is not there the one writes `-`, and of
/// the old format it has the blank before a message as its part.
fn comparable(record: &str) -> Result<Vec<String>> {
    let mut fields: Vec<_> = record.splitn(8, '|').map(str::to_owned).collect();
    ensure!(fields.len() == 8, "not a record: {record}");
    if fields.remove(1) == "0" {
        let message = fields[6].strip_prefix(' ').map(str::to_owned);
        fields[6] = message.context("a blank before the message")?;
    }
    let given = |field: String| if field == "-" { String::new() } else { field };
    Ok(fields.into_iter().map(given).collect())
}
