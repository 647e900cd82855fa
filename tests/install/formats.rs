//! State that a newer version has written is refused in words, and left as it is.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, eventually};

use crate::state::{POOL, create, inspect, install, installed, next_version, on_bare};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("a_volume_of_a_newer_format_is_refused", volume).tolerating(&["newer than"]),
        Scenario::new("journals_of_a_newer_format_are_refused", journals)
            .tolerating(&["newer than", "LogDriver."]),
        Scenario::new("the_script_refuses_a_newer_format_first", script),
    ]
}

/// The format of volumes that the plugin writes, and the next.
fn formats() -> (u32, u32) {
    formats_of(&pgvol::app::FORMATS, "pgvol-volume")
}

fn formats_of(known: &[(&str, u32)], kind: &str) -> (u32, u32) {
    let known = known.iter().find(|(name, _)| *name == kind);
    let known = known.map_or(0, |(_, version)| *version);
    (known, known + 1)
}

fn volume(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pgvol", &[POOL])?;
        engine.docker(&["volume", "create", "--driver", "pgvol", "appdb"])?;
        engine.docker(&["plugin", "disable", "--force", "pgvol"])?;
        let record = "/var/lib/pgvol/catalog/appdb.record";
        let (known, newer) = formats();
        let edit = format!("1s/^pgvol-volume {known} /pgvol-volume {newer} /");
        engine.shell(&format!("sed -i.old '{edit}' {record}"))?;
        let written = engine.shell(&format!("cat {record}"))?;
        engine.docker(&["plugin", "enable", "pgvol"])?;
        let said = engine.refused(&["run", "--rm", "--volume=appdb:/pg", "base", "true"])?;
        let told = format!("format {newer} of the pgvol-volume record is newer than {known}");
        ensure!(said.contains(&told), "{said}");
        let said = engine.refused(&["volume", "rm", "appdb"])?;
        ensure!(said.contains(&format!("newer than {known}")), "{said}");
        let shown = engine.docker(&["volume", "inspect", "appdb"])?;
        ensure!(shown.contains(&format!("newer than {known}")), "{shown}");
        ensure!(engine.shell(&format!("cat {record}"))? == written, "the record is another");
        engine.docker(&["plugin", "disable", "--force", "pgvol"])?;
        engine.shell(&format!("mv {record}.old {record}"))?;
        engine.docker(&["plugin", "enable", "pgvol"])?;
        engine.docker(&["volume", "rm", "appdb"]).map(drop)
    })
}

fn journals(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pglog", &[])?;
        engine.docker(&["plugin", "disable", "pglog"])?;
        let (known, newer) = formats_of(&pglog::app::FORMATS, "pglog-state");
        let edit = |from: u32, to: u32| {
            engine.shell(&format!("sed -i '1s/ {from} / {to} /' /var/lib/pglog/format"))
        };
        edit(known, newer)?;
        engine.docker(&["plugin", "enable", "pglog"])?;
        let run = ["run", "--rm", "--name=refused", "--log-driver=pglog", "base", "true"];
        let said = engine.refused(&run)?;
        let told = format!("format {newer} of the pglog-state record is newer than {known}");
        ensure!(said.contains(&told), "{said}");
        engine.shell(&format!("grep ' {newer} ' /var/lib/pglog/format"))?;
        // As soon as it can be used it is.
        edit(newer, known)?;
        eventually(Duration::from_secs(10), || engine.docker(&run)).map(drop)
    })
}

/// `install.sh` with programs that note what they are to read.
const LOOKING: &str = r#"
    mkdir /tmp/instead
    for program in awk grep; do
        printf '#!/bin/sh\necho "$@" >>/tmp/read; exec /usr/bin/%s "$@"\n' $program >/tmp/instead/$program
    done
    chmod +x /tmp/instead/*
    PATH=/tmp/instead:$PATH PACKAGES=/var/lib/two /opt/scripts/install.sh"#;

/// The script looks first, so that the plugin that can read the state goes on with it.
fn script(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pgvol", &[POOL])?;
        engine.docker(&["volume", "create", "--driver=pgvol", "appdb"])?;
        next_version(engine)?;
        let record = "/var/lib/pgvol/catalog/appdb.record";
        let (known, newer) = formats();
        let edit = |from: u32, to: u32| {
            let edit = format!("1s/^pgvol-volume {from} /pgvol-volume {to} /");
            engine.shell(&format!("sed -i '{edit}' {record}"))
        };
        edit(known, newer)?;
        let before = inspect(engine, "pgvol", "{{json .}}")?;
        // Root of a container can make files of any name and size in its WAL.
        let plant = "touch /pg/wal/planted.cursor /pg/wal/planted.record";
        engine.docker(&["run", "--rm", "--volume=appdb:/pg", "base", "sh", "-c", plant])?;
        let outcome = engine.run_shell(Duration::from_mins(3), LOOKING)?;
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        ensure!(!outcome.success && said.contains(&format!("{record}: format {newer}")), "{said}");
        let read = engine.shell("cat /tmp/read; rm -r /tmp/read /tmp/instead")?;
        ensure!(read.contains(record) && !read.contains("planted"), "read is {read}");
        ensure!(inspect(engine, "pgvol", "{{json .}}")? == before, "something is changed");
        edit(newer, known)?;
        // In the second of its places; the first is empty yet.
        for (kind, path) in [("cursor", "sinks/0123.file.cursor"), ("gone", "journals/0123/gone")] {
            let (path, kind) = (format!("/var/lib/pglog/{path}"), format!("pglog-{kind}"));
            let (_, newer) = formats_of(&pglog::app::FORMATS, &kind);
            let written =
                format!("head -c 4096 /dev/zero; printf '{kind} {newer} 00000000\\n{{}}'");
            engine.shell(&format!("mkdir -p $(dirname {path}); ({written}) >{path}"))?;
            let outcome = install(engine, "/var/lib/two", "")?;
            let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
            ensure!(
                !outcome.success && said.contains(&format!("{path}: format {newer}")),
                "{said}"
            );
            ensure!(inspect(engine, "pgvol", "{{json .}}")? == before, "something is changed");
            engine.shell(&format!("rm {path}"))?;
        }
        engine.shell("rm -r /var/lib/pglog")?;
        installed(engine, "/var/lib/two", "")?;
        engine.docker(&["volume", "rm", "appdb"]).map(drop)
    })
}
