//! The longest pause of a client that commits each millisecond, beside all other load, while nothing happens,
//! while the server writes a checkpoint, and while snapshots are taken, which begin with one.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{Engine, Pg};

use crate::note;
use crate::ratio::median;
use crate::snapshots::{remove, take};

/// What is done once the client has come into its stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    Nothing,
    Checkpoint,
    Snapshot(&'static str),
}

impl fmt::Display for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing else"),
            Self::Checkpoint => f.write_str("a checkpoint"),
            Self::Snapshot(level) => write!(f, "a snapshot, {level}"),
        }
    }
}

const ALL: [Meanwhile; 4] = [
    Meanwhile::Nothing,
    Meanwhile::Checkpoint,
    Meanwhile::Snapshot("ordered"),
    Meanwhile::Snapshot("barrier"),
];

/// When it is done, of [`SECONDS`].
const STRIDE: Duration = Duration::from_secs(2);
const SECONDS: u32 = 6;

/// Prints when each transaction was done, as pgbench logs it.
const CLIENT: &str = "cd /tmp; echo 'UPDATE ticks SET n = n + 1;' >tick.sql
psql -XAtq -c 'DROP TABLE IF EXISTS ticks' -c 'CREATE TABLE ticks AS SELECT 0 AS n'
pgbench --no-vacuum -c 1 --rate=1000 -T $RUN -f tick.sql --log --log-prefix=tick >&2
cat tick.[0-9]*; rm tick.*";

/// The longest pauses in milliseconds, each in the median of `rounds`, in which all take turns.
pub(crate) fn longest(engine: &Engine, pg: &Pg, rounds: usize) -> Result<Vec<(Meanwhile, f64)>> {
    let mut pauses = vec![Vec::new(); ALL.len()];
    for round in 0..rounds {
        for turn in 0..ALL.len() {
            let which = (round + turn) % ALL.len();
            let pause = once(engine, pg, ALL[which])?;
            note(&format!("longest pause beside {}: {pause:.1} ms", ALL[which]))?;
            pauses[which].push(pause);
        }
    }
    let medians = pauses.into_iter().map(|mut pauses| {
        pauses.sort_by(f64::total_cmp);
        median(&pauses)
    });
    Ok(ALL.into_iter().zip(medians).collect())
}

fn once(engine: &Engine, pg: &Pg, meanwhile: Meanwhile) -> Result<f64> {
    let seconds = format!("RUN={SECONDS}");
    let client = ["exec", "--user", "postgres", "--env", &seconds, pg.container().name()];
    let client = [&client[..], &["bash", "-euc", CLIENT]].concat();
    let log = thread::scope(|scope| {
        let client = scope.spawn(|| engine.docker(&client));
        thread::sleep(STRIDE);
        let done = match meanwhile {
            Meanwhile::Nothing => Ok(()),
            Meanwhile::Checkpoint => pg.psql("CHECKPOINT").map(drop),
            Meanwhile::Snapshot(level) => take(engine, level).map(drop),
        };
        let log = client.join().unwrap_or_else(|_| bail!("the client panicked"));
        done.and(log)
    })?;
    if let Meanwhile::Snapshot(_) = meanwhile {
        remove(engine)?;
    }
    let mut times = log.lines().map(time).collect::<Result<Vec<u64>>>()?;
    ensure!(times.len() > 100, "{} transactions in {SECONDS} s", times.len());
    times.sort_unstable();
    let longest = times.windows(2).map(|both| both[1] - both[0]).max().unwrap_or_default();
    Ok(f64::from(u32::try_from(longest).context("a pause")?) / 1000.0)
}

/// When the transaction of this line of the log was done, in microseconds.
fn time(line: &str) -> Result<u64> {
    let mut fields = line.split(' ').skip(4).map(str::parse::<u64>);
    match (fields.next(), fields.next()) {
        (Some(Ok(seconds)), Some(Ok(microseconds))) => Ok(seconds * 1_000_000 + microseconds),
        _ => bail!("not a line of pgbench's log: {line:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_tells_when() {
        assert_eq!(time("0 199 2241 0 1175850568 995598 12").unwrap(), 1_175_850_568_995_598);
        assert!(time("0 199 2241").is_err());
    }
}
