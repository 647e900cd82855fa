//! A server that has everything done to it that makes copies hard.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Engine, LineStream, Pg, Volume, eventually};

/// Tables and databases come, move, are emptied and go, with forced checkpoints between.
const CHURN: &str = r#"
i=0
while :; do
    i=$((i + 1))
    psql -XAtq -v ON_ERROR_STOP=1 <<SQL || sleep 1
CREATE TABLE churn_$i (n int PRIMARY KEY, t text) TABLESPACE far;
INSERT INTO churn_$i SELECT g, repeat('x', 100) FROM generate_series(1, 1500) g;
CREATE INDEX ON churn_$i (t, n) TABLESPACE near;
ALTER TABLE churn_$i SET TABLESPACE near;
UPDATE churn_$i SET t = n WHERE n % 3 = 0;
CREATE UNLOGGED TABLE flat_$i TABLESPACE far AS SELECT * FROM churn_$i;
ALTER TABLE churn_$i SET TABLESPACE far;
DROP TABLE IF EXISTS churn_$((i - 3)), flat_$((i - 3));
TRUNCATE churn_$i;
INSERT INTO churn_$i SELECT g, 'again' FROM generate_series(1, 500) g;
SQL
    if [ $((i % 4)) = 0 ]; then psql -XAtq -c CHECKPOINT; fi
    if [ $((i % 9)) = 0 ]; then
        case $((i % 2)) in 0) how=wal_log ;; *) how=file_copy ;; esac
        psql -XAtq -c "CREATE DATABASE d_$i STRATEGY $how"
        psql -XAtq -c "DROP DATABASE IF EXISTS d_$((i - 9))"
    fi
    psql -XAtq -c "VACUUM churn_$i"
done
"#;

/// The server and what keeps it busy.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) pg: Pg,
    clients: Vec<LineStream>,
    pub(crate) volume: Volume,
}

/// Settings that have WAL recycled all the time.
const BUSY: &[&str] = &["max_wal_size=96MB", "min_wal_size=32MB"];

/// Settings with which a redo point stays for as long as the scenario of the fault takes, while pages
/// reach the files soon.
const CALM: &[&str] = &["max_wal_size=4GB", "checkpoint_timeout=1h", "shared_buffers=2MB"];

/// As [`BUSY`], with less WAL than any copy but one of a single instant can be recovered by.
const BARE: &[&str] = &[
    "max_wal_size=96MB",
    "min_wal_size=32MB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "full_page_writes=off",
];

/// As [`BUSY`], with pages in the files that may be half old and half new.
const TORN: &[&str] = &["max_wal_size=96MB", "min_wal_size=32MB", "full_page_writes=off"];

/// How often checkpoints are, and what is in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Busy,
    Bare,
    Torn,
    Calm,
}

impl Load {
    /// Starts a server on a new volume `db` with these options.
    pub(crate) fn start(engine: &Arc<Engine>, options: &[&str], pace: Pace) -> Result<Self> {
        let options = [&["tablespaces=near,far"], options].concat();
        let volume = Volume::create(engine, "pgvol", "db", &options)?;
        let whole =
            ["-v", "db:/pg", "-e", "PGDATA=/pg/data", "-e", "POSTGRES_INITDB_WALDIR=/pg/wal"];
        let checksums = ["-e", "POSTGRES_INITDB_ARGS=--data-checksums"];
        // A server that is started again finds its settings there.
        let pg = Pg::start(engine, "server", &[&whole[..], &checksums[..]].concat())?;
        let settings = match pace {
            Pace::Busy => BUSY,
            Pace::Bare => BARE,
            Pace::Torn => TORN,
            Pace::Calm => CALM,
        };
        for setting in settings {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            pg.psql(&format!("ALTER SYSTEM SET {key} = '{value}'"))?;
        }
        pg.restart()?;
        for name in ["near", "far"] {
            pg.psql(&format!("CREATE TABLESPACE {name} LOCATION '/pg/tablespaces/{name}'"))?;
        }
        pg.pgbench(&["-i", "-q", "-s", "3", "--tablespace=far", "--index-tablespace=near"])?;
        pg.psql("CREATE TABLE ticks (n int PRIMARY KEY)")?;
        let clients = clients(engine, pace)?;
        let load = Self { pg, clients, volume };
        load.wait_busy()?;
        Ok(load)
    }

    /// Starts the server again after it was stopped, with its clients.
    pub(crate) fn again(&mut self, engine: &Arc<Engine>) -> Result<()> {
        engine.docker(&["start", self.pg.container().name()])?;
        self.pg.wait_ready()?;
        self.clients.clear();
        self.clients = clients(engine, Pace::Busy)?;
        self.wait_busy()
    }

    fn wait_busy(&self) -> Result<()> {
        let before: u64 = self.rows()?;
        eventually(Duration::from_mins(1), || {
            ensure!(self.rows()? > before, "no transactions");
            Ok(())
        })
    }

    fn rows(&self) -> Result<u64> {
        Ok(self.pg.psql("SELECT count(*) FROM pgbench_history")?.parse()?)
    }
}

fn clients(engine: &Arc<Engine>, pace: Pace) -> Result<Vec<LineStream>> {
    let exec = ["exec", "--user", "postgres", "server"];
    let churn = if pace == Pace::Calm { "sleep 3600" } else { CHURN };
    let churn = engine.stream(&[&exec[..], &["bash", "-uc", churn]].concat())?;
    let bench = ["pgbench", "--no-vacuum", "-c", "4", "-T", "36000"];
    let bench = engine.stream(&[&exec[..], &bench].concat())?;
    Ok(vec![churn, bench])
}
