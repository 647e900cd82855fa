//! Scenarios of packaging, installing and upgrading on a real engine.

use std::process::ExitCode;

use anyhow::Result;
use harness::{Engine, Suite};

mod formats;
mod interrupted;
mod others;
mod packaging;
mod quickstart;
mod registry;
mod remote;
mod replace;
mod rollback;
mod settings;
mod state;
mod upgrade;

const SMOKE: &[&str] = &["installed_from_a_registry", "upgraded_under_a_running_server"];

/// Scenarios install the plugins themselves; the engine is that of the suite.
const SUITE: Suite = Suite { plugin: "pgvol", settings: &[], images, smoke: SMOKE };

fn images(engine: &Engine) -> Result<()> {
    engine.add_scripts()?;
    engine.add_base_image()?;
    engine.add_postgres_image()
}

fn main() -> ExitCode {
    let scenarios = [
        packaging::scenarios(),
        quickstart::scenarios(),
        registry::scenarios(),
        remote::scenarios(),
        upgrade::scenarios(),
        replace::scenarios(),
        rollback::scenarios(),
        interrupted::scenarios(),
        others::scenarios(),
        settings::scenarios(),
        formats::scenarios(),
    ];
    harness::run(&SUITE, scenarios.into_iter().flatten().collect())
}
