//! A managed plugin that tries out what the two plugins rest on.
//!
//! `probe serve SOCKET` takes the place of `pgvol` or `pglog` in a real plugin, with that plugin's
//! own privileges, and does single things on request: `POST /Probe.Run {"name": .., "args": {..}}`
//! on the plugin's socket. It also answers as a volume and a log driver, just far enough to be
//! given real volumes and real streams. It judges nothing: the `spikes` suite does.
#![expect(clippy::disallowed_methods, reason = "what the probe writes need not survive a crash")]

mod docker;
mod freeze;
mod guard;
mod host;
mod http;
mod pool;
mod procfs;
mod stream;
mod sys;

use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Value, json};

/// What the probe keeps on the host: where the suite looks for loop devices that leak.
const STATE: &str = "/host/state/pgvol/probe";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("serve"), Some(socket)) => serve(&socket),
        _ => bail!("usage: probe serve SOCKET"),
    }
}

fn serve(socket: &str) -> Result<()> {
    // The first process of a PID namespace has no default signal actions: wait for the signal.
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.thread_block().context("block SIGTERM")?;
    let reattached = stream::reattach();
    http::listen(&Path::new("/run/docker/plugins").join(socket), move |path, body| match path {
        "/Probe.Run" => run(&body["name"], &body["args"], &reattached),
        _ => docker::answer(path, body),
    })?;
    stop.wait().context("wait for SIGTERM")?;
    Ok(())
}

fn run(name: &Value, arguments: &Value, reattached: &[String]) -> Result<Value> {
    match name.as_str().unwrap_or_default() {
        "about" => Ok(json!({
            "pid": std::process::id(),
            "status": std::fs::read_to_string("/proc/self/status")?,
            "reattached": reattached,
        })),
        "network" => Ok(json!(std::fs::read_to_string("/proc/net/dev")?)),
        "guard.start" => guard::start(arguments),
        "guard.events" => Ok(guard::events()),
        "host.read" => host::read(arguments),
        "host.write" => host::write(arguments),
        "host.bring" => host::bring(arguments),
        "host.clone" => host::clone_through_proc(arguments),
        "freeze.find" => freeze::find(arguments),
        "freeze.hold" => freeze::hold(arguments),
        "pool.open" => pool::open(arguments),
        "pool.again" => pool::lock_again(arguments),
        "pool.image" => pool::make_image(arguments),
        other => bail!("unknown probe `{other}`"),
    }
}

/// The text argument `name`.
fn text<'a>(arguments: &'a Value, name: &str) -> Result<&'a str> {
    arguments[name].as_str().with_context(|| format!("argument `{name}` is missing"))
}
