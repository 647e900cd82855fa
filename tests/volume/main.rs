//! Scenarios of the volume driver on a real engine.

use std::process::ExitCode;

use harness::{Engine, Suite};

mod backups;
mod crashes;
mod create;
mod exclusive;
mod guard;
mod layout;
mod limits;
mod mounts;
mod options;
mod pool;
mod postgres;
mod removal;
mod sizes;
mod snapshots;
mod trash;
mod verify;

const SMOKE: &[&str] = &[
    "life_of_a_volume::pgvol",
    "docker_cp_keeps_the_mount::pgvol",
    "server_on_the_whole_volume::pgvol",
    "server_on_subpaths::pgvol",
    "subpath_is_not_known::pgvol",
    "plugin_killed_under_a_server",
    "live_restore::pgvol",
    "guard::beside_a_running_server",
    "trash_gives_back_a_cluster",
    "snapshot_under_load_and_its_clone",
];

/// What a scenario removes makes room for the next, but for those of `trash`.
const SUITE: Suite = Suite {
    plugin: "pgvol",
    settings: &["POOL_SIZE=3G", "POOL_MAX=3G", "TRASH=0"],
    images: Engine::add_postgres_image,
    smoke: SMOKE,
};

fn main() -> ExitCode {
    let scenarios = [
        create::scenarios(),
        options::scenarios(),
        mounts::scenarios(),
        postgres::scenarios(),
        crashes::scenarios(),
        removal::scenarios(),
        layout::scenarios(),
        limits::scenarios(),
        pool::scenarios(),
        sizes::scenarios(),
        guard::scenarios(),
        exclusive::scenarios(),
        trash::scenarios(),
        snapshots::scenarios(),
        backups::scenarios(),
        verify::scenarios(),
    ];
    harness::run(&SUITE, scenarios.into_iter().flatten().collect())
}
