//! What the host has too little of, and a plugin that is away for a while.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Container, Plugin, Scenario, Stage, eventually, numbered};

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
        Scenario::new("dead_sinks_under_load", dead_sinks).tolerating(&["a sink does not deliver"]),
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

/// Servers that do not answer while a container prints without a pause: they cost memory within
/// bounds, and no stop waits for them. `DEAD_SINK_SECONDS` says for how long.
#[expect(clippy::print_stderr, reason = "a long run is for its figures")]
fn dead_sinks(stage: &Stage) -> Result<()> {
    /// For a busy container, in KiB.
    const ALLOWED: u64 = 8 * 1024;
    /// What is in the pipe is taken for so long when a stream ends.
    const DRAIN: Duration = Duration::from_secs(2);
    let seconds = env::var("DEAD_SINK_SECONDS").map_or(Ok(10), |text| text.parse())?;
    let plugin = stage.plugin()?;
    let before = memory(stage, plugin)?;
    let options = ["syslog-address=tcp://127.0.0.1:9", "fluentd-address=127.0.0.1:9"];
    let run = |name: &str, driver: &str, options: &[&str]| {
        let mut arguments = vec!["--log-driver", driver];
        for option in options.iter().chain(&["max-size=1m", "max-file=3"]) {
            arguments.extend(["--log-opt", option]);
        }
        // It heeds SIGTERM.
        arguments.extend(["base", "perl", "-e", numbered::SLOWLY, "1000000000", "TERM"]);
        Container::run(stage.engine(), name, &arguments)
    };
    let container = run("loud", "pglog", &options)?;
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        most = most.max(memory(stage, plugin)?);
        thread::sleep(Duration::from_millis(200));
    }
    let grown = most.saturating_sub(before);
    ensure!(grown <= ALLOWED, "{grown} KiB more than the {before} before");
    let stopped = Instant::now();
    container.stop(LIMIT)?;
    let stopped = stopped.elapsed();
    // A busy machine takes its time for any container, and may not let it end before it is killed.
    let other = run("usual", "json-file", &[])?;
    eventually(LIMIT, || {
        let printed = other.logs(&["--tail", "1"])?.stdout;
        ensure!(!printed.is_empty(), "nothing is printed");
        Ok(())
    })?;
    let usual = Instant::now();
    other.stop(LIMIT)?;
    let usual = usual.elapsed();
    eprintln!(
        "{seconds} s of dead sinks: from {before} to {most} KiB; \
         stopped in {stopped:.1?}, with json-file in {usual:.1?}"
    );
    let allowed = DRAIN + Container::GRACE + 2 * usual;
    ensure!(stopped <= allowed, "{stopped:?}, with json-file {usual:?}");
    let status = plugin.call("/Pglog.Status", "{}")?.1;
    let sinks = status["sinks"].as_array().context("sinks")?;
    let own = sinks.iter().filter(|sink| sink["name"] == "loud");
    let dropped: Vec<_> = own.map(|sink| sink["dropped_lines"].as_u64()).collect();
    ensure!(dropped.len() == 2 && dropped.iter().all(|lines| *lines > Some(0)), "{dropped:?}");
    Ok(())
}

/// What the plugin's process has of its own in memory, in KiB.
fn memory(stage: &Stage, plugin: &Plugin) -> Result<u64> {
    let status = format!("/proc/{}/status", plugin.pid()?);
    let line = stage.engine().shell(&format!("grep RssAnon {status}"))?;
    let number = line.split_whitespace().nth(1).context("a number")?;
    Ok(number.parse()?)
}
