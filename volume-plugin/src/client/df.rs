//! `docker pgvol df`.

use std::collections::BTreeMap;

use plugin_sdk::cli::{Failure, Session, text};

use crate::api::admin::Usage;
use crate::api::answers::{DiskUsage, Pool, Share};

/// How closely to look.
#[derive(Debug, clap::Args)]
pub struct Df {
    /// Show too what deleting each volume with its snapshots, or each snapshot, would give back
    #[arg(long)]
    exact: bool,
}

impl Df {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { exact } = self;
        let answer = session.call("/Pgvol.DiskUsage", &Usage { exact })?;
        session.show(answer, |usage| render(usage, exact))
    }
}

fn render(usage: DiskUsage, exact: bool) -> String {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), text::bytes);
    let mut held: BTreeMap<String, u64> = BTreeMap::new();
    for share in &usage.shares {
        *held.entry(share.pool.clone()).or_default() += share.used.unwrap_or_default();
    }
    let pool = |pool: Pool| {
        let of_volumes = text::bytes(held.get(&pool.name).copied().unwrap_or_default());
        [pool.name, size(pool.size), size(pool.used), size(pool.free), of_volumes]
    };
    let share = |share: Share| {
        let freed = if exact { size(share.freed) } else { String::new() };
        [share.volume, share.role, share.pool, size(share.used), size(share.limit), freed]
    };
    let pools = usage.pools.into_iter().map(pool).collect::<Vec<_>>();
    let freed = if exact { "BY DELETING" } else { "" };
    let heads = ["VOLUME", "ROLE", "POOL", "USED", "LIMIT", freed];
    let shares = text::table(heads, usage.shares.into_iter().map(share));
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
            freed: (volume == "appdb").then_some(2 << 20),
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
            render(usage.clone(), false),
            "VOLUME   ROLE   POOL      USED      LIMIT\n\
             appdb    data   default   3.0 MiB   20.0 GiB\n\
             b        data   default   1.0 MiB   -\n\
             b        wal    wal       -         -\n\
             \n\
             POOL      SIZE      USED      FREE      BY VOLUMES\n\
             default   4.0 GiB   1.0 GiB   3.0 GiB   4.0 MiB\n"
        );
        let exact = render(usage, true);
        assert!(exact.contains("LIMIT      BY DELETING\n"), "{exact}");
        assert!(exact.contains("3.0 MiB   20.0 GiB   2.0 MiB\n"), "{exact}");
    }
}
