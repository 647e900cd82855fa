//! The plugin's process: settings, runtimes, streams taken up, calls answered, end. Called by any other
//! word than dockerd's it is the client, `docker pglog`.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use pglog::app::{App, FORMATS, Paths, Runtimes};
use pglog::client::Pglog;
use pglog::settings::Settings;
use plugin_sdk::{cli, record, shutdown, sys, telemetry};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let done = if arguments == ["serve"] {
        serve()
    } else if arguments == ["formats"] {
        record::print(&FORMATS).context("print")
    } else {
        return cli::main::<Pglog>(arguments);
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody to tell when standard error is gone.
            drop(writeln!(io::stderr(), "pglog: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let settings = Settings::read(env::vars());
    let _telemetry = telemetry::start(settings.log_level);
    if let Some(error) = &settings.bad {
        tracing::error!(%error, "settings that are not allowed");
    }
    if let Err(error) = sys::raise_open_files() {
        tracing::warn!(%error, "limit on open files");
    }
    let mut paths = Paths::default();
    paths.host.no_files = settings.no_files();
    paths.host.log_directory = settings.log_directory.0;
    // Three runtimes: what makes a stream or a sink wait keeps nothing else waiting.
    let (ingest, sinks, calls) = (runtime("ingest")?, runtime("sinks")?, runtime("calls")?);
    let runtimes = Runtimes { ingest: ingest.handle().clone(), sinks: sinks.handle().clone() };
    let served = calls.block_on(async {
        let shutdown = shutdown::token().context("catch signals")?;
        let app = App::start(&paths, settings.retention, runtimes, shutdown)?;
        app.with_settings(settings.in_force, settings.bad).run().await;
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
