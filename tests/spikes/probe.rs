//! The probe as a managed plugin on an engine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use harness::{Engine, Plugin};
use serde_json::{Value, json};

const CONFIG: &str = include_str!("../../config.json");
const MKFS: &str = "/usr/sbin/mkfs.btrfs";

/// Puts the image of the scenarios, and the probe's roots in the place of the packaged plugins.
pub(crate) fn stage(engine: &Engine) -> Result<()> {
    engine.add_postgres_image()?;
    engine.shell("mount -t tmpfs tmpfs /srv")?;
    for name in ["pgvol", "pglog"] {
        let root = engine.path(&format!("/srv/{name}/rootfs"));
        for directory in
            ["dev", "etc", "host/state", "mnt/volumes", "proc", "run/docker/plugins", "sys", "tmp"]
        {
            make_directory(&root.join(directory))?;
        }
        make_directory(&root.join("run/docker/logging"))?;
        // Two plugins whose roots are equal byte for byte are refused.
        copy(&root, "/etc/name", |to| write(to, name))?;
        let probe = Path::new(env!("CARGO_BIN_EXE_probe"));
        copy(&root, "/probe", |to| Ok(fs::copy(probe, to).map(drop)?))?;
        copy(&root, MKFS, |to| Ok(fs::copy(MKFS, to).map(drop)?))?;
        for library in libraries(&[probe, Path::new(MKFS)])? {
            copy(&root, &library, |to| Ok(fs::copy(&library, to).map(drop)?))?;
        }
    }
    Ok(())
}

/// An installed probe; removed on drop, so make it before what uses it.
#[derive(Debug)]
pub(crate) struct Probe(Plugin);

impl Probe {
    /// Installs it with the privileges of the plugin `name`.
    pub(crate) fn install(engine: &Arc<Engine>, name: &'static str) -> Result<Self> {
        Self::without(engine, name, |_| {})
    }

    /// Installs it with less than the privileges of the plugin `name`.
    pub(crate) fn without(
        engine: &Arc<Engine>,
        name: &'static str,
        less: impl FnOnce(&mut Value),
    ) -> Result<Self> {
        let mut configs: Value = serde_json::from_str(CONFIG)?;
        let mut config = configs[name].take();
        config["entrypoint"] = json!(["/probe", "serve", format!("{name}.sock")]);
        less(&mut config);
        write(&engine.path(&format!("/srv/{name}/config.json")), &config.to_string())?;
        let probe = Self(Plugin::install(engine, name, &[])?);
        probe.0.wait_listening()?;
        Ok(probe)
    }

    /// Has the probe do something, which must work.
    pub(crate) fn ask(&self, name: &str, arguments: &Value) -> Result<Value> {
        let body = json!({"name": name, "args": arguments}).to_string();
        let (status, answer) = self.0.call("/Probe.Run", &body)?;
        ensure!(status == 200, "{name}: {}", answer["Err"]);
        Ok(answer)
    }

    /// Has the probe do something that must fail with an error that contains `part`.
    pub(crate) fn refused(&self, name: &str, arguments: &Value, part: &str) -> Result<()> {
        match self.ask(name, arguments) {
            Ok(answer) => bail!("{name} worked: {answer}"),
            Err(error) if format!("{error:#}").contains(part) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("another error than {part:?}")),
        }
    }

    /// Kills it by SIGKILL and waits until it listens again.
    pub(crate) fn kill(&self) -> Result<()> {
        self.0.kill()
    }

    /// The plugin.
    pub(crate) fn plugin(&self) -> &Plugin {
        &self.0
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Removed by the scenario, or the engine is broken and its failure is the one to show.
        self.0.remove().ok();
    }
}

/// The shared libraries of some programs, the loader among them.
fn libraries(programs: &[&Path]) -> Result<Vec<String>> {
    #[expect(clippy::disallowed_methods, reason = "there is no sys::tool outside the plugins")]
    let output = Command::new("ldd").args(programs).output().context("start ldd")?;
    let text = String::from_utf8(output.stdout)?;
    let mut found: Vec<_> = text
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .collect();
    found.sort_unstable();
    found.dedup();
    ensure!(!found.is_empty(), "ldd names no libraries");
    Ok(found.into_iter().map(str::to_owned).collect())
}

fn copy(root: &Path, path: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let target = root.join(path.trim_start_matches('/'));
    make_directory(target.parent().context("a parent")?)?;
    make(&target).with_context(|| target.display().to_string())
}

#[expect(clippy::disallowed_methods, reason = "it is gone with the engine")]
fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| path.display().to_string())
}

#[expect(clippy::disallowed_methods, reason = "it is gone with the engine")]
fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}
