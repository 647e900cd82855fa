//! The plugin's process: settings, runtimes, streams taken up, calls answered, end.

use anyhow::{Context, Result, bail};
use pglog::app::{App, FORMATS, Paths};
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
    // Two runtimes: a disk that makes a stream wait keeps no call waiting.
    let (ingest, calls) = (runtime("ingest")?, runtime("calls")?);
    let served = calls.block_on(async {
        let shutdown = shutdown::token().context("catch signals")?;
        let app = App::start(&Paths::default(), ingest.handle().clone(), shutdown)?;
        app.run().await;
        Ok(())
    });
    calls.shutdown_background();
    ingest.shutdown_background();
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
