//! What Docker's own tests hold a plugin to, as scenarios of ours on a real engine, with a record
//! of every call: `BEHAVIOURS.md` says which scenario has which of their behaviours.

use std::process::ExitCode;

use harness::Suite;

mod call;
mod commands;
mod counts;
mod discovery;
mod golden;
mod logs;
mod restarts;
mod rig;
mod subpaths;
mod traces;
mod transport;
mod volumes;

const SMOKE: &[&str] = &[
    "copying_counts::pgvol",
    "made_behind_the_engine",
    "log_of_every_start::pglog",
    "trace_b_copy_up",
    "trace_e_logs",
    "trace_i_live_restore",
];

const SUITE: Suite =
    Suite { plugin: "pgvol", settings: rig::SETTINGS, images: rig::stage, smoke: SMOKE };

fn main() -> ExitCode {
    let scenarios = [
        counts::scenarios(),
        volumes::scenarios(),
        subpaths::scenarios(),
        logs::scenarios(),
        commands::scenarios(),
        restarts::scenarios(),
        transport::scenarios(),
        discovery::scenarios(),
        traces::scenarios(),
    ];
    harness::run(&SUITE, scenarios.into_iter().flatten().collect())
}
