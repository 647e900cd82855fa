//! A version that does not start is taken back: what was there before goes on as it was.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Engine, Scenario, Stage, Volume};

use crate::interrupted::{with_docker, with_pglog_elsewhere};
use crate::replace::without_registry;
use crate::state::{
    POOL, check_lines, create, edit_config, inspect, install, installed, next_version, on_bare,
    printer, server,
};

/// Its process ends at once: it says what it can read, which is no request to serve.
const ENDS: &str = ".entrypoint[1] = \"formats\"";
/// What it says.
const FORMATS: &[&str] = &["pgvol-", "pglog-"];
/// Its process runs, and listens where the engine does not look.
const IS_NOT_HEARD: &str = ".interface.socket = \"elsewhere.sock\"";

/// What must be the same afterwards: Docker's id, the version, settings and that it works.
const FIELDS: &str = "{{.Id}} {{.Config.Description}} {{.Enabled}} {{json .Settings.Env}} {{json .Config.Mounts}} {{json .Config.Entrypoint}} {{json .Config.Interface}}";

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("a_version_that_ends_at_once_is_taken_back", ends).tolerating(FORMATS),
        Scenario::new("a_version_that_is_not_heard_is_taken_back", is_not_heard),
        Scenario::new("a_replacement_that_ends_at_once_is_taken_back", replacement)
            .tolerating(FORMATS),
        Scenario::new("a_first_version_that_ends_at_once_is_not_installed", first)
            .tolerating(FORMATS),
        Scenario::new("a_program_that_does_not_run_is_refused_first", program),
        Scenario::new("a_version_that_cannot_use_its_state_is_taken_back", unusable)
            .tolerating(&["newer than"]),
    ]
}

/// `install.sh`, which must fail; gives what it says.
fn refused(engine: &Engine, arguments: &str) -> Result<String> {
    let outcome = install(engine, "/var/lib/two", arguments)?;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    ensure!(!outcome.success, "install.sh succeeded: {said}");
    Ok(said)
}

fn ends(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        engine.shell("mkdir /var/lib/elsewhere")?;
        create(engine, "pgvol", &[POOL])?;
        create(engine, "pglog", &["LOG_LEVEL=warn", "state.source=/var/lib/elsewhere"])?;
        let printer = printer(engine)?;
        let started = printer.inspect("{{.State.StartedAt}}")?;
        let before = inspect(engine, "pglog", FIELDS)?;
        next_version(engine)?;
        edit_config(engine, "pglog", ENDS)?;
        let said = refused(engine, "")?;
        ensure!(said.contains("pgvol is upgraded\n"), "{said}");
        ensure!(said.contains("the new pglog does not start"), "{said}");
        ensure!(said.ends_with("pglog is again what it was before\n"), "{said}");
        let after = inspect(engine, "pglog", FIELDS)?;
        ensure!(after == before, "it was {before}, it is {after}");
        ensure!(printer.inspect("{{.State.StartedAt}}")? == started, "restarted");
        // The one that was put back can be upgraded as any other.
        engine.shell("rm -r /var/lib/two")?;
        next_version(engine)?;
        let said = installed(engine, "/var/lib/two", "")?;
        ensure!(said.contains("pglog is upgraded\n"), "{said}");
        check_lines(engine, &printer)
    })
}

fn is_not_heard(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pgvol", &[POOL, "LOG_LEVEL=debug"])?;
        create(engine, "pglog", &[])?;
        let volume = Volume::create(engine, "pgvol", "appdb", &["label.team=blue"])?;
        let pg = server(engine)?;
        let mut writer = pg.writer()?;
        writer.advance(100)?;
        let started = pg.container().inspect("{{.State.StartedAt}}")?;
        let before = inspect(engine, "pgvol", FIELDS)?;
        next_version(engine)?;
        edit_config(engine, "pgvol", IS_NOT_HEARD)?;
        let said = refused(engine, "")?;
        ensure!(said.ends_with("pgvol is again what it was before\n"), "{said}");
        let after = inspect(engine, "pgvol", FIELDS)?;
        ensure!(after == before, "it was {before}, it is {after}");
        writer.advance(100)?;
        let last = writer.finish()?;
        ensure!(pg.container().inspect("{{.State.StartedAt}}")? == started, "restarted");
        ensure!(volume.inspect()?["Status"]["labels"]["team"] == "blue", "{volume:?}");
        pg.restart()?;
        pg.check_numbers(last)?;
        drop(pg);
        volume.remove()
    })
}

fn replacement(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pgvol", &[POOL])?;
        create(engine, "pglog", &["LOG_LEVEL=warn"])?;
        let printer = printer(engine)?;
        let described = "{{.Config.Description}} {{.Enabled}} {{json .Settings.Env}}";
        let before = inspect(engine, "pglog", described)?;
        next_version(engine)?;
        edit_config(engine, "pglog", ENDS)?;
        let said = without_registry(engine, || refused(engine, "--restart-containers"))?;
        let last = "pglog is again what it was before; restarted: printer\n";
        ensure!(said.ends_with(last), "{said}");
        let after = inspect(engine, "pglog", described)?;
        ensure!(after == before, "it was {before}, it is {after}");
        ensure!(printer.inspect("{{.State.Running}}")? == "true", "the printer is off");
        printer.remove(Duration::from_secs(20))
    })
}

fn first(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        next_version(engine)?;
        edit_config(engine, "pgvol", ENDS)?;
        let said = refused(engine, "")?;
        ensure!(said.ends_with("pgvol is not installed\n"), "{said}");
        let plugins = engine.docker(&["plugin", "ls", "--quiet"])?;
        ensure!(plugins.is_empty(), "left: {plugins}");
        engine.shell("rm -r /var/lib/two")?;
        next_version(engine)?;
        installed(engine, "/var/lib/two", "").map(drop)
    })
}

fn program(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pgvol", &[POOL])?;
        create(engine, "pglog", &[])?;
        let all = || engine.docker(&["plugin", "inspect", "pgvol", "pglog"]);
        let before = all()?;
        next_version(engine)?;
        engine.shell("echo garbage >/var/lib/two/pglog/rootfs/pglog")?;
        let said = refused(engine, "")?;
        ensure!(said.contains("pglog of this package does not run on this machine"), "{said}");
        ensure!(all()? == before, "something is changed");
        Ok(())
    })
}

/// What it has written meanwhile the one before cannot read, which is said.
fn unusable(stage: &Stage) -> Result<()> {
    with_pglog_elsewhere(stage, |engine| {
        let before = inspect(engine, "pglog", FIELDS)?;
        let format = "/var/lib/elsewhere/pglog/format";
        let write = format!(
            r#"case "$*" in *"plugin enable "*) [ -e /tmp/format ] || cp {format} /tmp/format; sed -i '1s/ [0-9]* / 99 /' {format} ;; esac"#
        );
        let (done, said) = with_docker(engine, &write, "", "")?;
        ensure!(!done && said.contains("the new pglog cannot use its state: "), "{said}");
        ensure!(said.contains("again what it was before, but the new one has written"), "{said}");
        ensure!(said.contains(&format!("{format}: format 99")), "{said}");
        let after = inspect(engine, "pglog", FIELDS)?;
        ensure!(after == before, "it was {before}, it is {after}");
        engine.shell(&format!("mv /tmp/format {format}")).map(drop)
    })
}
