//! The image of the pool `default` follows what is written to it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Engine, Plugin, Scenario, Stage, Volume, eventually};
use serde_json::json;

use crate::postgres::{server, volume};
use crate::trash::{call, settled};

const LIMIT: Duration = Duration::from_mins(1);
const GIB: u64 = 1 << 30;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("pool_grows_under_a_server", grows),
        Scenario::new("pool_that_fills_says_so", alarms).tolerating(&["the pool fills"]),
    ]
}

/// The image's size, all of which must be backed by the host's disk.
fn image(engine: &Engine) -> Result<u64> {
    let stat = engine.shell("stat --format='%s %b %B' /var/lib/pgvol/pools/default.img")?;
    let numbers: Vec<u64> = stat.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [size, blocks, block] = numbers[..] else { anyhow::bail!("{stat}") };
    // Looked at between the file's growth and its reservation is looked at too early.
    ensure!(blocks * block >= size, "{size} bytes, of which {} are reserved", blocks * block);
    Ok(size)
}

fn set_limit(stage: &Stage, plugin: &Plugin, limit: &str) -> Result<()> {
    plugin.disable()?;
    stage.engine().docker(&["plugin", "set", "pgvol", &format!("POOL_MAX={limit}")])?;
    plugin.enable()
}

/// Takes space of `volume` without writing, a little more each time that `next` is called.
struct Filler {
    container: Container,
    megabytes: u64,
}

impl Filler {
    fn new(stage: &Stage) -> Result<Self> {
        let options = ["-v", "filler:/pg", "postgres:17", "sleep", "1000"];
        let container = Container::run(stage.engine(), "filler", &options)?;
        Ok(Self { container, megabytes: 0 })
    }

    fn next(&mut self, megabytes: u64) -> Result<()> {
        let (from, length) = (self.megabytes, megabytes);
        let script = format!("fallocate -o {from}M -l {length}M /pg/data/file");
        self.container.shell(&script).with_context(|| format!("{from} MiB are taken"))?;
        self.megabytes += megabytes;
        Ok(())
    }
}

fn grows(stage: &Stage) -> Result<()> {
    let (engine, plugin) = (stage.engine(), stage.plugin()?);
    set_limit(stage, plugin, "6G")?;
    let cluster = volume(engine, "pgvol")?;
    let pg = server(engine, &[])?;
    let mut writer = pg.writer()?;
    ensure!(image(engine)? == 3 * GIB, "{}", image(engine)?);
    let other = Volume::create(engine, "pgvol", "filler", &[])?;
    let mut filler = Filler::new(stage)?;
    filler.next(2000)?;
    for step in 0..9 {
        filler.next(200)?;
        writer.advance(20)?;
        if step == 4 {
            plugin.kill()?;
        }
        let wanted = (filler.megabytes << 20) + GIB / 2;
        eventually(LIMIT, || {
            let size = image(engine)?;
            ensure!(size > wanted, "{size} bytes are not ahead of {wanted}");
            Ok(())
        })?;
    }
    let last = writer.finish()?;
    pg.check_numbers(last)?;
    ensure!(image(engine)? <= 6 * GIB, "{} bytes are beyond the limit", image(engine)?);
    drop(filler);
    other.remove()?;
    settled(engine)?;
    // The file system gives the space back behind the answer.
    eventually(LIMIT, || {
        call(plugin, "GiveBack", &json!({"pool": "default"}))?;
        let size = image(engine)?;
        ensure!(size == 3 * GIB, "{size} bytes are left");
        Ok(())
    })?;
    pg.restart()?;
    pg.check_numbers(last)?;
    drop(pg);
    cluster.remove()?;
    set_limit(stage, plugin, "3G")
}

fn alarms(stage: &Stage) -> Result<()> {
    let (engine, plugin) = (stage.engine(), stage.plugin()?);
    let volume = Volume::create(engine, "pgvol", "filler", &[])?;
    let alarm = || Ok::<_, anyhow::Error>(volume.inspect()?["Status"]["alarms"].to_string());
    ensure!(alarm()? == "null", "{}", alarm()?);
    let mut filler = Filler::new(stage)?;
    filler.next(2300)?;
    eventually(LIMIT, || {
        ensure!(alarm()?.contains("of all that it can grow to"), "{}", alarm()?);
        Ok(())
    })?;
    let status = call(plugin, "Status", &json!({}))?.to_string();
    ensure!(status.contains("of all that it can grow to"), "{status}");
    ensure!(image(engine)? == 3 * GIB, "it has grown");
    filler.container.shell("rm /pg/data/file")?;
    eventually(LIMIT, || {
        ensure!(alarm()? == "null", "{}", alarm()?);
        Ok(())
    })?;
    drop(filler);
    volume.remove()
}
