//! Scenarios of the log driver on a real engine.

use std::process::ExitCode;

use harness::{Engine, Suite};

mod crashes;
mod lines;
mod options;
mod pressure;
mod reading;
mod retention;

const SUITE: Suite = Suite { plugin: "pglog", settings: &[], images: Engine::add_base_image };

fn main() -> ExitCode {
    let scenarios = [
        lines::scenarios(),
        reading::scenarios(),
        options::scenarios(),
        retention::scenarios(),
        crashes::scenarios(),
        pressure::scenarios(),
    ];
    harness::run(&SUITE, scenarios.into_iter().flatten().collect())
}
