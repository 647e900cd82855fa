//! pgvol: settings, listen, recover, serve, drain. Called by any other word than dockerd's it is the
//! client, `docker pgvol`, or a child of its own.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use pgvol::api;
use pgvol::app::{App, FORMATS, Paths};
use pgvol::client::Pgvol;
use pgvol::postgres::{backup, checkpoint};
use pgvol::settings::Settings;
use plugin_sdk::server::Server;
use plugin_sdk::{cli, record, shutdown, sys, telemetry};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if arguments == ["serve"] {
        return serve();
    }
    if arguments == ["formats"] {
        return ExitCode::from(u8::from(record::print(&FORMATS).is_err()));
    }
    if arguments.first().is_some_and(|word| word == checkpoint::WORD) {
        return checkpoint::child(&arguments[1..]);
    }
    if arguments.first().is_some_and(|word| word == backup::WORD) {
        return backup::child(&arguments[1..]);
    }
    cli::main::<Pgvol>(arguments)
}

fn serve() -> ExitCode {
    let settings = Settings::read(env::vars());
    let _telemetry = telemetry::start(settings.log_level);
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "pgvol ends");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> anyhow::Result<()> {
    if let Err(error) = sys::raise_open_files() {
        tracing::warn!(%error, "limit on open files");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let served = runtime.block_on(answer(settings));
    // Whatever still blocks is cut off as a kill would: the next start deals with it.
    runtime.shutdown_background();
    served
}

async fn answer(settings: &Settings) -> anyhow::Result<()> {
    let shutdown = shutdown::token().context("catch signals")?;
    let paths = Paths::default();
    // First of all: dockerd gives up on a plugin that does not listen.
    let server = Server::bind(&paths.socket)?;
    let app = App::new(paths, settings);
    let starting = tokio::spawn(app.clone().start(shutdown.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "pgvol serves");
    server.serve(api::router(&app), shutdown).await;
    starting.await.context("start")
}
