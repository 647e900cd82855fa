//! Scenarios of the log driver on a real engine.

use std::process::ExitCode;

use harness::{Engine, Suite};

mod account;
mod attributes;
mod certificates;
mod crashes;
mod files;
mod fluentd;
mod lines;
mod options;
mod pressure;
mod reading;
mod retention;
mod syslog;
mod syslog_ng;
mod trial;

const SMOKE: &[&str] = &[
    "several_runs_of_a_container::pglog",
    "follow::pglog",
    "any_bytes::pglog",
    "killed_while_followed",
    "live_restore_keeps_every_line",
];

const SUITE: Suite =
    Suite { plugin: "pglog", settings: &[], images: Engine::add_base_image, smoke: SMOKE };

fn main() -> ExitCode {
    let scenarios = [
        lines::scenarios(),
        reading::scenarios(),
        options::scenarios(),
        retention::scenarios(),
        files::scenarios(),
        crashes::scenarios(),
        pressure::scenarios(),
        // The last: a sink whose server is gone complains at each start of the plugin.
        syslog::scenarios(),
        syslog_ng::scenarios(),
        fluentd::scenarios(),
        attributes::scenarios(),
        trial::scenarios(),
    ];
    harness::run(&SUITE, scenarios.into_iter().flatten().collect())
}
