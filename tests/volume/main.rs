//! Scenarios of the volume driver on a real engine.

use std::process::ExitCode;

use harness::{Engine, Suite};

mod crashes;
mod create;
mod mounts;
mod options;
mod postgres;
mod removal;

const SUITE: Suite =
    Suite { plugin: "pgvol", settings: &["POOL_SIZE=3G"], images: Engine::add_postgres_image };

fn main() -> ExitCode {
    let scenarios = [
        create::scenarios(),
        options::scenarios(),
        mounts::scenarios(),
        postgres::scenarios(),
        crashes::scenarios(),
        removal::scenarios(),
    ];
    harness::run(&SUITE, scenarios.into_iter().flatten().collect())
}
