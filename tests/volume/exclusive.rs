//! `access=exclusive`: one container at a time.

use anyhow::{Result, ensure};
use harness::{Container, Scenario, Stage, Volume};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("guard::exclusive_volume", one_at_a_time).tolerating(&["VolumeDriver.Mount"]),
    ]
}

fn one_at_a_time(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let volume = Volume::create(engine, stage.driver("pgvol")?, "alone", &["access=exclusive"])?;
    // One container may mount it twice.
    let twice = ["-v", "alone:/one", "-v", "alone:/two", "postgres:17", "sleep", "infinity"];
    let holder = Container::run(engine, "holder", &twice)?;
    ensure!(volume.inspect()?["Status"]["access"] == "exclusive");
    let id = holder.inspect("{{.Id}}")?;
    let look = ["run", "--rm", "-v", "alone:/pg", "postgres:17", "ls", "/pg"];
    for _ in 0..2 {
        let said = engine.refused(&look)?;
        ensure!(said.contains("access=exclusive") && said.contains(&id), "refused by: {said}");
        stage.plugin()?.kill()?;
    }
    // What docker does with the holder itself is the holder's.
    engine.docker(&["cp", "holder:/one/data", "/tmp/copied"])?;
    engine.docker(&["restart", "--time", "0", "holder"])?;
    drop(holder);
    engine.docker(&look)?;
    volume.remove()
}
