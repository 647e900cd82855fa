//! Clients of both servers: one each that knows what was acknowledged to it, and pgbench.

use anyhow::{Result, ensure};
use harness::{Pg, Writer};

use crate::world::World;

/// Acknowledged on each server before the event happens.
const COMMITS: u64 = 50;

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    table: String,
    writers: Vec<Writer>,
}

impl Load {
    /// Starts the clients, which write into a new table; gives back when commits are acknowledged.
    pub(crate) fn start(world: &World, number: usize) -> Result<Self> {
        let table = format!("round{number}");
        let mut writers = Vec::new();
        for server in &world.servers {
            // With a pause in each transaction: what matters is that some are always under way.
            let pause = "pause text NOT NULL DEFAULT pg_sleep(0.005)::text";
            server.psql(&format!("CREATE TABLE {table} (n bigint PRIMARY KEY, {pause})"))?;
            writers.push(Writer::start(&world.engine, server.container().name(), &table)?);
        }
        let bench = ["exec", "--detach", "--user=postgres", "whole", "pgbench", "--no-vacuum"];
        world.engine.docker(&[&bench[..], &["-c", "2", "-R", "100", "-T", "600"]].concat())?;
        for writer in &mut writers {
            writer.advance(COMMITS)?;
        }
        Ok(Self { table, writers })
    }

    /// Ends the clients, as far as they have not ended, and looks for what they wrote.
    pub(crate) fn finish(self, world: &World) -> Result<Commits> {
        let mut last = Vec::new();
        for (writer, server) in self.writers.into_iter().zip(&world.servers) {
            server.wait_ready()?;
            last.push(writer.finish()?);
        }
        let commits = Commits { table: self.table, last };
        commits.check(world)?;
        Ok(commits)
    }
}

/// What was acknowledged on each server.
#[derive(Debug)]
pub(crate) struct Commits {
    table: String,
    last: Vec<u64>,
}

impl Commits {
    /// How many, all in all.
    pub(crate) fn count(&self) -> u64 {
        self.last.iter().sum()
    }

    /// Fails when one is missing, or when pgbench's tables do not agree.
    pub(crate) fn check(&self, world: &World) -> Result<()> {
        for (server, last) in world.servers.iter().zip(&self.last) {
            server.check_numbers_in(&self.table, *last)?;
        }
        check_balances(&world.servers[0])
    }
}

/// Each transaction of pgbench changes a balance and notes by how much.
fn check_balances(server: &Pg) -> Result<()> {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'pgbench'";
    server.psql(end)?;
    let sums = server.psql(
        "SELECT (SELECT count(*) > 0 FROM pgbench_history),
                (SELECT sum(abalance) FROM pgbench_accounts) =
                (SELECT sum(delta) FROM pgbench_history)",
    )?;
    ensure!(sums == "t|t", "balances and history do not agree: {sums}");
    Ok(())
}
