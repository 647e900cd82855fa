//! The recovery trial: snapshots are taken of a server under load at random moments, at every level, and
//! each is cloned, started, and searched for damage.
//!
//! `RECOVERY_TRIALS=300` asks for more than the 40 of a normal run; they are divided among the levels.

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result};
use harness::{Engine, Scenario, Suite};

mod fault;
mod load;
mod trial;

use trial::Level;

const SUITE: Suite = Suite {
    plugin: "pgvol",
    settings: &["POOL_SIZE=4G", "TRASH=0"],
    images: Engine::add_postgres_image,
    smoke: &[],
};

/// How many trials there are without the variable, and of each twenty how many are of which level.
const TRIALS: usize = 40;
const ORDERED: usize = 8;
const ATOMIC: usize = 4;
const OFFLINE: usize = 2;
const BARRIER: usize = 3;
const BACKUP: usize = 3;

fn trials() -> Result<usize> {
    match env::var("RECOVERY_TRIALS") {
        Ok(text) => text.parse().with_context(|| format!("RECOVERY_TRIALS={text}")),
        Err(_) => Ok(TRIALS),
    }
}

fn main() -> ExitCode {
    let scenarios = vec![
        Scenario::new("clones_of_ordered_snapshots_recover", |stage| {
            trial::run(stage, Level::Ordered, trials()? * ORDERED / 20)
        }),
        Scenario::new("clones_of_atomic_snapshots_recover", |stage| {
            trial::run(stage, Level::Atomic, trials()? * ATOMIC / 20)
        }),
        Scenario::new("clones_of_offline_snapshots_recover", |stage| {
            trial::run(stage, Level::Offline, trials()? * OFFLINE / 20)
        }),
        Scenario::new("clones_of_barrier_snapshots_recover", |stage| {
            trial::run(stage, Level::Barrier, trials()? * BARRIER / 20)
        }),
        Scenario::new("clones_of_backups_recover", |stage| {
            trial::run(stage, Level::Backup, trials()? * BACKUP / 20)
        }),
        Scenario::new("wal_from_before_the_data_fails_by_name", fault::run)
            .tolerating(&["Pgvol.Verify"]),
    ];
    harness::run(&SUITE, scenarios)
}
