//! One snapshot after the other, each cloned, started and searched.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use harness::{Engine, Stage, Volume};
use serde_json::Value;

use crate::load::{Load, Pace};

/// How long one clone may take to be searched.
const LIMIT: Duration = Duration::from_mins(5);

/// How snapshots are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Data and one tablespace on btrfs, WAL and the other tablespace in a directory.
    Ordered,
    /// All on btrfs.
    Atomic,
    /// After a clean stop or a kill.
    Offline,
    /// As ordered, of a server that has no other way.
    Barrier,
    /// Data, WAL and one tablespace in a directory, of a server that writes no full pages by itself.
    Backup,
}

/// What a clone has to stand, by itself and beside nothing; says how many seconds it took to answer.
const SEARCH: &str = r#"
install -d -o postgres -m 3775 /var/run/postgresql
exec setpriv --reuid=postgres --regid=postgres --init-groups bash -euc '
export PGDATA=/pg/data
begun=$(date +%s%N)
pg_ctl -w -t 240 -l /tmp/log -o "-c listen_addresses=" start >/dev/null || { cat /tmp/log; exit 1; }
psql -XAtqc "SELECT 1" >/dev/null
echo "answered $((($(date +%s%N) - begun) / 1000000))"
ticks=$(psql -XAtqc "SELECT count(*) FROM ticks WHERE n <= $TICK")
[ "$ticks" = "$TICK" ] || { echo "$TICK ticks were acknowledged, $ticks are there"; exit 1; }
sums=$(psql -XAtqc "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers) AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches) AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)")
[ "$sums" = t ] || { echo "the sums of balances differ"; exit 1; }
pg_amcheck --all --install-missing --heapallindexed || { echo "pg_amcheck found damage"; exit 1; }
pg_ctl -m fast -w stop >/dev/null
# Of a database whose directory went before its record did; every recovery says so.
dropped="could not open directory \"base/|useless files may be left behind in old database directory"
# Of a session of ours that was still ending.
ending="terminating connection due to administrator command"
if grep -E "ERROR|FATAL|PANIC|WARNING" /tmp/log | grep -vE "$dropped|$ending"; then exit 1; fi
'
"#;

/// Numbers of one level's trials.
#[derive(Debug, Default)]
struct Tally {
    took: Vec<u64>,
    stalls: Vec<u64>,
    answered: Vec<u64>,
    retries: u64,
    retried: usize,
}

/// Takes `count` snapshots at this level, each of which has to recover.
pub(crate) fn run(stage: &Stage, level: Level, count: usize) -> Result<()> {
    let engine = stage.engine();
    stage.plugin()?;
    let options: &[&str] = match level {
        Level::Ordered | Level::Offline | Level::Barrier => &["tablespace.far.pool=wal"],
        Level::Atomic => &["wal.pool=default"],
        Level::Backup => &["pool=wal", "tablespace.far.pool=default"],
    };
    let pace = match level {
        Level::Barrier => Pace::Bare,
        Level::Backup => Pace::Torn,
        _ => Pace::Busy,
    };
    let mut load = Load::start(engine, options, pace)?;
    let mut tally = Tally::default();
    for number in 1..=count {
        load.pg.psql(&format!("INSERT INTO ticks VALUES ({number})"))?;
        // At any moment of a checkpoint, a move or a drop.
        std::thread::sleep(at_random(Duration::from_millis(1500))?);
        if level == Level::Offline {
            let how = if number % 2 == 0 { ["stop", "server"] } else { ["kill", "server"] };
            engine.docker(&how)?;
            load.pg.container().wait(Duration::from_mins(1))?;
        }
        let snapshot = format!("db@t{number}");
        let create = ["volume", "create", "--driver", "pgvol", "--opt", "snapshot=now"];
        let asked: &[_] = match level {
            Level::Backup => &["--opt", "consistency=backup"],
            _ => &[],
        };
        engine.docker(&[&create[..], asked, &[&snapshot]].concat())?;
        if level == Level::Offline {
            load.again(engine)?;
        }
        let status = status(engine, &snapshot)?;
        let reached = status["snapshot"]["consistency"].as_str().unwrap_or_default();
        let expected = match level {
            Level::Ordered => "ordered",
            Level::Atomic => "atomic",
            Level::Offline if number % 2 == 0 => "offline",
            Level::Offline => "offline-unclean",
            Level::Barrier => "barrier",
            Level::Backup => "backup",
        };
        ensure!(reached == expected, "{reached} instead of {expected}: {status:#}");
        let clone = Volume::create(engine, "pgvol", "copy", &[&format!("from={snapshot}")])?;
        let said = search(engine, number).with_context(|| format!("{snapshot}: {status:#}"))?;
        tally.add(&status, &said)?;
        clone.remove()?;
        engine.docker(&["volume", "rm", &snapshot])?;
    }
    let Load { pg, volume, .. } = load;
    drop(pg);
    volume.remove()?;
    tally.print(level, count);
    Ok(())
}

/// Starts the clone `copy` and searches it.
pub(crate) fn search(engine: &Engine, tick: usize) -> Result<String> {
    let tick = format!("TICK={tick}");
    let run = ["run", "--rm", "-v", "copy:/pg", "-e", &tick, "--entrypoint", "bash"];
    let outcome = engine.client(LIMIT, &[&run[..], &["postgres:17", "-euc", SEARCH]].concat())?;
    let said = [outcome.stdout, outcome.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(outcome.success, "the clone is not what it should be:\n{said}");
    Ok(said)
}

pub(crate) fn status(engine: &Engine, name: &str) -> Result<Value> {
    let shown: Value = serde_json::from_str(&engine.docker(&["volume", "inspect", name])?)?;
    Ok(shown[0]["Status"].clone())
}

/// Less than `most`.
fn at_random(most: Duration) -> Result<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(most * (now.subsec_micros() % 1000) / 1000)
}

impl Tally {
    fn add(&mut self, status: &Value, said: &str) -> Result<()> {
        let number = |name: &str| status["snapshot"][name].as_u64().context("a number");
        self.took.push(number("took_ms")?);
        self.stalls.extend(status["snapshot"]["stall_ms"].as_u64());
        let retries = number("retries")?;
        self.retries += retries;
        self.retried += usize::from(retries > 0);
        let answered = said.lines().find_map(|line| line.strip_prefix("answered "));
        self.answered.push(answered.context("a time")?.parse()?);
        Ok(())
    }

    #[expect(clippy::print_stderr, reason = "the figures are what the run is for")]
    fn print(mut self, level: Level, count: usize) {
        eprintln!(
            "{level:?}: {count} of {count} clones recovered; snapshots took {}, with stalls of {}, \
             {} of them begun anew, {} times in all; clones answered after {}",
            shown(&mut self.took),
            shown(&mut self.stalls),
            self.retried,
            self.retries,
            shown(&mut self.answered),
        );
    }
}

/// Median and most, of milliseconds.
fn shown(times: &mut [u64]) -> String {
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(most)) => format!("{median} ms ({most} at most)"),
        _ => "nothing".to_owned(),
    }
}
