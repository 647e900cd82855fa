//! Lines per second from a container to a fluentd and to a syslog server, with pglog and with
//! Docker's own drivers: from the first line's writing to the last one's arrival.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Engine, Plugin};

use crate::lines::{BLOCK, SHARED, noted, prepare, script};
use crate::ratio::Ratios;
use crate::receiver::{Protocol, Receiver};
use crate::{Side, interleave, note};

const RUN_LIMIT: Duration = Duration::from_mins(10);

/// One of Docker's drivers that send, and how pglog is told to do the same.
struct Way {
    driver: &'static str,
    port: u16,
    address: &'static str,
    protocol: Protocol,
}

/// Gives lines per second to a fluentd, with acknowledgements on our side only, and to a syslog
/// server over TCP.
pub(crate) fn compare(
    engine: &Arc<Engine>,
    plugin: &Plugin,
    lines: u32,
    pairs: usize,
) -> Result<(Ratios, Ratios)> {
    prepare(engine)?;
    let fluentd = Way {
        driver: "fluentd",
        port: 24224,
        address: "fluentd-address=127.0.0.1:24224",
        protocol: Protocol::Forward,
    };
    let syslog = Way {
        driver: "syslog",
        port: 5514,
        address: "syslog-address=tcp://127.0.0.1:5514",
        protocol: Protocol::Syslog,
    };
    let each = |way: Way| rates(engine, plugin, &way, (lines / BLOCK).max(1), pairs);
    Ok((each(fluentd)?, each(syslog)?))
}

fn rates(
    engine: &Arc<Engine>,
    plugin: &Plugin,
    way: &Way,
    blocks: u32,
    pairs: usize,
) -> Result<Ratios> {
    let receiver = Receiver::start(engine, way.port, way.protocol)?;
    // Not counted: the first container of each.
    for side in [Side::Ours, Side::Reference] {
        run(engine, &receiver, way, side, 1)?;
    }
    let samples = interleave(pairs, |side| {
        let rate = run(engine, &receiver, way, side, blocks)?;
        note(&format!("{side:?}, {}: {rate:.0} lines/s", way.driver))?;
        Ok(rate)
    })?;
    plugin.wait_listening()?;
    Ok(Ratios::new(samples))
}

fn run(
    engine: &Arc<Engine>,
    receiver: &Receiver,
    way: &Way,
    side: Side,
    blocks: u32,
) -> Result<f64> {
    receiver.reset();
    let driver = if side == Side::Ours { "pglog" } else { way.driver };
    let room: &[_] = match side {
        Side::Ours => &["--log-opt=max-size=200m", "--log-opt=max-file=10"],
        Side::Reference => &[],
    };
    let mount = format!("{SHARED}:{SHARED}");
    let script = script(blocks);
    let options = ["--volume", &mount, "--log-driver", driver, "--log-opt", way.address];
    let options = [&options[..], room, &["base", "sh", "-c", &script]].concat();
    let container = Container::run(engine, "bench-sinks", &options)?;
    let lines = blocks * BLOCK;
    let last = receiver.wait(lines.into())?;
    let outcome = engine.client(RUN_LIMIT, &["wait", container.name()])?;
    ensure!(outcome.stdout == b"0\n", "docker wait: {outcome:?}");
    Ok(f64::from(lines) / ((last - noted(engine, "began")?) / 1e9))
}
