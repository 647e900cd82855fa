//! What each scenario begins with: nothing installed; and what several do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Engine, Outcome, Pg, numbered};

/// Small enough for any machine; what is prompted for does not depend on it.
pub(crate) const POOL: &str = "POOL_SIZE=2G";

/// Both plugins.
pub(crate) const PLUGINS: [&str; 2] = ["pgvol", "pglog"];

/// Runs `body` on an engine without plugins, and takes away what it has installed.
pub(crate) fn on_bare(engine: &Arc<Engine>, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let nothing = engine.docker(&["plugin", "ls", "--quiet"])?;
    ensure!(nothing.is_empty(), "an earlier scenario has left plugins");
    body()?;
    // Without force: that nothing uses them any more is a part of what is tested.
    for plugin in PLUGINS {
        if engine.docker(&["plugin", "inspect", plugin]).is_ok() {
            engine.docker(&["plugin", "disable", plugin])?;
            engine.docker(&["plugin", "rm", plugin])?;
        }
    }
    engine.shell("rm -rf /var/lib/pgvol /var/lib/pglog /var/lib/elsewhere /var/lib/two").map(drop)
}

/// Creates a plugin out of its package with `settings` and enables it.
pub(crate) fn create(engine: &Engine, plugin: &str, settings: &[&str]) -> Result<()> {
    engine.docker(&["plugin", "create", plugin, &format!("/srv/{plugin}")])?;
    if !settings.is_empty() {
        engine.docker(&[&["plugin", "set", plugin], settings].concat())?;
    }
    engine.docker(&["plugin", "enable", "--timeout", "0", plugin]).map(drop)
}

/// `install.sh` with `arguments`, out of the packages in a directory of the engine.
pub(crate) fn install(engine: &Engine, packages: &str, arguments: &str) -> Result<Outcome> {
    let script = format!("PACKAGES={packages} /opt/scripts/install.sh {arguments}");
    engine.run_shell(Duration::from_mins(3), &script)
}

/// `install.sh`, which must succeed; gives what it says.
pub(crate) fn installed(engine: &Engine, packages: &str, arguments: &str) -> Result<String> {
    let outcome = install(engine, packages, arguments)?;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    ensure!(outcome.success, "install.sh failed: {said}");
    Ok(said)
}

/// Packages of a next version in `/var/lib/two`: another file in each, and a new setting.
pub(crate) fn next_version(engine: &Engine) -> Result<()> {
    engine
        .shell(
            r#"mkdir /var/lib/two
        cp -a /srv/pgvol /srv/pglog /var/lib/two
        for plugin in pgvol pglog; do
            echo 2 >"/var/lib/two/$plugin/rootfs/version"
            jq '.description = "2" | .env += [{name: "NEXT", value: "1", settable: ["value"]}]' \
                "/srv/$plugin/config.json" >"/var/lib/two/$plugin/config.json"
        done"#,
        )
        .map(drop)
}

/// Changes the configuration of a package of [`next_version`] by a filter of jq.
pub(crate) fn edit_config(engine: &Engine, plugin: &str, filter: &str) -> Result<()> {
    let file = format!("/var/lib/two/{plugin}/config.json");
    engine.shell(&format!("jq '{filter}' {file} >/tmp/config && cp /tmp/config {file}")).map(drop)
}

/// A field of `docker plugin inspect`, by Go template.
pub(crate) fn inspect(engine: &Engine, plugin: &str, template: &str) -> Result<String> {
    engine.docker(&["plugin", "inspect", "--format", template, plugin])
}

/// A server on the volume `appdb`, with its log in pglog.
pub(crate) fn server(engine: &Arc<Engine>) -> Result<Pg> {
    let options = [
        "--volume=appdb:/pg",
        "--env=PGDATA=/pg/data",
        "--env=POSTGRES_INITDB_WALDIR=/pg/wal",
        "--log-driver=pglog",
    ];
    Pg::start(engine, "app", &options)
}

/// A container that prints numbered lines into pglog until it is told to end.
pub(crate) fn printer(engine: &Arc<Engine>) -> Result<Container> {
    let options = ["--log-driver=pglog", "--log-opt=max-size=200m", "base"];
    let command = ["perl", "-e", numbered::SLOWLY, "1000000000"];
    Container::run(engine, "printer", &[&options[..], &command].concat())
}

/// Tells the printer to end and compares what it has printed with what is in the log.
pub(crate) fn check_lines(engine: &Engine, container: &Container) -> Result<()> {
    engine.docker(&["kill", "--signal", "USR1", container.name()])?;
    ensure!(container.wait(Duration::from_mins(1))? == 0, "the printer failed");
    let logs = container.logs(&[])?;
    let printed = String::from_utf8(logs.stderr)?.trim().parse().context("a number")?;
    numbered::check(&logs.stdout, printed)
}
