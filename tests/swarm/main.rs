//! Scenarios of services in a swarm of one node: their volumes with pgvol, their logs with pglog.

use std::process::ExitCode;

use anyhow::Result;
use harness::{Engine, Suite};

mod names;
mod service;
mod stack;
mod tasks;

const SUITE: Suite = Suite {
    plugin: "pgvol",
    settings: &[harness::packages::POOL],
    images,
    smoke: &["plugins_by_both_of_their_names"],
};

fn images(engine: &Engine) -> Result<()> {
    engine.add_base_image()?;
    engine.add_postgres_image()
}

fn main() -> ExitCode {
    let scenarios = [tasks::scenarios(), names::scenarios(), stack::scenarios()];
    harness::run(&SUITE, scenarios.into_iter().flatten().collect())
}
