//! The events, as data: what happens, and what is expected to survive it.

use anyhow::{Result, ensure};
use harness::RestartMode::{self, LiveRestore, Plain};
use harness::packages;

use crate::world::World;

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Event {
    /// The scenario's name.
    pub(crate) name: &'static str,
    /// What README calls it.
    pub(crate) title: &'static str,
    /// How dockerd runs, before and after.
    pub(crate) mode: RestartMode,
    /// What happens.
    pub(crate) deed: Deed,
    /// What is as before, seen from outside.
    pub(crate) survives: Survival,
}

/// What can happen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    /// dockerd gets a signal and is started again.
    EndEngine(Signal),
    /// A plugin is disabled by force and enabled.
    Disable(&'static str),
    /// A plugin is upgraded in place by `scripts/install.sh`.
    Upgrade(&'static str),
    /// A plugin is disabled by force, a setting of it is changed, and it is enabled.
    Set(&'static str),
    /// A plugin's process is killed, which dockerd starts again.
    Kill(&'static str),
    /// dockerd and both plugins are killed by one command; dockerd is started again.
    KillAll,
    /// All processes, mounts and loop devices of the machine go at once, and it starts again.
    Reboot,
}

/// How dockerd is ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    /// As a service manager does it.
    Term,
    /// At once.
    Kill,
}

/// What is left of what ran before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Survival {
    pub(crate) containers: Containers,
    pub(crate) lines: Lines,
    pub(crate) follower: Follower,
}

/// The processes of the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Containers {
    /// The same processes, started when they were.
    RunOn,
    /// Other ones, started by the restart policy after the engine had ended the former.
    Restarted,
    /// The same after a death without notice.
    Killed,
}

/// The lines that containers wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    /// Each once and in order.
    All,
    /// Once and in order, but for what dockerd had read and not passed on when it died: a gap that
    /// every log driver has.
    NotInTheEngine,
    /// The same, and without what was in the pipe when both of its ends died.
    NotInThePipe,
}

/// A `docker logs --follow` that was open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follower {
    /// It shows what comes afterwards too.
    GoesOn,
    /// It has to be called again.
    Ends,
}

const ENDED: Survival =
    Survival { containers: Containers::Restarted, lines: Lines::All, follower: Follower::Ends };
const FOLLOWED_ANEW: Survival =
    Survival { containers: Containers::RunOn, lines: Lines::All, follower: Follower::Ends };
const LEFT_ALONE: Survival = Survival { lines: Lines::NotInTheEngine, ..FOLLOWED_ANEW };
const UNNOTICED: Survival =
    Survival { containers: Containers::RunOn, lines: Lines::All, follower: Follower::GoesOn };

const fn event(
    name: &'static str,
    title: &'static str,
    mode: RestartMode,
    deed: Deed,
    survives: Survival,
) -> Event {
    Event { name, title, mode, deed, survives }
}

/// All rows, in README's order: first what is done without live-restore.
pub(crate) const EVENTS: &[Event] = &[
    event("engine_ended", "engine ended by SIGTERM", Plain, END, ENDED),
    event(
        "engine_killed",
        "engine killed",
        Plain,
        KILL,
        Survival { lines: Lines::NotInTheEngine, ..ENDED },
    ),
    event(
        "machine_rebooted",
        "machine rebooted",
        Plain,
        Deed::Reboot,
        Survival { containers: Containers::Killed, lines: Lines::NotInThePipe, ..ENDED },
    ),
    event("pgvol_killed", "pgvol killed", Plain, Deed::Kill("pgvol"), UNNOTICED),
    event("pglog_killed", "pglog killed", Plain, Deed::Kill("pglog"), FOLLOWED_ANEW),
    event("pgvol_disabled", "pgvol disabled, enabled", Plain, Deed::Disable("pgvol"), UNNOTICED),
    event(
        "pglog_disabled",
        "pglog disabled, enabled",
        Plain,
        Deed::Disable("pglog"),
        FOLLOWED_ANEW,
    ),
    event("pgvol_set", "a setting of pgvol changed", Plain, Deed::Set("pgvol"), UNNOTICED),
    event("pglog_set", "a setting of pglog changed", Plain, Deed::Set("pglog"), FOLLOWED_ANEW),
    event("pgvol_upgraded", "pgvol upgraded", Plain, Deed::Upgrade("pgvol"), UNNOTICED),
    event("pglog_upgraded", "pglog upgraded", Plain, Deed::Upgrade("pglog"), FOLLOWED_ANEW),
    event(
        "engine_ended_live_restore",
        "engine ended by SIGTERM, `live-restore` on",
        LiveRestore,
        END,
        LEFT_ALONE,
    ),
    event(
        "engine_killed_live_restore",
        "engine killed, `live-restore` on",
        LiveRestore,
        KILL,
        LEFT_ALONE,
    ),
    event(
        "engine_and_plugins_killed",
        "engine and both plugins killed at once, `live-restore` on",
        LiveRestore,
        Deed::KillAll,
        Survival { lines: Lines::NotInThePipe, ..FOLLOWED_ANEW },
    ),
];

const END: Deed = Deed::EndEngine(Signal::Term);
const KILL: Deed = Deed::EndEngine(Signal::Kill);

impl Event {
    /// Makes it happen; no two times in one world are of the same `number`.
    pub(crate) fn happen(&self, world: &World, number: usize) -> Result<()> {
        let engine = &world.engine;
        match self.deed {
            Deed::EndEngine(signal) => {
                match signal {
                    Signal::Term => engine.stop_daemon()?,
                    Signal::Kill => engine.kill_daemon()?,
                }
                engine.start_daemon(self.mode)
            }
            Deed::Disable(name) => {
                let plugin = world.plugin(name);
                plugin.disable()?;
                plugin.enable()
            }
            Deed::Set(name) => {
                let plugin = world.plugin(name);
                plugin.disable()?;
                engine.docker(&["plugin", "set", name, "LOG_LEVEL=debug"])?;
                plugin.enable()?;
                let settings = packages::inspect(engine, name, "{{json .Settings.Env}}")?;
                ensure!(settings.contains("LOG_LEVEL=debug"), "{settings}");
                Ok(())
            }
            Deed::Upgrade(name) => {
                packages::next_version_of(engine, &[name], number)?;
                let said = packages::installed(engine, "/var/lib/two", "")?;
                ensure!(said.contains(&format!("{name} is upgraded")), "{said}");
                Ok(())
            }
            Deed::Kill(name) => world.plugin(name).kill(),
            Deed::KillAll => {
                // Held still first, so that nobody acts on the death of another.
                let pids = [world.pgvol.pid()?, world.pglog.pid()?];
                engine.shell(&format!("kill -STOP {} {}", pids[0], pids[1]))?;
                engine.kill_daemon()?;
                engine.shell(&format!("kill -KILL {} {}", pids[0], pids[1]))?;
                engine.start_daemon(self.mode)
            }
            Deed::Reboot => {
                engine.reboot(self.mode)?;
                world.check_boot()
            }
        }
    }
}
