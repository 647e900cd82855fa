//! What older engines cannot do, as README says it: each scenario has its counterpart for those
//! that can.

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, Version};

use crate::postgres::volume;

const DRIVERS: &[&str] = &["local", "pgvol"];

pub(crate) fn scenarios() -> Vec<Scenario> {
    let subpath = Scenario::for_drivers("subpath_is_not_known", DRIVERS, subpath);
    subpath.into_iter().map(|it| it.before(Version::V26_1, "no volume-subpath")).collect()
}

/// The engine's own client refuses it; of a newer client the engine takes it, mounts the whole
/// volume and says nothing.
fn subpath(stage: &Stage, driver: &'static str) -> Result<()> {
    let engine = stage.engine();
    let volume = volume(engine, driver)?;
    let mount = "--mount=type=volume,src=db,dst=/x,volume-subpath=data";
    let list = ["run", "--rm", mount, "postgres:17", "ls", "-m", "/x"];
    let message = engine.refused(&list)?;
    ensure!(message.contains("volume-subpath"), "{message}");
    let seen = engine.client_of(Version::V26_1, &list)?;
    ensure!(seen == "data, tablespaces, wal", "the newer client got to see {seen:?}");
    volume.remove()
}
