//! Volumes come, are shown and go.

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, Volume};

const DRIVERS: &[&str] = &["local", "pgvol"];

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut scenarios = Scenario::for_drivers("life_of_a_volume", DRIVERS, life);
    scenarios.extend(Scenario::for_drivers("existing_name", DRIVERS, existing_name));
    scenarios.extend(Scenario::for_drivers("anonymous_volume", DRIVERS, anonymous));
    scenarios.push(Scenario::new("status", status));
    scenarios
        .push(Scenario::new("create_is_idempotent", idempotent).tolerating(&["twice", "hung up"]));
    scenarios
}

fn names(stage: &Stage, driver: &str) -> Result<Vec<String>> {
    let text = stage.engine().docker(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"])?;
    let of_driver = |line: &str| {
        let (found, name) = line.split_once(' ')?;
        (plain(found) == driver).then(|| name.to_owned())
    };
    Ok(text.lines().filter_map(of_driver).collect())
}

/// The name of a driver as Docker shows it, without the tag that it gives plugins.
fn plain(driver: &str) -> &str {
    driver.trim_end_matches(":latest")
}

fn life(stage: &Stage, driver: &'static str) -> Result<()> {
    let volume = Volume::create(stage.engine(), driver, "life", &[])?;
    let shown = volume.inspect()?;
    let shown_driver = shown["Driver"].as_str().map(plain);
    ensure!(shown["Name"] == "life" && shown_driver == Some(driver), "{shown}");
    ensure!(shown["Scope"] == "local", "{shown}");
    ensure!(shown["CreatedAt"].as_str().is_some_and(|time| time.starts_with("20")), "{shown}");
    ensure!(names(stage, driver)? == ["life"]);
    volume.remove()?;
    ensure!(names(stage, driver)?.is_empty());
    stage.engine().refused(&["volume", "inspect", "life"])?;
    // The name is free again, and what was in it is gone.
    let again = Volume::create(stage.engine(), driver, "life", &[])?;
    again.remove()
}

fn existing_name(stage: &Stage, driver: &'static str) -> Result<()> {
    let volume = Volume::create(stage.engine(), driver, "taken", &[])?;
    let before = volume.inspect()?;
    // Docker answers this itself: it knows the name.
    stage.engine().docker(&["volume", "create", "--driver", driver, "taken"])?;
    ensure!(volume.inspect()? == before);
    let other = if driver == "local" { stage.driver("pgvol")? } else { "local" };
    let message = stage.engine().refused(&["volume", "create", "--driver", other, "taken"])?;
    ensure!(message.contains("unique"), "{message}");
    volume.remove()
}

fn anonymous(stage: &Stage, driver: &'static str) -> Result<()> {
    let arguments =
        ["run", "--rm", "--volume-driver", driver, "-v", "/x", "postgres:17", "touch", "/x/file"];
    stage.engine().docker(&arguments)?;
    let left = names(stage, driver)?;
    ensure!(left.is_empty(), "--rm left {left:?}");
    Ok(())
}

fn status(stage: &Stage) -> Result<()> {
    let driver = stage.driver("pgvol")?;
    let options = ["tablespaces=fast", "label.team=billing"];
    let volume = Volume::create(stage.engine(), driver, "shown", &options)?;
    let shown = volume.inspect()?;
    let status = &shown["Status"];
    ensure!(status["state"] == "ok" && status["layout"] == "split", "{shown:#}");
    ensure!(status["labels"]["team"] == "billing", "{shown:#}");
    ensure!(shown["Options"]["label.team"] == "billing", "{shown:#}");
    let roles = status["roles"].to_string();
    for part in ["data", "wal", "fast", "default"] {
        ensure!(roles.contains(part), "no {part} in the roles: {shown:#}");
    }
    volume.remove()
}

/// dockerd repeats a Create that it believes lost: the same again is fine, another one is not.
fn idempotent(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let create = |body: &str| plugin.call("/VolumeDriver.Create", body);
    let body = r#"{"Name":"twice","Opts":{"uid":"1000"}}"#;
    for _ in 0..2 {
        let (code, answer) = create(body)?;
        ensure!(code == 200 && answer["Err"].as_str().unwrap_or("").is_empty(), "{code} {answer}");
    }
    let (_, answer) = create(r#"{"Name":"twice","Opts":{"uid":"1001"}}"#)?;
    ensure!(answer["Err"].as_str().is_some_and(|text| text.contains("twice")), "{answer}");
    // What dockerd sends after a broken connection: the same path with no body.
    for call in ["Create", "Remove", "Mount", "Unmount", "Path"] {
        let (code, answer) = plugin.call(&format!("/VolumeDriver.{call}"), "")?;
        let text = answer["Err"].as_str().unwrap_or_default();
        ensure!(!text.is_empty(), "{call} without a body: {code} {answer}");
    }
    // Any error of a Get would mean to dockerd that there is no such volume: no answer is right.
    ensure!(plugin.call("/VolumeDriver.Get", "").is_err(), "a Get without a body is answered");
    let (_, known) = plugin.call("/VolumeDriver.Get", r#"{"Name":"twice"}"#)?;
    ensure!(known["Volume"]["Name"] == "twice", "{known}");
    stage.engine().docker(&["volume", "rm", "twice"]).map(drop)
}
