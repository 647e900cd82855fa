//! What survives what: servers and logs under load, and everything that can happen to the engine,
//! the plugins and the machine below them.
//!
//! [`events::EVENTS`] says what happens and what is expected to survive, [`survival::play`] does
//! and checks it; README shows the same as a table, which [`table::in_readme`] holds it to.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use harness::{Engine, Scenario, Stage, Suite};

mod events;
mod lines;
mod load;
mod survival;
mod table;
mod world;

/// Scenarios install the plugins themselves; the engine is that of the suite.
const SUITE: Suite = Suite { plugin: "pgvol", settings: &[], images, smoke: SMOKE };

const SMOKE: &[&str] = &["engine_killed", "nothing_is_in_use_at_the_end"];

fn images(engine: &Engine) -> Result<()> {
    engine.add_scripts()?;
    engine.add_base_image()?;
    engine.add_postgres_image()
}

fn main() -> ExitCode {
    let (table, between) = (table::Table::default(), survival::Between::default());
    let mut scenarios = vec![Scenario::new("readme_shows_what_survives", |_| table::in_readme())];
    for event in events::EVENTS {
        let (table, between) = (table.clone(), Arc::clone(&between));
        let play = move |stage: &Stage| {
            table.add(event, survival::play(stage, event, &between)?);
            Ok(())
        };
        scenarios.push(Scenario::new(event.name, play));
    }
    let last = Arc::clone(&between);
    let last = move |_: &Stage| survival::tear_down(&last);
    scenarios.push(Scenario::new("nothing_is_in_use_at_the_end", last));
    let code = harness::run(&SUITE, scenarios);
    table.print();
    code
}
