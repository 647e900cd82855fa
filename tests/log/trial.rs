//! The trial of delivery: many containers print numbered lines while everything around them
//! fails at random, and afterwards every line is accounted for. `LOG_TRIAL_SECONDS` says how long,
//! and a failure names the `LOG_TRIAL_SEED` that repeats the run, as far as time lets it.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Container, Proxy, Scenario, Stage, eventually};

use crate::{account, fluentd, syslog};

/// Waits for what a loaded machine may take long for.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// Each kind of fault has a turn, one after the other.
const TURNS: usize = 5;

/// How many containers keep all that they print,
const WHOLE: usize = 40;

/// and how many keep so little that a sink which is away for some seconds misses lines.
const SCANT: usize = 10;

/// A disk of the state's own, so that it can be filled.
const DISK: &str = "/small";

/// Prints 1, 2, 3, ... up to a SIGUSR1, says on stderr how far it came, and stays, so that its
/// sinks stay too.
const PRINT: &str = r#"
    $| = 1;
    my ($n, $on) = (0, 1);
    $SIG{USR1} = sub { $on = 0 };
    while ($on) { print ++$n, "\n"; select(undef, undef, undef, 0.01) }
    print STDERR "end $n\n";
    sleep 1 while 1;
"#;

pub(crate) fn scenarios() -> Vec<Scenario> {
    // What is broken here on purpose is what it complains of.
    const BROKEN: &[&str] = &[
        "a sink does not deliver",
        "the log cannot be stored",
        "log messages were lost",
        "dropped the oldest segment",
        "dropped the only segment",
    ];
    vec![Scenario::new("delivery_under_faults", under_faults).tolerating(BROKEN)]
}

fn under_faults(stage: &Stage) -> Result<()> {
    let seconds = number("LOG_TRIAL_SECONDS", 15)?;
    let seed = number("LOG_TRIAL_SEED", fastrand::u64(..))?;
    trial(stage, Duration::from_secs(seconds), seed)
        .with_context(|| format!("LOG_TRIAL_SECONDS={seconds} LOG_TRIAL_SEED={seed}"))
}

fn number(name: &str, usual: u64) -> Result<u64> {
    env::var(name).map_or(Ok(usual), |text| text.parse().with_context(|| format!("{name}={text}")))
}

fn trial(stage: &Stage, time: Duration, seed: u64) -> Result<()> {
    let (plugin, engine) = (stage.plugin()?, stage.engine());
    engine.shell(&format!("mkdir {DISK}; mount -t tmpfs -o size=64m tmpfs {DISK}"))?;
    let keep_state = |directory: &str| {
        plugin.disable()?;
        engine.docker(&["plugin", "set", "pglog", &format!("state.source={directory}")])?;
        plugin.enable()
    };
    keep_state(DISK)?;
    let mut world = World::start(stage)?;
    let containers = start(stage)?;
    world.break_at_random(time, seed)?;
    stored_again(stage)?;
    let names: Vec<_> = containers.iter().map(|container| &*container.name).collect();
    engine.docker(&[&["kill", "--signal", "USR1"], &names[..]].concat())?;
    account::check(stage, &containers)?;
    // At once: one after the other takes as long as half of the trial.
    engine.docker(&[&["rm", "--force"], &names[..]].concat())?;
    drop((containers, world));
    keep_state("/var/lib")?;
    engine.shell(&format!("umount {DISK}; rmdir {DISK}"))?;
    Ok(())
}

/// What surrounds the containers, and what of it is broken right now.
struct World<'a> {
    stage: &'a Stage,
    syslog: Peer,
    fluentd: Peer,
    full: bool,
    kills: usize,
    fills: usize,
}

/// A server behind a proxy.
struct Peer {
    container: Container,
    proxy: Proxy,
    up: bool,
    stops: usize,
}

impl Peer {
    fn toggle(&mut self, stage: &Stage) -> Result<()> {
        let name = self.container.name();
        if self.up {
            stage.engine().docker(&["kill", name])?;
            self.stops += 1;
        } else {
            self.container.start()?;
        }
        self.up = !self.up;
        Ok(())
    }
}

impl<'a> World<'a> {
    fn start(stage: &'a Stage) -> Result<Self> {
        let peer = |container, port, to| {
            let proxy = Proxy::start(stage.engine(), port, to)?;
            Ok::<_, anyhow::Error>(Peer { container, proxy, up: true, stops: 0 })
        };
        let syslog = peer(syslog::Server::start(stage)?.container, 15514, 5514)?;
        let fluentd = peer(fluentd::Server::start(stage, 24224, "{}")?.container, 34224, 24224)?;
        Ok(Self { stage, syslog, fluentd, full: false, kills: 0, fills: 0 })
    }

    /// Every second something happens, by turns and by chance; in the end all is well again.
    fn break_at_random(&mut self, time: Duration, seed: u64) -> Result<()> {
        let mut chance = fastrand::Rng::with_seed(seed);
        let begun = Instant::now();
        for turn in 0.. {
            // A busy machine has fewer turns in the time.
            if begun.elapsed() >= time && turn >= 2 * TURNS && self.has_broken() {
                break;
            }
            ensure!(turn < 100 || begun.elapsed() < 2 * time, "not all of it has happened");
            let mut now =
                |own: usize, one_in: u32| turn % TURNS == own || chance.u32(..one_in) == 0;
            if now(0, 2) {
                self.syslog.proxy.cut();
                self.fluentd.proxy.cut();
            }
            if now(1, 4) {
                self.syslog.toggle(self.stage)?;
            }
            if now(2, 4) {
                self.fluentd.toggle(self.stage)?;
            }
            if now(3, 4) {
                self.toggle_disk()?;
            }
            if now(4, 3) {
                self.stage.plugin()?.kill()?;
                self.kills += 1;
            }
            thread::sleep(Duration::from_secs(1));
        }
        for peer in [&mut self.syslog, &mut self.fluentd] {
            if !peer.up {
                peer.toggle(self.stage)?;
            }
        }
        if self.full {
            self.toggle_disk()?;
        }
        Ok(())
    }

    /// Whether all that can break has been broken, each server's connections in the middle of
    /// something too.
    fn has_broken(&self) -> bool {
        let peer = |peer: &Peer| peer.stops > 0 && peer.proxy.halved() > 0;
        peer(&self.syslog) && peer(&self.fluentd) && self.kills > 0 && self.fills > 0
    }

    fn toggle_disk(&mut self) -> Result<()> {
        let script = if self.full { "rm {}" } else { "! cat /dev/zero >{} 2>&-" };
        self.stage.engine().shell(&script.replace("{}", &format!("{DISK}/filler")))?;
        self.full = !self.full;
        self.fills += usize::from(self.full);
        Ok(())
    }
}

/// A container that prints.
pub(crate) struct Printer {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) container: Container,
}

impl Printer {
    /// Whether there is room for all that it prints.
    pub(crate) fn keeps_all(&self) -> bool {
        self.name.starts_with("whole")
    }
}

/// Starts all of them at once.
fn start(stage: &Stage) -> Result<Vec<Printer>> {
    let run = |name: &str, limits: &str| {
        format!(
            "docker run --detach --name {name} --log-driver pglog {limits} \
             --log-opt tag={{{{.Name}}}} --log-opt syslog-format=rfc5424 \
             --log-opt syslog-address=tcp://127.0.0.1:15514 \
             --log-opt fluentd-address=127.0.0.1:34224 base perl -e '{PRINT}' >/dev/null &\n"
        )
    };
    let whole = (0..WHOLE).map(|n| (format!("whole{n}"), "--log-opt max-size=200m"));
    let scant = "--log-opt max-size=16k --log-opt max-file=2";
    let scant = (0..SCANT).map(|n| (format!("scant{n}"), scant));
    let all: Vec<_> = whole.chain(scant).collect();
    let script: String = all.iter().map(|(name, limits)| run(name, limits)).collect();
    let wait = "for job in $(jobs -p); do wait $job; done";
    stage.engine().shell(&format!("{script}{wait}"))?;
    let names: Vec<_> = all.into_iter().map(|(name, _)| name).collect();
    let containers = Container::all_running(stage.engine(), &names)?;
    let printer = |((container, id), name)| Printer { name, id, container };
    Ok(containers.into_iter().zip(names).map(printer).collect())
}

/// Waits until the disk takes something of every container again.
fn stored_again(stage: &Stage) -> Result<()> {
    let now = stage.engine().shell("date -u +%FT%TZ")?;
    eventually(LIMIT, || {
        let list = stage.plugin()?.call("/Pglog.List", "{}")?.1;
        let containers = list["containers"].as_array().context("containers")?;
        let waits = containers.iter().find(|one| one["last"].as_str().is_none_or(|at| at <= &*now));
        ensure!(waits.is_none() && containers.len() == WHOLE + SCANT, "{waits:#?}");
        Ok(())
    })
}
