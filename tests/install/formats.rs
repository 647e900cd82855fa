//! State that a newer version has written is refused in words, and left as it is.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, eventually};

use crate::state::{POOL, create, on_bare};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("a_volume_of_a_newer_format_is_refused", volume).tolerating(&["newer than"]),
        // The reason is logged, and then said on stderr as well, over several lines.
        Scenario::new("journals_of_a_newer_format_are_refused", journals).tolerating(&[
            "newer than",
            "Error: state directory",
            "Caused by:",
        ]),
    ]
}

fn volume(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pgvol", &[POOL])?;
        engine.docker(&["volume", "create", "--driver", "pgvol", "appdb"])?;
        engine.docker(&["plugin", "disable", "--force", "pgvol"])?;
        let record = "/var/lib/pgvol/catalog/appdb.record";
        engine.shell(&format!("sed -i.old '1s/^pgvol-volume 1 /pgvol-volume 2 /' {record}"))?;
        let written = engine.shell(&format!("cat {record}"))?;
        engine.docker(&["plugin", "enable", "pgvol"])?;
        let said = engine.refused(&["run", "--rm", "--volume=appdb:/pg", "base", "true"])?;
        ensure!(said.contains("format 2 of the pgvol-volume record is newer than 1"), "{said}");
        let said = engine.refused(&["volume", "rm", "appdb"])?;
        ensure!(said.contains("newer than 1"), "{said}");
        let shown = engine.docker(&["volume", "inspect", "appdb"])?;
        ensure!(shown.contains("newer than 1"), "{shown}");
        ensure!(engine.shell(&format!("cat {record}"))? == written, "the record is another");
        engine.docker(&["plugin", "disable", "--force", "pgvol"])?;
        engine.shell(&format!("mv {record}.old {record}"))?;
        engine.docker(&["plugin", "enable", "pgvol"])?;
        engine.docker(&["volume", "rm", "appdb"]).map(drop)
    })
}

fn journals(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    on_bare(engine, || {
        create(engine, "pglog", &[])?;
        engine.docker(&["plugin", "disable", "pglog"])?;
        engine.shell("sed -i '1s/ 1 / 2 /' /var/lib/pglog/format")?;
        let position = engine.log().position()?;
        let said = engine.refused(&["plugin", "enable", "pglog"])?;
        let logged = engine.log().plugin_lines(position)?.join("\n");
        ensure!(logged.contains("newer than 1"), "enable said {said}; the log says {logged}");
        engine.shell("grep ' 2 ' /var/lib/pglog/format")?;
        engine.shell("sed -i '1s/ 2 / 1 /' /var/lib/pglog/format")?;
        // The engine is still busy with the end of the process that it has given up.
        eventually(Duration::from_secs(20), || engine.docker(&["plugin", "enable", "pglog"]))?;
        Ok(())
    })
}
