//! What runs while something happens: two servers on volumes, a container that prints all the
//! time and one that is silent for long, all with their logs in pglog.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{
    Container, Engine, Outcome, Pg, Plugin, Version, Volume, eventually, packages, printer, within,
};

/// What every container is started with.
const ALWAYS: &[&str] = &["--restart=always", "--log-driver=pglog"];

/// The whole volume at one place.
const WHOLE: &[&str] =
    &["--volume=whole:/pg", "--env=PGDATA=/pg/data", "--env=POSTGRES_INITDB_WALDIR=/pg/wal"];

/// Each role at a place of its own.
const SUBPATHS: &[&str] = &[
    "--mount=type=volume,src=parts,dst=/data,volume-subpath=data",
    "--mount=type=volume,src=parts,dst=/wal,volume-subpath=wal",
    "--env=PGDATA=/data",
    "--env=POSTGRES_INITDB_WALDIR=/wal",
];

/// The same for an engine that does not know of them.
const NO_SUBPATHS: &[&str] =
    &["--volume=parts:/pg", "--env=PGDATA=/pg/data", "--env=POSTGRES_INITDB_WALDIR=/pg/wal"];

/// Prints its first line at once and one more for each SIGUSR1.
const SILENT: &str = r#"$| = 1; my $n = 1; $SIG{USR1} = sub { print ++$n, "\n" };
    $SIG{TERM} = sub { exit }; print "1\n"; sleep 1000 while 1"#;

/// How long all containers may take to stop. A plugin that does not answer costs 15 s more.
const STOP_LIMIT: Duration = Duration::from_secs(13);

/// The names of all containers.
pub(crate) const NAMES: [&str; 4] = ["whole", "parts", "busy", "silent"];

/// Everything that runs. Fields are dropped in order: containers go before their volumes.
#[derive(Debug)]
pub(crate) struct World {
    /// Servers, each of them named like its volume.
    pub(crate) servers: [Pg; 2],
    /// Prints some two thousand lines a second; another one for each event.
    busy: Option<Container>,
    /// Prints when it is told to.
    pub(crate) silent: Container,
    pub(crate) volumes: [Volume; 2],
    pub(crate) pgvol: Plugin,
    pub(crate) pglog: Plugin,
    pub(crate) engine: Arc<Engine>,
}

impl World {
    /// Installs both plugins and starts everything.
    pub(crate) fn set_up(engine: &Arc<Engine>) -> Result<Self> {
        let pgvol = Plugin::install(engine, "pgvol", &[packages::POOL])?;
        let pglog = Plugin::install(engine, "pglog", &[])?;
        let volumes = [
            Volume::create(engine, "pgvol", "whole", &["label.team=blue", "tablespaces=fast"])?,
            Volume::create(engine, "pgvol", "parts", &["label.team=red"])?,
        ];
        let parts = if engine.version() < Version::V26_1 { NO_SUBPATHS } else { SUBPATHS };
        let servers = [
            Pg::run(engine, "whole", &[WHOLE, ALWAYS].concat())?,
            Pg::run(engine, "parts", &[parts, ALWAYS].concat())?,
        ];
        let busy = Some(Self::run_busy(engine)?);
        let silent = [ALWAYS, &["base", "perl", "-e", SILENT]].concat();
        let silent = Container::run(engine, "silent", &silent)?;
        for server in &servers {
            server.wait_ready()?;
        }
        servers[0].psql("CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'")?;
        servers[0].pgbench(&["-i", "-q", "--tablespace=fast"])?;
        Ok(Self { servers, busy, silent, volumes, pgvol, pglog, engine: Arc::clone(engine) })
    }

    fn run_busy(engine: &Arc<Engine>) -> Result<Container> {
        printer::run(engine, "busy", ALWAYS, &["1000000000", "TERM", "25"])
    }

    /// Another busy container in place of the one there is.
    pub(crate) fn renew_busy(&mut self) -> Result<()> {
        drop(self.busy.take());
        self.busy = Some(Self::run_busy(&self.engine)?);
        Ok(())
    }

    /// What the busy container has printed, by its log.
    pub(crate) fn busy_logs(&self) -> Result<Outcome> {
        self.busy.as_ref().context("there is a busy container")?.logs(&[])
    }

    /// One of the two plugins.
    pub(crate) fn plugin(&self, name: &str) -> &Plugin {
        if name == "pgvol" { &self.pgvol } else { &self.pglog }
    }

    /// Process and time of start of every container.
    pub(crate) fn identities(&self) -> Result<Vec<String>> {
        let template = "{{.Name}} {{.State.Running}} {{.State.Pid}} {{.State.StartedAt}}";
        let all = self.engine.docker(&[&["inspect", "--format", template], &NAMES[..]].concat())?;
        Ok(all.lines().map(str::to_owned).collect())
    }

    /// Lets the silent container print its next line.
    pub(crate) fn speak(&self) -> Result<()> {
        self.silent.shell("kill -USR1 1").map(drop)
    }

    /// Stops all containers at once, within the time that it takes without any plugin.
    pub(crate) fn stop(&self) -> Result<()> {
        let stop = [&["stop", "--time=10"], &NAMES[..]].concat();
        within(STOP_LIMIT, "docker stop", || self.engine.docker(&stop)).map(drop)
    }

    /// Starts every container again.
    pub(crate) fn start(&self) -> Result<()> {
        self.engine.docker(&[&["start"], &NAMES[..]].concat())?;
        self.servers.iter().try_for_each(Pg::wait_ready)
    }

    /// Waits until the notes of who has mounted what are of the boot that the machine says it is.
    pub(crate) fn check_boot(&self) -> Result<()> {
        let boot = self.engine.shell("cat /run/boot_id")?;
        eventually(Duration::from_mins(1), || {
            let notes = self.engine.shell("cat /var/lib/pgvol/mounts/*.record")?;
            let mounted = notes.matches(&boot).count();
            ensure!(mounted == self.volumes.len(), "{mounted} mounts of boot {boot}: {notes}");
            Ok(())
        })
    }

    /// Removes everything; that nothing is in use any more is a part of what is tested.
    pub(crate) fn tear_down(self) -> Result<()> {
        drop((self.servers, self.busy, self.silent));
        self.volumes.into_iter().try_for_each(Volume::remove)?;
        packages::remove(&self.engine)
    }
}
