//! What a shell is offered: `docker __complete ...`, as Docker's completion scripts call it. The docker command
//! asks its plugins from 23.0 on.

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, Version, Volume};

use crate::ends_with;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("a_shell_is_offered_commands_volumes_and_flags", offered)
            .since(Version::V26_1, "completion by plugins"),
        Scenario::new("a_shell_is_offered_nothing_where_nobody_answers", nothing)
            .tolerating(&["the caller did not wait for the answer"])
            .since(Version::V26_1, "completion by plugins"),
    ]
}

fn offered(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let volumes = ["appdb", "other"];
    let volumes = volumes.map(|name| Volume::create(stage.engine(), "pgvol", name, &[]));
    for (words, expected) in [
        ("pgvol inspect ''", "appdb\nother\n:4"),
        ("pgvol inspect a", "appdb\n:4"),
        ("pgvol inspect appdb ''", "other\n:4"),
        ("pgvol in", "inspect\tShow all that is known of volumes\n:4"),
        ("pgvol ls ''", ":4"),
        ("pgvol ls --j", "--json\tPrint the plugin's answer as JSON\n:4"),
    ] {
        let found = complete(stage, words)?;
        ensure!(found == expected, "{words}: {found:?}");
    }
    let listed = complete(stage, "pgvol snapshot create --consistency ba")?;
    ensure!(listed == "barrier\nbackup\n:4", "{listed}");
    let listed = complete(stage, "pgvol move appdb wal ''")?;
    ensure!(listed == "default\nwal\n:4", "{listed}");
    let listed = complete(stage, "pgvol ls --plugin ''")?;
    ensure!(listed == "pgvol:latest\n:4", "{listed}");
    stage.engine().docker(&["pgvol", "snapshot", "create", "appdb@first"])?;
    for (words, expected) in [
        ("pgvol restore ''", "appdb@first\n:4"),
        ("pgvol snapshot rm appdb", "appdb@first\n:4"),
        ("pgvol snapshot create ''", ":4"),
        ("pgvol clone ''", "appdb\nappdb@first\nother\n:4"),
    ] {
        let found = complete(stage, words)?;
        ensure!(found == expected, "{words}: {found:?}");
    }
    volumes.into_iter().try_for_each(|volume| volume?.remove())
}

fn nothing(stage: &Stage) -> Result<()> {
    for words in ["pglog inspect ''", "pglog ls ''"] {
        let found = complete(stage, words)?;
        ensure!(found == ":4", "{words}: {found:?}");
    }
    // Nor is a plugin waited for that does not answer.
    let pid = stage.plugin()?.pid()?;
    stage.engine().shell(&format!("kill -STOP {pid}"))?;
    let found = complete(stage, "pgvol inspect ''");
    stage.engine().shell(&format!("kill -CONT {pid}"))?;
    let found = found?;
    ensure!(found == ":4", "{found:?}");
    Ok(())
}

fn complete(stage: &Stage, words: &str) -> Result<String> {
    let said = ends_with(stage, 0, &format!("timeout 20 docker __complete {words} 2>/dev/null"))?;
    Ok(said.strip_suffix("\nstatus 0").unwrap_or(&said).to_owned())
}
