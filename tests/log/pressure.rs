//! What the host has too little of, and a plugin that is away for a while.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Container, Scenario, Stage, numbered};

const LIMIT: Duration = Duration::from_mins(1);

/// Holds 70 MiB of root's pipes until it is ended: more than the kernel allows a user without
/// privileges, which in the kernel's eyes the plugin is.
const HOLD_PIPES: &str = r#"exec perl -e '
    for (1..70) { pipe(my $r, my $w) or die; fcntl($w, 1031, 1 << 20) or die; push @held, $r, $w }
    $| = 1; print "held\n"; sleep 300'"#;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("no_pipe_can_grow", no_pipe_can_grow),
        Scenario::new("disabled_for_a_while", disabled_for_a_while),
    ]
}

fn printing(stage: &Stage, name: &str, command: &[&str]) -> Result<Container> {
    let options = ["--log-driver", "pglog", "--log-opt", "max-size=200m", "base"];
    Container::run(stage.engine(), name, &[&options[..], command].concat())
}

/// A stream that fills its pipe and may not enlarge it goes on at the pace of the small one.
fn no_pipe_can_grow(stage: &Stage) -> Result<()> {
    stage.driver("pglog")?;
    let holder = stage.engine().in_background(HOLD_PIPES)?;
    ensure!(holder.next(LIMIT)? == "held");
    let begun = Instant::now();
    let container = printing(stage, "small", &["seq", "500000"])?;
    ensure!(container.wait(LIMIT)? == 0, "seq failed");
    let took = begun.elapsed();
    numbered::check(&container.logs(&[])?.stdout, 500_000)?;
    ensure!(took < Duration::from_secs(15), "500,000 lines took {took:?}");
    Ok(())
}

/// The container waits, since its log has nowhere to go, and prints on when the plugin is back.
fn disabled_for_a_while(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let container = printing(stage, "waiting", &["perl", "-e", numbered::SLOWLY, "200000"])?;
    thread::sleep(Duration::from_secs(1));
    plugin.disable()?;
    thread::sleep(Duration::from_secs(1));
    plugin.enable()?;
    ensure!(container.wait(LIMIT)? == 0, "the container failed");
    numbered::check(&container.logs(&[])?.stdout, 200_000)
}
