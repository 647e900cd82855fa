//! The same binaries make the same plugin, whenever and wherever they are packaged.

use anyhow::{Result, ensure};
use harness::{Engine, Scenario, Stage, package};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("the_same_files_make_the_same_plugin", same_files)]
}

fn same_files(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    // Copies, so that their times are of now and not of the build.
    engine.shell(
        "mkdir /var/lib/bin; cp /srv/pgvol/rootfs/pgvol /srv/pglog/rootfs/pglog /var/lib/bin",
    )?;
    let binaries = engine.path("/var/lib/bin");
    package(&binaries, &engine.path("/var/lib/first"))?;
    engine.shell("touch /var/lib/bin/*")?;
    // As in /var/lib itself, where volumes are.
    engine.shell("mkdir -p /var/lib/second/pgvol/catalog")?;
    ensure!(package(&binaries, &engine.path("/var/lib/second")).is_err(), "a state is no package");
    engine.shell("rmdir /var/lib/second/pgvol/catalog /var/lib/second/pgvol")?;
    package(&binaries, &engine.path("/var/lib/second"))?;
    let mut first = Vec::new();
    for plugin in ["pgvol", "pglog"] {
        let digests = ["first", "second"].map(|name| digest(engine, name, plugin));
        let [one, other] = digests;
        let (one, other) = (one?, other?);
        ensure!(one == other, "two packages of {plugin} differ: {one} and {other}");
        first.push(one);
    }
    // Since an engine takes the same layer only once.
    ensure!(first[0] != first[1], "pgvol and pglog are one: {}", first[0]);
    engine.shell("rm -r /var/lib/bin /var/lib/first /var/lib/second").map(drop)
}

/// What dockerd makes of a packaged plugin: the digests of its configuration and of its layer.
fn digest(engine: &Engine, package: &str, plugin: &str) -> Result<String> {
    engine.docker(&["plugin", "create", "digest", &format!("/var/lib/{package}/{plugin}")])?;
    let id = engine.docker(&["plugin", "inspect", "--format", "{{.Id}}", "digest"])?;
    let digests = engine.shell(&format!("cat /var/lib/docker/plugins/{id}/config.json"))?;
    engine.docker(&["plugin", "rm", "digest"])?;
    let digests: serde_json::Value = serde_json::from_str(&digests)?;
    ensure!(digests["Blobsums"].is_array(), "no layers in {digests}");
    Ok(format!("{} {}", digests["Config"], digests["Blobsums"]))
}
