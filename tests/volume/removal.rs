//! The plugin is disabled or removed, by force and under load: nothing stays but the data.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Pg, Scenario, Stage, eventually};

use crate::postgres::{server, volume};

/// dockerd retries for 15 s to reach a plugin that is gone.
const LIMIT: Duration = Duration::from_secs(40);

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("disabled_by_force_under_a_server", disabled),
        Scenario::new("removed_and_installed_again", reinstalled),
        Scenario::new("removed_by_force_under_a_server", removed),
    ]
}

/// Nothing of the plugin is mounted or attached.
fn check_nothing_left(stage: &Stage) -> Result<()> {
    eventually(LIMIT, || {
        let devices = stage.engine().loop_devices()?;
        ensure!(devices.is_empty(), "loop devices are left: {devices:?}");
        let mut mounts = stage.engine().mounts("/propagated-mount")?;
        mounts.extend(stage.engine().mounts(" btrfs ")?);
        mounts.extend(stage.engine().mounts("/pgvol/")?);
        ensure!(mounts.is_empty(), "mounts are left:\n{}", mounts.join("\n"));
        Ok(())
    })
}

/// The server's new WAL is in the directory of its pool, not in the one that this is mounted on.
fn check_wal_goes_to_its_pool(stage: &Stage, pg: &Pg) -> Result<()> {
    pg.container().shell("mountpoint --quiet /pg/wal")?;
    pg.psql("SELECT pg_switch_wal()")?;
    pg.psql("CHECKPOINT")?;
    let segment = pg.psql("SELECT pg_walfile_name(pg_current_wal_lsn())")?;
    stage.engine().shell(&format!("test -s /var/lib/pgvol/wal/db/wal/{segment}"))?;
    Ok(())
}

fn disabled(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let volume = volume(stage.engine(), "pgvol")?;
    let pg = server(stage.engine(), &[])?;
    let mut writer = pg.writer()?;
    writer.advance(100)?;
    let message = stage.engine().refused(&["plugin", "disable", "pgvol"])?;
    ensure!(message.contains("in use"), "{message}");
    plugin.disable()?;
    writer.advance(100)?;
    check_wal_goes_to_its_pool(stage, &pg)?;
    plugin.enable()?;
    writer.advance(100)?;
    check_wal_goes_to_its_pool(stage, &pg)?;
    let last = writer.finish()?;
    pg.restart()?;
    pg.check_numbers(last)?;
    drop(pg);
    volume.remove()
}

fn reinstalled(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let volume = volume(stage.engine(), "pgvol")?;
    let pg = server(stage.engine(), &[])?;
    let mut writer = pg.writer()?;
    writer.advance(500)?;
    let last = writer.finish()?;
    drop(pg);
    plugin.remove()?;
    check_nothing_left(stage)?;
    plugin.create()?;
    plugin.enable()?;
    // The volume is known again by itself, with all that was in it.
    let names = stage.engine().docker(&["volume", "ls", "--quiet"])?;
    ensure!(names == "db", "the volumes are {names:?}");
    let pg = server(stage.engine(), &[])?;
    pg.check_numbers(last)?;
    drop(pg);
    volume.remove()
}

fn removed(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let volume = volume(stage.engine(), "pgvol")?;
    let pg = server(stage.engine(), &[])?;
    let mut writer = pg.writer()?;
    writer.advance(100)?;
    plugin.remove()?;
    // The server has its own copy of the mounts.
    writer.advance(100)?;
    let last = writer.finish()?;
    pg.psql("CHECKPOINT")?;
    pg.container().stop(LIMIT)?;
    drop(pg);
    check_nothing_left(stage)?;
    plugin.create()?;
    plugin.enable()?;
    let pg = server(stage.engine(), &[])?;
    pg.check_numbers(last)?;
    drop(pg);
    volume.remove()
}
