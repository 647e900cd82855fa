//! The plugin's process: settings, runtimes, streams taken up, calls answered, end.

use anyhow::{Context, Result, bail};
use pglog::app::{App, FORMATS, Paths, Runtimes};
use pglog::settings::Settings;
use plugin_sdk::{record, shutdown, sys, telemetry};
use tokio::runtime::{Builder, Runtime};

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments == ["formats"] {
        return record::print(&FORMATS).context("print");
    }
    if arguments != ["serve"] {
        bail!("usage: pglog serve|formats");
    }
    let settings = Settings::read(std::env::vars())?;
    let _telemetry = telemetry::start(settings.log_level);
    if let Err(error) = sys::raise_open_files() {
        tracing::warn!(%error, "limit on open files");
    }
    let mut paths = Paths::default();
    paths.host.log_directory = settings.log_directory.0;
    // Three runtimes: what makes a stream or a sink wait keeps nothing else waiting.
    let (ingest, sinks, calls) = (runtime("ingest")?, runtime("sinks")?, runtime("calls")?);
    let runtimes = Runtimes { ingest: ingest.handle().clone(), sinks: sinks.handle().clone() };
    let served = calls.block_on(async {
        let shutdown = shutdown::token().context("catch signals")?;
        let app = App::start(&paths, runtimes, shutdown)?;
        app.run().await;
        Ok(())
    });
    calls.shutdown_background();
    ingest.shutdown_background();
    sinks.shutdown_background();
    served.inspect_err(|error: &anyhow::Error| tracing::error!("{error:#}"))
}

fn runtime(name: &str) -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("runtime {name}"))
}
