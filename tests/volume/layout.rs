//! The layout `pgdata`: the image's own path, and the WAL where it belongs from the second start on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Engine, Pg, Scenario, Stage, Volume};

const LIMIT: Duration = Duration::from_secs(30);

/// As for the official image of PostgreSQL 12 to 17.
const DATA: &[&str] = &["-v", "db:/var/lib/postgresql/data"];

/// As for that of 18, which has its cluster two directories below.
const PARENT: &[&str] = &["-v", "db:/var/lib/postgresql"];

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("layout_pgdata_is_the_image_s_own", |stage| {
            server(stage, DATA, "postgres:17", "pg_wal")
        }),
        Scenario::new("layout_pgdata_of_postgresql_18", |stage| {
            stage.engine().add_postgres(18)?;
            server(stage, PARENT, "postgres:18", "18/docker/pg_wal")
        }),
        Scenario::new("layout_pgdata_moves_nothing_from_under_a_crashed_server", crashed),
        Scenario::new("layout_pgdata_is_empty_and_owned", empty),
    ]
}

/// Where the WAL is, by Status.
fn wal_pool(volume: &Volume) -> Result<(String, String)> {
    let wal = &volume.inspect()?["Status"]["roles"]["wal"];
    let field = |name: &str| wal[name].as_str().unwrap_or_default().to_owned();
    Ok((field("pool"), field("path")))
}

/// WAL segments in a directory of the host; none where it is not there.
fn segments(engine: &Arc<Engine>, directory: &str) -> Result<usize> {
    let listed = engine.shell(&format!("ls {directory} 2>/dev/null || :"))?;
    Ok(listed.lines().filter(|name| name.len() == 24).count())
}

fn server(stage: &Stage, options: &[&str], image: &str, wal: &str) -> Result<()> {
    let engine = stage.engine();
    let volume = Volume::create(engine, stage.driver("pgvol")?, "db", &["layout=pgdata"])?;
    let pg = Pg::start_image(engine, "server", options, image)?;
    pg.pgbench(&["-i", "-q", "-s", "2"])?;
    let major = image.rsplit(':').next().unwrap_or_default();
    let shown = volume.inspect()?["Status"]["postgres"].clone();
    ensure!(shown["version"].as_str().is_some_and(|text| text.starts_with(major)), "{shown}");
    ensure!(wal_pool(&volume)?.0 == "default", "moved under a running server");
    let on_host = format!("/var/lib/pgvol/wal/db/{wal}");
    pg.restart()?;
    ensure!(wal_pool(&volume)? == ("wal".to_owned(), wal.to_owned()), "{:?}", wal_pool(&volume)?);
    ensure!(segments(engine, &on_host)? > 0, "no WAL in {on_host}");
    // No link: what copies the directory copies the WAL.
    pg.container().shell("test -d $PGDATA/pg_wal && ! test -L $PGDATA/pg_wal")?;
    pg.container().shell("test $(stat -c %U:%a $PGDATA/pg_wal) = postgres:700")?;
    pg.pgbench(&["-c", "4", "-j", "2", "-T", "2"])?;
    let mut writer = pg.writer()?;
    writer.advance(100)?;
    // The plugin dies, and the server, in the middle of it: the next has all that was acknowledged.
    stage.plugin()?.kill()?;
    writer.advance(100)?;
    engine.docker(&["kill", "server"])?;
    let last = writer.finish()?;
    pg.container().start()?;
    pg.wait_ready()?;
    pg.check_numbers(last)?;
    // Back by one command, refused while somebody has the volume.
    let ask = r#"{"name":"db","role":"wal","pool":"default"}"#;
    let (_, refused) = stage.plugin()?.call("/Pgvol.Move", ask)?;
    ensure!(refused["Err"].to_string().contains("in use"), "{refused}");
    pg.container().stop(LIMIT)?;
    let (_, moved) = stage.plugin()?.call("/Pgvol.Move", ask)?;
    ensure!(moved["name"] == "db", "{moved}");
    engine.shell("test ! -e /var/lib/pgvol/wal/db")?;
    for _ in 0..2 {
        pg.container().start()?;
        pg.wait_ready()?;
        pg.check_numbers(last)?;
        ensure!(wal_pool(&volume)?.0 == "default", "not moved back");
        pg.container().stop(LIMIT)?;
    }
    drop(pg);
    volume.remove()
}

/// A server that was killed has to recover with the WAL that is there: nothing is moved until it
/// was cleanly stopped.
fn crashed(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let volume = Volume::create(engine, stage.driver("pgvol")?, "db", &["layout=pgdata"])?;
    let pg = Pg::start(engine, "server", DATA)?;
    let mut writer = pg.writer()?;
    writer.advance(100)?;
    engine.docker(&["kill", "server"])?;
    let last = writer.finish()?;
    pg.container().start()?;
    pg.wait_ready()?;
    ensure!(wal_pool(&volume)?.0 == "default", "moved after a crash");
    pg.check_numbers(last)?;
    pg.restart()?;
    ensure!(wal_pool(&volume)?.0 == "wal", "not moved after a clean stop");
    pg.check_numbers(last)?;
    // Emptied by its user, who cannot remove what is a mount, it takes another cluster.
    drop(pg);
    let clear = ["run", "--rm", "-v", "db:/v", "postgres:17", "sh", "-c", "rm -rf /v/* || :"];
    engine.docker(&clear)?;
    let pg = Pg::start(engine, "server", DATA)?;
    ensure!(pg.psql("SELECT to_regclass('numbers') IS NULL")? == "t", "the old cluster is there");
    drop(pg);
    volume.remove()
}

/// What Docker copies out of the image, and what it does not find.
fn empty(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let driver = stage.driver("pgvol")?;
    let volume = Volume::create(engine, driver, "db", &["layout=pgdata", "uid=70", "mode=0750"])?;
    let nowhere = ["run", "--rm", "-v", "db:/new", "postgres:17", "sh", "-c"];
    let script = "stat -c %u:%g:%a /new; ls -A /new";
    let found = engine.docker(&[&nowhere[..], &[script]].concat())?;
    ensure!(found == "70:999:750", "{found}");
    // A directory of the image gives the root its owner, mode and content.
    let copied = Container::run(
        engine,
        "copied",
        &["-v", "db:/etc/postgresql-common", "postgres:17", "sleep", "infinity"],
    )?;
    let names = copied.shell("ls /etc/postgresql-common; stat -c %u:%a /etc/postgresql-common")?;
    ensure!(names.contains("createcluster.d") && names.ends_with("0:755"), "{names}");
    drop(copied);
    volume.remove()?;
    let said = engine.refused(&[
        "volume",
        "create",
        "-d",
        driver,
        "-o",
        "layout=pgdata",
        "-o",
        "tablespaces=fast",
        "no",
    ])?;
    ensure!(said.contains("tablespaces") && said.contains("layout=split"), "{said}");
    Ok(())
}
