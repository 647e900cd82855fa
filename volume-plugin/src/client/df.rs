//! `docker pgvol df`.

use std::collections::BTreeMap;

use plugin_sdk::cli::{Failure, Nothing, Session, text};

use crate::api::answers::{DiskUsage, Pool, Share};

/// Takes nothing.
#[derive(Debug, clap::Args)]
pub struct Df {}

impl Df {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self {} = self;
        session.show(session.call("/Pgvol.DiskUsage", &Nothing {})?, render)
    }
}

fn render(usage: DiskUsage) -> String {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), text::bytes);
    let mut held: BTreeMap<String, u64> = BTreeMap::new();
    for share in &usage.shares {
        *held.entry(share.pool.clone()).or_default() += share.used.unwrap_or_default();
    }
    let pool = |pool: Pool| {
        let of_volumes = text::bytes(held.get(&pool.name).copied().unwrap_or_default());
        [pool.name, size(pool.size), size(pool.used), size(pool.free), of_volumes]
    };
    let share =
        |share: Share| [share.volume, share.role, share.pool, size(share.used), size(share.limit)];
    let pools = usage.pools.into_iter().map(pool).collect::<Vec<_>>();
    let shares = text::table(
        ["VOLUME", "ROLE", "POOL", "USED", "LIMIT"],
        usage.shares.into_iter().map(share),
    );
    let pools = text::table(["POOL", "SIZE", "USED", "FREE", "BY VOLUMES"], pools);
    format!("{shares}\n{pools}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pool_has_the_sum_of_its_volumes() {
        let share = |volume: &str, role: &str, pool: &str, used| Share {
            volume: volume.to_owned(),
            role: role.to_owned(),
            pool: pool.to_owned(),
            used,
            limit: (volume == "appdb").then_some(20 << 30),
        };
        let pool = Pool {
            name: "default".to_owned(),
            size: Some(4 << 30),
            used: Some(1 << 30),
            free: Some(3 << 30),
            ..Pool::default()
        };
        let usage = DiskUsage {
            shares: vec![
                share("appdb", "data", "default", Some(3 << 20)),
                share("b", "data", "default", Some(1 << 20)),
                share("b", "wal", "wal", None),
            ],
            pools: vec![pool],
        };
        assert_eq!(
            render(usage),
            "VOLUME   ROLE   POOL      USED      LIMIT\n\
             appdb    data   default   3.0 MiB   20.0 GiB\n\
             b        data   default   1.0 MiB   -\n\
             b        wal    wal       -         -\n\
             \n\
             POOL      SIZE      USED      FREE      BY VOLUMES\n\
             default   4.0 GiB   1.0 GiB   3.0 GiB   4.0 MiB\n"
        );
    }
}
