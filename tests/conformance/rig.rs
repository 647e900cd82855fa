//! Both plugins on the engine, each behind the recorder.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use harness::{Engine, Plugin, Stage};
use serde_json::{Value, json};

use crate::call::Recording;

/// Where the recorder keeps what it has heard and looks for its orders, as the host sees it.
pub(crate) const STATE: &str = "/var/lib/recorder";

/// The names of the plugins; each is the name of its program and of its socket too.
const PLUGINS: [&str; 2] = ["pgvol", "pglog"];

/// Less than by default: nothing big is written here, and nothing is wanted back.
pub(crate) const SETTINGS: &[&str] = &["POOL_SIZE=1G", "TRASH=0"];

/// Puts the image of the scenarios, and the recorder into the packaged plugins.
pub(crate) fn stage(engine: &Engine) -> Result<()> {
    engine.add_base_image()?;
    engine.shell("mount -t tmpfs tmpfs /mnt && cp -a /srv/. /mnt && mount --bind /mnt /srv")?;
    for name in PLUGINS {
        let recorder = engine.path(&format!("/srv/{name}/rootfs/recorder"));
        fs::copy(env!("CARGO_BIN_EXE_recorder"), &recorder).context("copy the recorder")?;
        let path = engine.path(&format!("/srv/{name}/config.json"));
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let mut config: Value = serde_json::from_slice(&text)?;
        let program = config["entrypoint"].as_array().context("an entrypoint")?;
        config["entrypoint"] = [&[json!("/recorder"), json!(name)], &program[..]].concat().into();
        config["interface"]["socket"] = json!("recorder.sock");
        write(&path, &config.to_string())?;
    }
    Ok(())
}

/// The two plugins of a scenario.
pub(crate) struct Rig<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) pgvol: &'a Plugin,
    pub(crate) pglog: Plugin,
}

impl<'a> Rig<'a> {
    /// Installs what is not there yet.
    pub(crate) fn new(stage: &'a Stage) -> Result<Self> {
        let engine = stage.engine();
        let pgvol = stage.plugin()?;
        let pglog = if engine.docker(&["plugin", "inspect", "pglog"]).is_ok() {
            Plugin::installed(engine, "pglog")
        } else {
            let plugin = Plugin::install(engine, "pglog", &[])?;
            // Otherwise the engine's first connections are among the first calls recorded.
            Recording::start(engine)?.wait_for_quiet()?;
            plugin
        };
        Ok(Self { stage, pgvol, pglog })
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &'a Arc<Engine> {
        self.stage.engine()
    }

    /// Records from now on.
    pub(crate) fn record(&self) -> Result<Recording> {
        Recording::start(self.engine())
    }

    /// Has the recorder misbehave at `call` of `plugin` until this is dropped; `order` is what
    /// `tests/recorder/fault.rs` reads.
    pub(crate) fn order(&self, plugin: &str, call: &str, order: &Value) -> Result<Order<'a>> {
        let directory = format!("{STATE}/faults/{plugin}");
        self.engine().shell(&format!("mkdir -p {directory}"))?;
        let file = format!("{directory}/{call}");
        write(&self.engine().path(&file), &order.to_string())?;
        Ok(Order { engine: self.engine(), file })
    }
}

/// An order to the recorder; withdrawn on drop.
pub(crate) struct Order<'a> {
    engine: &'a Engine,
    file: String,
}

impl Drop for Order<'_> {
    fn drop(&mut self) {
        // Used up, most likely.
        fs::remove_file(self.engine.path(&self.file)).ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "it is gone with the engine")]
fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}
