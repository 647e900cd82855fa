//! Scenarios of the log driver on a real engine.

use std::process::ExitCode;

use harness::{Engine, Suite};

mod lines;

const SUITE: Suite = Suite { plugin: "pglog", settings: &[], images: Engine::add_base_image };

fn main() -> ExitCode {
    let scenarios = [lines::scenarios()].into_iter().flatten().collect();
    harness::run(&SUITE, scenarios)
}
