//! What several scenarios begin with.

use std::sync::Arc;

use anyhow::Result;
pub(crate) use harness::packages::{
    PLUGINS, POOL, create, inspect, install, installed, next_version, on_bare,
};
pub(crate) use harness::printer::check_to_the_end as check_lines;
use harness::{Container, Engine, Pg, printer};

/// Changes the configuration of a package of [`next_version`] by a filter of jq.
pub(crate) fn edit_config(engine: &Engine, plugin: &str, filter: &str) -> Result<()> {
    let file = format!("/var/lib/two/{plugin}/config.json");
    engine.shell(&format!("jq '{filter}' {file} >/tmp/config && cp /tmp/config {file}")).map(drop)
}

/// A server on the volume `appdb`, with its log in pglog.
pub(crate) fn server(engine: &Arc<Engine>) -> Result<Pg> {
    let options = [
        "--volume=appdb:/pg",
        "--env=PGDATA=/pg/data",
        "--env=POSTGRES_INITDB_WALDIR=/pg/wal",
        "--log-driver=pglog",
    ];
    Pg::start(engine, "app", &options)
}

/// A container that prints numbered lines into pglog until it is told to end.
pub(crate) fn printer(engine: &Arc<Engine>) -> Result<Container> {
    printer::run(engine, "printer", &["--log-driver=pglog"], &["1000000000"])
}
