//! What was removed is kept, comes back, and goes when it is time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Engine, Pg, Plugin, Scenario, Stage, eventually};
use serde_json::{Value, json};

use crate::postgres::{server, volume};

const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("trash_gives_back_a_cluster", comes_back)
            .tolerating(&["Pgvol.Undelete", "VolumeDriver.Create"]),
        Scenario::new("trash_survives_kills", killed),
        Scenario::new("trash_makes_room", makes_room).tolerating(&["the pool fills"]),
        // The one before has filled it, and what was deleted since is still being given back.
        Scenario::new("trash_goes_in_time", in_time).tolerating(&["the pool fills"]),
    ]
}

/// Waits until nothing of what was removed is still being deleted.
pub(crate) fn settled(engine: &Engine) -> Result<()> {
    eventually(LIMIT, || {
        let left = engine.shell("ls /var/lib/pgvol/catalog | grep '[.]removing$' || :")?;
        ensure!(left.is_empty(), "still being deleted: {left}");
        Ok(())
    })
}

/// Runs `scenario` with removed volumes being kept for `time`.
fn keeping(stage: &Stage, time: &str, scenario: impl FnOnce(&Plugin) -> Result<()>) -> Result<()> {
    let plugin = stage.plugin()?;
    let set = |time: &str| {
        plugin.disable()?;
        stage.engine().docker(&["plugin", "set", "pgvol", &format!("TRASH={time}")])?;
        plugin.enable()
    };
    set(time)?;
    scenario(plugin)?;
    set("0")?;
    settled(stage.engine())
}

pub(crate) fn call(plugin: &Plugin, call: &str, body: &Value) -> Result<Value> {
    let (code, answer) = plugin.call(&format!("/Pgvol.{call}"), &body.to_string())?;
    ensure!(code == 200 && answer.get("Err").is_none(), "{call} {body}: {code} {answer}");
    Ok(answer)
}

fn trash(plugin: &Plugin) -> Result<Vec<Value>> {
    let trash = call(plugin, "Trash", &json!({}))?;
    trash["volumes"].as_array().cloned().context("a list of volumes")
}

fn comes_back(stage: &Stage) -> Result<()> {
    keeping(stage, "24h", |plugin| {
        let engine = stage.engine();
        let first = volume(engine, "pgvol")?;
        let pg = server(engine, &[])?;
        pg.psql("CREATE TABLE hot (n int) TABLESPACE pg_default; INSERT INTO hot VALUES (7)")?;
        let mut writer = pg.writer()?;
        writer.advance(300)?;
        let last = writer.finish()?;
        let message = engine.refused(&["volume", "rm", "db"])?;
        ensure!(message.contains("in use"), "{message}");
        drop(pg);
        first.remove()?;
        ensure!(engine.docker(&["volume", "ls", "--quiet"])?.is_empty(), "still listed");
        let trashed = trash(plugin)?;
        ensure!(trashed.len() == 1 && trashed[0]["name"] == "db", "{trashed:?}");
        ensure!(trashed[0]["used"].as_u64().is_some_and(|bytes| bytes > 10 << 20), "{trashed:?}");
        // The name is free, for a cluster of its own.
        let second = volume(engine, "pgvol")?;
        let pg = server(engine, &[])?;
        ensure!(pg.psql("SELECT to_regclass('hot')")?.is_empty(), "the old cluster is there");
        drop(pg);
        let (_, taken) = plugin.call("/Pgvol.Undelete", r#"{"name":"db"}"#)?;
        ensure!(taken["Err"].as_str().is_some_and(|text| text.contains("--as")), "{taken}");
        plugin.kill()?;
        call(plugin, "Undelete", &json!({"name": "db", "as": "before"}))?;
        let options = ["-v", "before:/pg", "-e", "PGDATA=/pg/data"];
        let pg = Pg::start(engine, "again", &options)?;
        pg.check_numbers(last)?;
        ensure!(pg.psql("SELECT n FROM hot")? == "7");
        drop(pg);
        engine.docker(&["volume", "rm", "before"])?;
        second.remove()?;
        ensure!(trash(plugin)?.len() == 2, "{:?}", trash(plugin)?);
        // One of each name, both made for a volume `db`.
        call(plugin, "Purge", &json!({"names": ["before"]}))?;
        settled(engine)?;
        // Nothing has to go for what cannot be.
        let huge = ["volume", "create", "-d", "pgvol", "-o", "wal.size=900T", "huge"];
        let said = engine.refused(&huge)?;
        ensure!(said.contains("of the host's disk are wanted"), "{said}");
        let left = trash(plugin)?;
        ensure!(left.len() == 1 && left[0]["id"] == "db~1", "{left:?}");
        let shares = engine.shell("ls /var/lib/pgvol/wal")?;
        ensure!(shares == "db~1", "{shares}");
        Ok(())
    })
}

/// Runs `script` where each of `volumes` is mounted below `/v` by its name.
fn with_all(engine: &Engine, volumes: &[String], script: &str) -> Result<String> {
    let mounts: Vec<_> = volumes.iter().map(|name| format!("-v={name}:/v/{name}")).collect();
    let mut arguments = vec!["run", "--rm"];
    arguments.extend(mounts.iter().map(String::as_str));
    arguments.extend(["postgres:17", "bash", "-euc", script]);
    engine.docker(&arguments)
}

/// What was removed is kept or a volume still, whole in either case, and no space is lost.
fn killed(stage: &Stage) -> Result<()> {
    let names: Vec<_> = (0..24).map(|number| format!("k{number}")).collect();
    keeping(stage, "24h", |plugin| {
        let engine = stage.engine();
        engine.shell(&format!(
            "for name in {}; do docker volume create -d pgvol $name; done",
            names.join(" ")
        ))?;
        with_all(engine, &names, "cd /v; for d in */data */wal; do echo ${d%/*} >$d/name; done")?;
        let removals = format!(
            "for name in {}; do docker volume rm $name || :; sleep 0.2; done",
            names.join(" ")
        );
        let remover = engine.in_background(&removals)?;
        remover.next(LIMIT)?;
        for _ in 0..4 {
            plugin.kill()?;
        }
        let acknowledged = remover.rest(LIMIT)?.len() + 1;
        let kept = trash(plugin)?;
        let volumes = engine.docker(&["volume", "ls", "--quiet"])?;
        ensure!(kept.len() + volumes.lines().count() == names.len(), "{kept:?} and {volumes:?}");
        ensure!(kept.len() >= acknowledged, "{acknowledged} were removed, kept are {kept:?}");
        let mut renamed: Vec<_> = volumes.lines().map(str::to_owned).collect();
        for trashed in &kept {
            let name = trashed["name"].as_str().context("a name")?;
            renamed.push(format!("u{name}"));
            call(plugin, "Undelete", &json!({"name": name, "as": renamed.last()}))?;
        }
        let read = "cd /v; for v in *; do cat $v/data/name $v/wal/name; done | sort | uniq -c";
        let found = with_all(engine, &renamed, read)?;
        for name in &names {
            ensure!(found.lines().any(|line| line.trim() == format!("2 {name}")), "{found}");
        }
        engine.shell("docker volume ls --quiet | xargs docker volume rm")?;
        call(plugin, "Purge", &json!({"all": true}))?;
        plugin.kill()?;
        settled(engine)?;
        let left =
            engine.shell("ls /var/lib/pgvol/catalog /var/lib/pgvol/wal | grep 'k[0-9]' || :")?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}

/// A pool that fills takes the oldest of the trash, before whoever writes sees an error.
fn makes_room(stage: &Stage) -> Result<()> {
    keeping(stage, "24h", |plugin| {
        let engine = stage.engine();
        // Each is a good fifth of what fits.
        let fill =
            "cd /v/*/data; for n in $(seq 14); do head -c 50M /dev/zero; sleep 0.3; done >file";
        for name in ["first", "second", "third", "fourth", "fifth"] {
            engine.docker(&["volume", "create", "--driver", "pgvol", name])?;
            with_all(engine, &[name.to_owned()], fill).with_context(|| format!("fill {name}"))?;
            engine.docker(&["volume", "rm", name])?;
        }
        let kept = trash(plugin)?;
        ensure!(kept.last().is_some_and(|last| last["name"] == "fifth"), "{kept:?}");
        ensure!(kept.len() < 5 && kept.iter().all(|kept| kept["name"] != "first"), "{kept:?}");
        Ok(())
    })
}

fn in_time(stage: &Stage) -> Result<()> {
    keeping(stage, "5s", |plugin| {
        let engine = stage.engine();
        for name in ["one", "two"] {
            engine.docker(&["volume", "create", "--driver", "pgvol", name])?;
            engine.docker(&["volume", "rm", name])?;
        }
        eventually(LIMIT, || {
            let kept = trash(plugin)?;
            ensure!(kept.is_empty(), "{kept:?}");
            Ok(())
        })
    })
}
