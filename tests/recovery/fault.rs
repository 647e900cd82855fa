//! That the trial would see a copy that is wrong: WAL captured seconds before the data, put together on
//! the host's disk out of two snapshots. The plugin takes no such copy, so the test makes it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Stage, eventually};
use serde_json::json;

use crate::load::{Load, Pace};
use crate::trial::status;

const TIMES: usize = 5;

pub(crate) fn run(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let plugin = stage.plugin()?;
    let load = Load::start(engine, &["tablespace.far.pool=wal"], Pace::Calm)?;
    let take = |name: &str| {
        let options = ["--driver", "pgvol", "--opt", "snapshot=now", name];
        engine.docker(&[&["volume", "create"][..], &options].concat())
    };
    let verify = |name: &str| -> Result<String> {
        let (_, answer) =
            plugin.call("/Pgvol.Verify", &json!({"name": name, "pages": true}).to_string())?;
        Ok(answer.to_string())
    };
    for number in 1..=TIMES {
        let (before, after) = (format!("db@before{number}"), format!("db@after{number}"));
        take(&before)?;
        let rows = "SELECT count(*) FROM pgbench_history";
        let count: u64 = load.pg.psql(rows)?.parse()?;
        // Pages that were changed since have to be in the data, as seconds later they are.
        eventually(Duration::from_mins(1), || {
            let now: u64 = load.pg.psql(rows)?.parse()?;
            ensure!(now > count + 500, "{now} rows, {count} before");
            Ok(())
        })?;
        take(&after)?;
        let passed = verify(&after)?;
        ensure!(passed.contains("\"pages\"") && !passed.contains("Err"), "{passed}");
        // A share is called after that of its volume, which need not be called like the volume.
        engine.shell(&format!(
            "cd /var/lib/pgvol/wal; after=$(echo *@after{number}*)/wal
            rm \"$after\"/*; cp --archive *@before{number}*/wal/. \"$after\"/"
        ))?;
        let said = verify(&after)?;
        let named = ["the check `pages`", "the check `wal`"];
        ensure!(named.iter().any(|check| said.contains(check)), "not noticed: {said}");
        for name in [&before, &after] {
            engine.docker(&["volume", "rm", name])?;
        }
    }
    let shown = status(engine, "db")?;
    shown.as_object().context("a status")?;
    let Load { pg, volume, .. } = load;
    drop(pg);
    volume.remove()
}
