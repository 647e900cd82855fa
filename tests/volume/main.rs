//! Scenarios of the volume driver on a real engine.

use std::process::ExitCode;

use harness::{Engine, Suite};

const SUITE: Suite =
    Suite { plugin: "pgvol", settings: &["POOL_SIZE=3G"], images: Engine::add_postgres_image };

fn main() -> ExitCode {
    harness::run(&SUITE, Vec::new())
}
