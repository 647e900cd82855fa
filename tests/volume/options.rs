//! Options at create: taken as described, or refused by name with nothing left behind.

use anyhow::{Result, ensure};
use harness::{Container, Scenario, Stage, Volume};

use crate::trash::settled;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("unknown_options_are_refused", unknown).tolerating(REFUSED),
        Scenario::new("malformed_options_are_refused", malformed).tolerating(REFUSED),
        Scenario::new("options_not_yet_built_are_refused", not_yet_built).tolerating(REFUSED),
        Scenario::new("bad_names_are_refused", names).tolerating(REFUSED),
        Scenario::new("owners_and_modes", owners_and_modes),
        Scenario::new("pools_of_roles", pools),
        Scenario::new("copy_on_write", copy_on_write),
    ]
}

/// A refusal may be logged as a warning.
const REFUSED: &[&str] = &["VolumeDriver.Create"];

fn unknown(stage: &Stage) -> Result<()> {
    refused(stage, "bad", "colour=red", &["colour", "wal.pool"])?;
    refused(stage, "bad", "Pool=default", &["Pool", "pool"])?;
    refused(stage, "bad", "tablespace.x.colour=red", &["tablespace.x.colour"])
}

fn malformed(stage: &Stage) -> Result<()> {
    for (option, parts) in [
        ("pool=nowhere", ["pool", "nowhere", "default"]),
        ("wal.pool=nowhere", ["wal.pool", "nowhere", "wal"]),
        ("tablespaces=Fast", ["tablespaces", "Fast", "a-z"]),
        ("tablespaces=../up", ["tablespaces", "../up", "a-z"]),
        ("uid=postgres", ["uid", "postgres", ""]),
        ("uid=-1", ["uid", "-1", ""]),
        ("gid=4294967296", ["gid", "4294967296", ""]),
        ("mode=0999", ["mode", "0999", ""]),
        ("mode=rwx", ["mode", "rwx", ""]),
        ("cow=maybe", ["cow", "maybe", "on"]),
        ("access=shared", ["access", "shared", "exclusive"]),
        ("size=1", ["size", "1", "128M"]),
        ("snapshot.schedule=daily", ["snapshot.schedule", "daily", "crontab"]),
        ("snapshot.keep=7", ["snapshot.keep", "7", "hourly=24"]),
        ("snapshot=now", ["snapshot", "now", "VOLUME@SNAPSHOT"]),
        ("sanitize=off", ["sanitize", "off", "from"]),
        ("from=../up", ["from", "../up", "VOLUME@SNAPSHOT"]),
        // A tablespace that the volume does not have.
        ("tablespace.cold.pool=default", ["tablespace.cold.pool", "cold", "tablespaces"]),
        ("label.=x", ["label.", "", ""]),
    ] {
        refused(stage, "bad", option, &parts)?;
    }
    Ok(())
}

fn not_yet_built(stage: &Stage) -> Result<()> {
    refused(stage, "bad", "compress=zstd", &["compress", "not built yet"])
}

fn names(stage: &Stage) -> Result<()> {
    let long = "x".repeat(129);
    for name in ["a/b", "../up", ".hidden", "-dash", "sp ace", "ümlaut", long.as_str()] {
        refused(stage, name, "uid=999", &[name])?;
    }
    Ok(())
}

/// Creates a volume, which must fail with a message that has all `parts` and leave nothing.
fn refused(stage: &Stage, name: &str, option: &str, parts: &[&str]) -> Result<()> {
    let driver = stage.driver("pgvol")?;
    let files = || stage.engine().shell("find /var/lib/pgvol -printf '%p %m %U\\n' | sort");
    // Earlier scenarios' volumes go in the background.
    settled(stage.engine())?;
    let before = files()?;
    let arguments = ["volume", "create", "--driver", driver, "--opt", option, "--", name];
    let message = stage.engine().refused(&arguments)?;
    for part in parts {
        ensure!(message.contains(part), "{name} with {option}: no {part:?} in {message:?}");
    }
    ensure!(files()? == before, "{name} with {option} left something behind");
    let (_, list) = stage.plugin()?.call("/VolumeDriver.List", "{}")?;
    ensure!(!list.to_string().contains(&format!("\"{name}\"")), "{name} is listed: {list}");
    Ok(())
}

fn owners_and_modes(stage: &Stage) -> Result<()> {
    let driver = stage.driver("pgvol")?;
    for (options, expected) in [
        (vec!["tablespaces=fast,slow"], "999:999 700"),
        (vec!["tablespaces=fast slow", "uid=1000", "gid=1001", "mode=0750"], "1000:1001 750"),
    ] {
        let volume = Volume::create(stage.engine(), driver, "owners", &options)?;
        let script = "stat -c '%n %u:%g %a' /pg /pg/data /pg/wal /pg/tablespaces/*";
        let found = in_container(stage, "owners", script)?;
        let expected = format!(
            "/pg 0:0 755\n/pg/data {expected}\n/pg/wal {expected}\n\
             /pg/tablespaces/fast {expected}\n/pg/tablespaces/slow {expected}"
        );
        ensure!(found == expected, "{options:?}: {found}");
        volume.remove()?;
    }
    Ok(())
}

/// Each role is where its pool is, which shows in the file system it is on.
fn pools(stage: &Stage) -> Result<()> {
    let driver = stage.driver("pgvol")?;
    let script = "stat -f -c %T /pg/data /pg/wal /pg/tablespaces/*";
    for (options, expected) in [
        (vec!["tablespaces=a+b"], "btrfs ext2/ext3 btrfs btrfs"),
        (vec!["tablespaces=a+b", "tablespace.b.pool=wal"], "btrfs ext2/ext3 btrfs ext2/ext3"),
        (vec!["wal.pool=default"], "btrfs btrfs"),
        (vec!["pool=wal"], "ext2/ext3 ext2/ext3"),
    ] {
        let volume = Volume::create(stage.engine(), driver, "pools", &options)?;
        let script =
            script.trim_end_matches(if expected.len() < 20 { " /pg/tablespaces/*" } else { "" });
        let found = in_container(stage, "pools", script)?;
        ensure!(found.split_whitespace().eq(expected.split(' ')), "{options:?}: {found}");
        volume.remove()?;
    }
    Ok(())
}

fn copy_on_write(stage: &Stage) -> Result<()> {
    let driver = stage.driver("pgvol")?;
    for (option, attribute) in [("cow=off", true), ("cow=on", false)] {
        let volume = Volume::create(stage.engine(), driver, "cow", &[option])?;
        let arguments = ["-v", "cow:/pg", "postgres:17", "sleep", "infinity"];
        let container = Container::run(stage.engine(), "cow", &arguments)?;
        // On a new file, which has it from its directory.
        container.shell("touch /pg/data/file")?;
        let file = "/var/lib/docker/plugins/*/propagated-mount/cow/data/file";
        let flags = stage.engine().shell(&format!("lsattr {file}"))?;
        let flags = flags.split(' ').next().unwrap_or_default();
        ensure!(flags.contains('C') == attribute, "{option}: {flags}");
        drop(container);
        volume.remove()?;
    }
    Ok(())
}

fn in_container(stage: &Stage, volume: &str, script: &str) -> Result<String> {
    let mount = format!("{volume}:/pg");
    let arguments = ["run", "--rm", "-v", &mount, "postgres:17", "bash", "-euc", script];
    stage.engine().docker(&arguments)
}
