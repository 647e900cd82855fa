//! `docker pgvol` on real volumes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Scenario, Stage, Volume, eventually};
use serde_json::{Value, json as value};

use crate::{ends_with, json, says};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("volumes_are_listed", ls),
        Scenario::new("a_volume_is_inspected", inspect),
        Scenario::new("disk_usage_is_shown", df),
        Scenario::new("the_plugin_shows_itself", status),
        Scenario::new("a_pool_is_shrunk", shrink).tolerating(&["Pgvol.GiveBack"]),
        Scenario::new("a_volume_that_cannot_be_read_is_shown_as_degraded", degraded)
            .tolerating(&["a record cannot be read"]),
        Scenario::new("snapshots_are_removed_each_by_itself", dropped).tolerating(&["Pgvol."]),
        Scenario::new("a_removed_volume_comes_back_and_goes", removed).tolerating(&["Pgvol."]),
    ]
}

fn ls(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let engine = stage.engine();
    ensure!(
        json(stage, &["pgvol", "ls", "--json"])? == value!({"volumes": []}),
        "there are volumes"
    );
    let labels = ["label.team=billing", "label.note=two words"];
    let appdb = Volume::create(engine, "pgvol", "appdb", &labels)?;
    let other = Volume::create(engine, "pgvol", "other", &[])?;
    let user = Container::run(engine, "user", &["-v", "appdb:/pg", "base", "sleep", "1000"])?;
    let list = json(stage, &["pgvol", "ls", "--json"])?;
    let created = appdb.inspect()?["CreatedAt"].clone();
    ensure!(created.is_string(), "no time of creation");
    let expected = value!({
        "name": "appdb", "state": "ok", "layout": "split", "mounts": 1, "created": created,
        "labels": {"team": "billing", "note": "two words"},
    });
    ensure!(list["volumes"][0] == expected, "{list}");
    ensure!(list["volumes"][1]["name"] == "other" && list["volumes"][1]["mounts"] == 0, "{list}");
    let text = engine.docker(&["pgvol", "ls"])?;
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split("   ").map(str::trim).filter(|c| !c.is_empty()).collect())
        .collect();
    ensure!(rows.len() == 3 && rows[0][..3] == ["NAME", "STATE", "LAYOUT"], "{text}");
    ensure!(rows[1][..4] == ["appdb", "ok", "split", "1"], "{text}");
    ensure!(rows[1].last() == Some(&"note=two words team=billing"), "{text}");
    drop((user, other));
    appdb.remove()
}

fn inspect(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let volume = Volume::create(stage.engine(), "pgvol", "appdb", &["tablespaces=fast"])?;
    let docker = volume.inspect()?;
    let shown = json(stage, &["pgvol", "inspect", "--json", "appdb"])?;
    let Value::Object(mut fields) = shown[0].clone() else { anyhow::bail!("{shown}") };
    ensure!(fields.remove("name") == Some(value!("appdb")), "{shown}");
    ensure!(fields.remove("created").as_ref() == docker.get("CreatedAt"), "{shown}");
    // The rest is what Docker shows as Status.
    ensure!(Some(&Value::Object(fields)) == docker.get("Status"), "{shown} beside {docker}");
    let text = stage.engine().docker(&["pgvol", "inspect", "appdb"])?;
    says(&text, &["name: appdb", "state: ok", "  tablespace.fast:\n    path: tablespaces/fast"])?;
    // What there is is shown, and what is missing is said.
    let said = ends_with(stage, 1, "docker pgvol inspect gone appdb ../x")?;
    says(
        &said,
        &["name: appdb", "docker pgvol: no such volume: gone", "`../x` is no volume name"],
    )?;
    let found = ends_with(stage, 1, "docker pgvol inspect gone appdb --json 2>/dev/null")?;
    let found = found.strip_suffix("status 1").context("a status")?;
    let found: Value = serde_json::from_str(found)?;
    ensure!(found.as_array().is_some_and(|list| list.len() == 1), "{found}");
    Ok(())
}

fn df(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let engine = stage.engine();
    let volume = Volume::create(engine, "pgvol", "appdb", &["tablespaces=fast"])?;
    let script = "head -c 3M /dev/urandom >/pg/wal/file; head -c 1M /dev/urandom >/pg/tablespaces/fast/file; sync";
    engine.docker(&["run", "--rm", "-v", "appdb:/pg", "base", "bash", "-euc", script])?;
    let usage = json(stage, &["pgvol", "df", "--json"])?;
    let shares = usage["shares"].as_array().context("shares")?;
    for (role, pool, least) in
        [("data", "default", 0), ("wal", "wal", 3 << 20), ("tablespace.fast", "default", 1 << 20)]
    {
        let share = shares.iter().find(|share| share["role"] == role).context(role)?;
        ensure!(share["volume"] == "appdb" && share["pool"] == pool, "{share}");
        let used = share["used"].as_u64().context("used")?;
        ensure!((least..least + (1 << 20)).contains(&used), "{share}");
    }
    let exact = json(stage, &["pgvol", "df", "--exact", "--json"])?;
    let freed = exact["shares"][1]["freed"].as_u64().context("freed")?;
    ensure!(exact["shares"][1]["role"] == "wal" && freed >= 3 << 20, "{exact}");
    ensure!(shares[1].get("freed").is_none(), "{usage}");
    says(&engine.docker(&["pgvol", "df", "--exact"])?, &["BY DELETING"])?;
    let text = engine.docker(&["pgvol", "df"])?;
    says(
        &text,
        &["VOLUME", "appdb    wal               wal       3.", "BY VOLUMES", "default   1.0 GiB"],
    )?;
    volume.remove()
}

fn status(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let volume = Volume::create(stage.engine(), "pgvol", "appdb", &[])?;
    let status = json(stage, &["pgvol", "status", "--json"])?;
    ensure!(status["version"] == "0.1.0", "{status}");
    let settings = [("LOG_LEVEL", "info"), ("POOL_SIZE", "1G"), ("POOL_MAX", "none")];
    ensure!(settings.iter().all(|(name, is)| status["settings"][name] == *is), "{status}");
    ensure!(status["volumes"] == value!({"ok": 1}), "{status}");
    ensure!(status["state_directory"] == "/var/lib/pgvol", "{status}");
    let pools = status["pools"].as_array().context("pools")?;
    let paths = ["/var/lib/pgvol/pools/default.img", "/var/lib/pgvol/wal"];
    for ((pool, (name, kind)), path) in
        pools.iter().zip([("default", "image"), ("wal", "dir")]).zip(paths)
    {
        ensure!(pool["name"] == name && pool["kind"] == kind && pool["path"] == path, "{pool}");
        ensure!(pool["state"] == "open", "{pool}");
        let [size, used, free] = ["size", "used", "free"].map(|field| pool[field].as_u64());
        let (size, used, free) =
            (size.context("size")?, used.context("used")?, free.context("free")?);
        ensure!(size == used + free && free > 0, "{pool}");
        ensure!(name != "default" || size == 1 << 30, "{pool}");
        // It is the host's own path.
        stage.engine().shell(&format!("test -e {path}"))?;
    }
    let text = stage.engine().docker(&["pgvol", "status"])?;
    says(
        &text,
        &["POOL_SIZE=1G", "volumes:    1 ok", "default   image   1.0 GiB", paths[0], "open"],
    )?;
    volume.remove()
}

/// By nothing, where it has not grown; that it does otherwise is shown in tests/volume/pool.rs.
fn shrink(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let said = stage.engine().docker(&["pgvol", "pool", "shrink"])?;
    ensure!(said == "default: 0 B given back", "{said}");
    let said = ends_with(stage, 1, "docker pgvol pool shrink other")?;
    says(&said, &["there is no pool other"])
}

fn degraded(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let engine = stage.engine();
    let volume = Volume::create(engine, "pgvol", "torn", &[])?;
    engine.shell("cp /var/lib/pgvol/catalog/torn.record /tmp/whole; echo >>/var/lib/pgvol/catalog/torn.record")?;
    plugin.kill()?;
    let list = json(stage, &["pgvol", "ls", "--json"])?;
    ensure!(list["volumes"][0]["state"] == "degraded", "{list}");
    let status = json(stage, &["pgvol", "status", "--json"])?;
    ensure!(status["degraded"][0]["name"] == "torn", "{status}");
    let reason = status["degraded"][0]["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("damaged"), "{status}");
    let text = ends_with(stage, 0, "docker pgvol status; docker pgvol inspect torn")?;
    says(&text, &["1 degraded", "torn: ", "state: degraded", "reason: "])?;
    engine.shell("mv /tmp/whole /var/lib/pgvol/catalog/torn.record")?;
    plugin.kill()?;
    volume.remove()
}

/// One that is not there keeps no other from going, and in JSON the answer is one.
fn dropped(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let engine = stage.engine();
    let volume = Volume::create(engine, "pgvol", "appdb", &[])?;
    for name in ["appdb@a", "appdb@b", "appdb@c"] {
        engine.docker(&["pgvol", "snapshot", "create", name])?;
    }
    let said = ends_with(stage, 1, "docker pgvol snapshot rm appdb@a appdb@gone appdb@b")?;
    says(&said, &["appdb@a\nappdb@b\n", "docker pgvol: no such snapshot: appdb@gone"])?;
    let gone = json(stage, &["pgvol", "snapshot", "rm", "--json", "appdb@c"])?;
    ensure!(gone == value!([{"name": "appdb@c"}]), "{gone}");
    let left = json(stage, &["pgvol", "snapshot", "ls", "--json"])?;
    ensure!(left == value!({"snapshots": []}), "{left}");
    volume.remove()
}

fn removed(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    let engine = stage.engine();
    for _ in 0..2 {
        Volume::create(engine, "pgvol", "back", &["label.a=1", "label.b=2"])?.remove()?;
    }
    let trash = || json(stage, &["pgvol", "trash", "--json"]);
    let ids = trash()?["volumes"].as_array().context("volumes")?.clone();
    // What other scenarios have removed is there too, under other names.
    let ids = ids.iter().filter(|removed| removed["name"] == "back");
    let ids: Vec<_> = ids.map(|removed| removed["id"].clone()).collect();
    ensure!(ids == ["back~0", "back~1"], "{ids:?}");
    says(&engine.docker(&["pgvol", "trash"])?, &["KEPT UNTIL", "back~1", "kept"])?;
    let name = engine.docker(&["pgvol", "undelete", "back"])?;
    ensure!(name == "back", "{name}");
    let said = ends_with(stage, 1, "docker pgvol undelete back")?;
    says(&said, &["volume back exists", "--as NAME"])?;
    engine.docker(&["pgvol", "undelete", "back~0", "--as", "older"])?;
    engine.docker(&["pgvol", "set", "older", "label.a=x=y", "label.c=", "--unset", "label.b"])?;
    let shown = json(stage, &["pgvol", "inspect", "older", "--json"])?;
    ensure!(shown[0]["labels"] == value!({"a": "x=y", "c": ""}), "{shown}");
    let said = ends_with(stage, 1, "docker pgvol set older uid=70")?;
    says(&said, &["`uid` cannot be changed", "snapshot.keep and label.KEY"])?;
    for words in ["set older", "set older label.a", "purge", "purge --all older", "undelete"] {
        ends_with(stage, 2, &format!("docker pgvol {words}"))?;
    }
    engine.docker(&["volume", "rm", "back", "older"])?;
    let said = ends_with(stage, 1, "docker pgvol purge gone")?;
    says(&said, &["the trash has no gone"])?;
    let ids = engine.docker(&["pgvol", "purge", "older"])?;
    ensure!(ids == "back~0", "{ids}");
    engine.docker(&["pgvol", "purge", "--all"])?;
    eventually(Duration::from_secs(30), || {
        let left = trash()?;
        ensure!(left == value!({"volumes": []}), "{left}");
        Ok(())
    })
}
