//! The plugin ended at every step of every operation: killed there, with its engine, with the
//! machine, or told there that the disk is full.
//!
//! [`operations::OPERATIONS`] has the operations with their steps; what a step is, and how a
//! program stops at one, is in `plugin_sdk::failpoint`. The plugin of this suite is packaged with
//! the feature `failpoints`. An operation is first done undisturbed, which shows what there is
//! before and after it. After each disturbance there must be exactly the one or the other: the
//! whole state on disk and in the pools, every mount, every loop device. A further start of the
//! plugin must change nothing, another volume must work, and the operation must then succeed.
//!
//! A kill at each step is played in every run, but of what takes a server or long, the rest with `SURVIVAL=all`.
//! (Moves are killed at each step of a mount too, and pools in the making and in growing, by pgvol's own tests.)

use std::process::ExitCode;

use anyhow::{Context, Result};
use harness::{Engine, Scenario, Stage, Suite};

mod background;
mod observation;
mod operations;
mod play;
mod table;

const SUITE: Suite = Suite {
    plugin: "pgvol",
    settings: &["POOL_SIZE=1G"],
    images,
    smoke: &["unmount: unmount.noted killed"],
};

/// What a plugin that dies, or refuses on purpose, leaves in the log.
const TOLERATED: &[&str] = &[""];

/// The control file of a cluster that was cleanly stopped, for whoever needs such a one.
const CONTROL: &[u8] = include_bytes!("../../volume-plugin/fixtures/pg_control/17");

/// Files of a cluster that was cleanly stopped, as they would be in a volume that is mounted at `/pg`.
const CLUSTER: &str = "docker run --rm -v /opt/cluster:/pg --entrypoint=bash postgres:17 -euc '
    install -d -o postgres -m 0700 /pg/data /pg/wal
    setpriv --reuid=postgres --regid=postgres --clear-groups initdb --no-sync -D /pg/data -X /pg/wal >/dev/null'
    tar -C /opt/cluster -cf /opt/cluster.tar data wal; rm -r /opt/cluster";

fn images(engine: &Engine) -> Result<()> {
    let install = "install -D -t /usr/local/lib/docker/cli-plugins /srv/cli-plugins/*";
    engine.shell(install).context("package the client plugins: run scripts/package.sh")?;
    let control = CONTROL.iter().map(|byte| format!("\\x{byte:02x}")).collect::<Vec<_>>().concat();
    engine.shell(&format!("printf '{control}' >/opt/pg_control"))?;
    engine.add_base_image()?;
    if !all() {
        return Ok(());
    }
    engine.add_postgres_image()?;
    engine.shell(CLUSTER).map(drop)
}

/// Whether all is asked for.
fn all() -> bool {
    std::env::var("SURVIVAL").is_ok_and(|what| what == "all")
}

fn main() -> ExitCode {
    let table = table::Table::default();
    let all = all();
    let mut scenarios = vec![
        Scenario::new("readme_has_every_step", |_| table::in_readme()),
        Scenario::new("snapshot_in_the_background", background::run).tolerating(TOLERATED),
    ];
    for operation in operations::OPERATIONS {
        for &step in operation.steps {
            for event in play::Event::ALL {
                let is_wanted = all || event.is_quick(operation);
                if !is_wanted || !event.applies_to(operation, step) {
                    continue;
                }
                let table = table.clone();
                let play = move |stage: &Stage| {
                    let outcome = play::play(stage, operation, step, event)?;
                    table.add(operation, step, event, outcome);
                    Ok(())
                };
                let name = format!("{}: {step} {event}", operation.name);
                scenarios.push(Scenario::new(name, play).tolerating(TOLERATED));
            }
        }
    }
    let code = harness::run(&SUITE, scenarios);
    table.print();
    code
}
