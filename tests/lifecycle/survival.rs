//! Plays an event on a world and holds everything in it to what must survive.
//!
//! Each round begins with all containers running, and ends so, after they were stopped and
//! started; the second round shows that the first has left nothing that a further one trips over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Census, LineStream, RestartMode, Stage, Volume, eventually};

use crate::events::{Containers, Event, Follower};
use crate::lines::Printed;
use crate::load::Load;
use crate::world::World;

/// How often an event happens in one world, where `LIFECYCLE_ROUNDS` says nothing else.
const ROUNDS: usize = 2;
const LIMIT: Duration = Duration::from_mins(1);
/// How long what goes by itself may take to go.
const SETTLE: Duration = Duration::from_secs(20);

/// How much was compared.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Commits that were acknowledged, each looked up.
    pub(crate) commits: u64,
    /// Lines that were read back.
    pub(crate) lines: usize,
    /// Lines that were lost where that is allowed.
    pub(crate) missing: usize,
}

impl Counts {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            commits: self.commits + other.commits,
            lines: self.lines + other.lines,
            missing: self.missing + other.missing,
        }
    }
}

/// The world that one event leaves to the next, as long as all goes well.
pub(crate) type Between = Arc<Mutex<Option<Standing>>>;

/// A world that stands.
#[derive(Debug)]
pub(crate) struct Standing {
    world: World,
    /// What there is of everything when nothing happens.
    census: Census,
    mode: RestartMode,
    /// How often anything has happened.
    number: usize,
}

impl Standing {
    /// The one that there is, if it is of this engine and mode; else another.
    fn of(stage: &Stage, mode: RestartMode, former: Option<Self>) -> Result<Self> {
        let engine = stage.engine();
        // One of an engine before this has ended with it.
        let former = former.filter(|former| Arc::ptr_eq(&former.world.engine, engine));
        let former_mode = former.as_ref().map_or(RestartMode::Plain, |former| former.mode);
        match former {
            Some(former) if former.mode == mode => return Ok(former),
            Some(former) => former.world.tear_down()?,
            None => {}
        }
        if former_mode != mode {
            engine.stop_daemon()?;
            engine.start_daemon(mode)?;
        }
        let world = World::set_up(engine)?;
        Ok(Self { world, census: Census::begin(engine)?, mode, number: 1 })
    }
}

/// Plays `event`, several times over.
pub(crate) fn play(stage: &Stage, event: &Event, between: &Between) -> Result<Counts> {
    let rounds = std::env::var("LIFECYCLE_ROUNDS").map_or(Ok(ROUNDS), |text| text.parse())?;
    let mut between = between.lock().unwrap_or_else(PoisonError::into_inner);
    let mut standing = Standing::of(stage, event.mode, between.take())?;
    standing.world.renew_busy()?;
    let mut printed = Printed::default();
    let mut counts = Counts::default();
    for round in 1..=rounds {
        standing.number += 1;
        counts.commits += play_round(&standing.world, event, standing.number, &mut printed)
            .and_then(|commits| standing.census.check(stage.engine()).map(|()| commits))
            .with_context(|| format!("round {round}"))?;
    }
    (counts.lines, counts.missing) = printed.found();
    *between = Some(standing);
    Ok(counts)
}

/// Takes away what the last event has left.
pub(crate) fn tear_down(between: &Between) -> Result<()> {
    let standing = between.lock().unwrap_or_else(PoisonError::into_inner).take();
    standing.map_or(Ok(()), |standing| standing.world.tear_down())
}

/// Lets the event happen once; gives the number of commits that were acknowledged and are there.
fn play_round(world: &World, event: &Event, number: usize, printed: &mut Printed) -> Result<u64> {
    let load = Load::start(world, number)?;
    let before = world.identities()?;
    // Not from the beginning, where the numbers of earlier runs are.
    let follower = world.engine.stream(&["logs", "--follow", "--tail=1", "silent"])?;
    follower.next(LIMIT)?;
    printed.note_journal(world)?;

    event.happen(world, number)?;

    let after = check_containers(world, &before, event.survives.containers)?;
    let commits = load.finish(world)?;
    check_follower(world, &follower, event.survives.follower)?;
    check_volumes(world)?;
    let now = world.identities()?;
    ensure!(now == after, "restarted later: {after:#?}, then {now:#?}");
    world.stop()?;
    printed.check(world, event.survives)?;
    world.start()?;
    commits.check(world)?;
    Ok(commits.count())
}

/// Waits until all containers are as expected; gives their identities.
fn check_containers(world: &World, before: &[String], expected: Containers) -> Result<Vec<String>> {
    eventually(LIMIT, || {
        let now = world.identities()?;
        let same = now.iter().zip(before).filter(|(now, before)| now == before).count();
        let running = now.iter().filter(|line| line.contains(" true ")).count();
        let expected_same = if expected == Containers::RunOn { now.len() } else { 0 };
        ensure!(
            running == now.len() && same == expected_same,
            "not all {expected:?}: {before:#?}, then {now:#?}"
        );
        Ok(now)
    })
}

/// Whether what the silent container says now reaches the follower that was there before, and one
/// that is called now.
fn check_follower(world: &World, follower: &LineStream, expected: Follower) -> Result<()> {
    let logs = || -> Result<Vec<String>> {
        let text = String::from_utf8(world.silent.logs(&[])?.stdout)?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let anew = world.engine.stream(&["logs", "--follow", "--tail=1", "silent"])?;
    let last = anew.next(LIMIT)?;
    ensure!(logs()?.last() == Some(&last), "followed from {last}, not from the end");
    world.speak()?;
    let said = (last.parse::<usize>()? + 1).to_string();
    let heard = anew.next(LIMIT)?;
    ensure!(heard == said, "said {said}, heard {heard}");
    ensure!(logs()?.last() == Some(&said), "said {said}, the log is {:?}", logs()?);
    let goes_on = loop {
        match follower.next(SETTLE) {
            Ok(line) if line == said => break true,
            Ok(_) => {}
            // That it waits for something else would be neither.
            Err(_) => {
                follower.rest(Duration::ZERO).context("the earlier follower hangs")?;
                break false;
            }
        }
    };
    ensure!(goes_on == (expected == Follower::GoesOn), "the earlier follower is not {expected:?}");
    Ok(())
}

/// Volumes are as they were, can be given to a further container, and further ones can be made.
fn check_volumes(world: &World) -> Result<()> {
    for (volume, team) in world.volumes.iter().zip(["blue", "red"]) {
        let shown = volume.inspect()?;
        let status = &shown["Status"];
        ensure!(status["state"] == "ok" && status["labels"]["team"] == team, "{shown:#}");
        ensure!(shown["Options"]["label.team"] == team, "{shown:#}");
        let mount = format!("--volume={}:/pg", volume.name());
        let look = ["run", "--rm", "--log-driver=pglog", &mount, "base", "grep", "17"];
        // By its status: what a container prints that ends at once can be lost on a busy machine.
        world.engine.docker(&[&look[..], &["/pg/data/PG_VERSION"]].concat())?;
    }
    let another = Volume::create(&world.engine, "pgvol", "another", &["label.team=green"])?;
    let write = ["run", "--rm", "--log-driver=pglog", "--volume=another:/pg", "base"];
    world.engine.docker(&[&write[..], &["touch", "/pg/data/file"]].concat())?;
    another.remove()
}
