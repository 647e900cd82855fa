//! Both plugins out of their packages, on an engine that begins with none and is left with none.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{Engine, Outcome};

/// Small enough for any machine.
pub const POOL: &str = "POOL_SIZE=2G";

/// Both plugins.
pub const PLUGINS: [&str; 2] = ["pgvol", "pglog"];

/// Runs `body` on an engine without plugins, and takes away what it has installed.
pub fn on_bare(engine: &Arc<Engine>, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let nothing = engine.docker(&["plugin", "ls", "--quiet"])?;
    ensure!(nothing.is_empty(), "an earlier scenario has left plugins");
    body()?;
    remove(engine)
}

/// Removes both plugins, as far as they are there, and all that they kept. Without force: that
/// nothing uses them any more is a part of what is tested.
pub fn remove(engine: &Engine) -> Result<()> {
    for plugin in PLUGINS {
        if engine.docker(&["plugin", "inspect", plugin]).is_ok() {
            engine.docker(&["plugin", "disable", plugin])?;
            engine.docker(&["plugin", "rm", plugin])?;
        }
    }
    let state = "/var/lib/pgvol /var/lib/pglog /var/lib/elsewhere /var/lib/two";
    engine.shell(&format!("rm -rf {state} /usr/local/lib/docker/cli-plugins")).map(drop)
}

/// Creates a plugin out of its package with `settings` and enables it.
pub fn create(engine: &Engine, plugin: &str, settings: &[&str]) -> Result<()> {
    engine.docker(&["plugin", "create", plugin, &format!("/srv/{plugin}")])?;
    if !settings.is_empty() {
        engine.docker(&[&["plugin", "set", plugin], settings].concat())?;
    }
    engine.docker(&["plugin", "enable", "--timeout", "0", plugin]).map(drop)
}

/// `install.sh` with `arguments`, out of the packages in a directory of the engine.
pub fn install(engine: &Engine, packages: &str, arguments: &str) -> Result<Outcome> {
    let script = format!("PACKAGES={packages} /opt/scripts/install.sh {arguments}");
    engine.run_shell(Duration::from_mins(3), &script)
}

/// `install.sh`, which must succeed; gives what it says.
pub fn installed(engine: &Engine, packages: &str, arguments: &str) -> Result<String> {
    let outcome = install(engine, packages, arguments)?;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    ensure!(outcome.success, "install.sh failed: {said}");
    Ok(said)
}

/// Packages of a next version in `/var/lib/two`: another file in each, and a new setting.
pub fn next_version(engine: &Engine) -> Result<()> {
    next_version_of(engine, &PLUGINS, 2)
}

/// Packages in `/var/lib/two`, of which those of some plugins become of another `version`; the
/// others are as they were, or as in `/srv`.
pub fn next_version_of(engine: &Engine, plugins: &[&str], version: usize) -> Result<()> {
    let script = format!(
        r#"mkdir -p /var/lib/two
        cp -a --no-clobber /srv/pgvol /srv/pglog /srv/cli-plugins /var/lib/two 2>/dev/null
        for plugin in {plugins}; do
            echo {version} >"/var/lib/two/$plugin/rootfs/version"
            jq '.description = "{version}" | .env += [{{name: "NEXT", value: "1", settable: ["value"]}}]' \
                "/srv/$plugin/config.json" >"/var/lib/two/$plugin/config.json"
        done"#,
        plugins = plugins.join(" ")
    );
    engine.shell(&script).map(drop)
}

/// A field of `docker plugin inspect`, by Go template.
pub fn inspect(engine: &Engine, plugin: &str, template: &str) -> Result<String> {
    engine.docker(&["plugin", "inspect", "--format", template, plugin])
}
