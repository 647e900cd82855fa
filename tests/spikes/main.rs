//! What the two plugins rest on, proven on a real engine: each scenario has the probe installed
//! with a plugin's own entry of `config.json`, only the entrypoint replaced, and looks at what
//! that can do there. `privileges` tries each privilege by leaving it out; `PRIVILEGES.md` has the
//! table.

use std::process::ExitCode;

use harness::Suite;

mod freeze;
mod guard;
mod host;
mod pool;
mod privileges;
mod probe;
mod stream;

/// What the plugins make of these things their own suites show more quickly.
const SMOKE: &[&str] = &[];

/// The plugin named here is never installed: scenarios install probes.
const SUITE: Suite = Suite { plugin: "pgvol", settings: &[], images: probe::stage, smoke: SMOKE };

fn main() -> ExitCode {
    let scenarios = [
        guard::scenarios(),
        host::scenarios(),
        stream::scenarios(),
        freeze::scenarios(),
        pool::scenarios(),
        privileges::scenarios(),
    ];
    harness::run(&SUITE, scenarios.into_iter().flatten().collect())
}
