//! Running a list of scenarios on one engine, and saying what happened when one fails.

use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{Engine, Plugin};

/// What the scenarios of one test binary have in common.
#[derive(Debug)]
pub struct Suite {
    /// The plugin that they are about.
    pub plugin: &'static str,
    /// Its settings, `KEY=VALUE`.
    pub settings: &'static [&'static str],
    /// Puts the images on a new engine that the scenarios run.
    pub images: fn(&Engine) -> Result<()>,
}

/// Where a scenario plays: an engine that earlier ones have used and left clean.
#[derive(Debug)]
pub struct Stage {
    suite: &'static Suite,
    engine: Arc<Engine>,
    plugin: OnceCell<Plugin>,
}

impl Stage {
    fn set_up(suite: &'static Suite) -> Result<Self> {
        let engine = Engine::start()?;
        (suite.images)(&engine)?;
        Ok(Self { suite, engine, plugin: OnceCell::new() })
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The plugin of the suite, installed by the first scenario that asks.
    pub fn plugin(&self) -> Result<&Plugin> {
        if let Some(plugin) = self.plugin.get() {
            return Ok(plugin);
        }
        let plugin = Plugin::install(&self.engine, self.suite.plugin, self.suite.settings)?;
        Ok(self.plugin.get_or_init(|| plugin))
    }

    /// Makes sure that the driver `name`, the plugin or one of Docker's own, can be used.
    pub fn driver(&self, name: &'static str) -> Result<&'static str> {
        if name == self.suite.plugin {
            self.plugin()?;
        }
        Ok(name)
    }
}

type Body = Box<dyn FnOnce(&Stage) -> Result<()> + Send>;

/// One thing that must hold on a real engine.
pub struct Scenario {
    name: String,
    tolerated: &'static [&'static str],
    body: Body,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Scenario").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Scenario {
    /// A scenario under a name that the command line can filter by.
    pub fn new(
        name: impl Into<String>,
        body: impl FnOnce(&Stage) -> Result<()> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), tolerated: &[], body: Box::new(body) }
    }

    /// The scenario for each of several drivers: the plugin and the one of Docker's own that it
    /// must behave like. That the latter passes is the test of the test.
    pub fn for_drivers(
        name: &str,
        drivers: &[&'static str],
        body: fn(&Stage, &'static str) -> Result<()>,
    ) -> Vec<Self> {
        let scenario = |driver: &&'static str| {
            let driver = *driver;
            Self::new(format!("{name}::{driver}"), move |stage: &Stage| {
                body(stage, stage.driver(driver)?)
            })
        };
        drivers.iter().map(scenario).collect()
    }

    /// Lets the plugin log warnings and errors that contain one of `parts`.
    #[must_use]
    pub fn tolerating(mut self, parts: &'static [&'static str]) -> Self {
        self.tolerated = parts;
        self
    }
}

/// Runs the scenarios that the command line asks for, one after the other.
pub fn run(suite: &'static Suite, scenarios: Vec<Scenario>) -> ExitCode {
    // One at a time, so that one engine serves all; on this thread, which engines are tied to.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let stage = Arc::new(Mutex::new(None));
    let times = Arc::new(Mutex::new(Vec::new()));
    let trial = |scenario: Scenario| {
        let (stage, times) = (Arc::clone(&stage), Arc::clone(&times));
        let name = scenario.name.clone();
        Trial::test(scenario.name.clone(), move || {
            let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
            let start = Instant::now();
            let outcome = play(suite, &mut stage, scenario).map_err(Failed::from);
            times.lock().unwrap_or_else(PoisonError::into_inner).push((start.elapsed(), name));
            outcome
        })
    };
    let conclusion = libtest_mimic::run(&arguments, scenarios.into_iter().map(trial).collect());
    report_slowest(&mut times.lock().unwrap_or_else(PoisonError::into_inner));
    let stage = stage.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Err(error)) = stage.map(|stage| stage.engine.end()) {
        report(&format!("the engine left something behind: {error:#}"));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// The whole suite has a limit in time: says where it goes.
fn report_slowest(times: &mut [(Duration, String)]) {
    times.sort_unstable_by(|left, right| right.cmp(left));
    for (time, name) in times.iter().take(5) {
        report(&format!("{:6.1} s {name}", time.as_secs_f32()));
    }
}

#[expect(clippy::print_stderr, reason = "the runner's own report has ended")]
fn report(line: &str) {
    eprintln!("{line}");
}

/// Plays one scenario; an engine on which one failed is not used again. The error is a report.
fn play(suite: &'static Suite, slot: &mut Option<Stage>, scenario: Scenario) -> Result<(), String> {
    let stage = match slot.take() {
        Some(stage) => stage,
        None => Stage::set_up(suite).map_err(|error| format!("no engine: {error:#}"))?,
    };
    let Err(error) = act(&stage, scenario) else {
        *slot = Some(stage);
        return Ok(());
    };
    let diagnosis = stage.engine.diagnosis();
    let leaks = stage.engine.end().err().map(|leak| format!("{leak:#}\n"));
    Err(format!("{diagnosis}--- failure\n{}{error:#}", leaks.unwrap_or_default()))
}

fn act(stage: &Stage, scenario: Scenario) -> Result<()> {
    let position = stage.engine.log().position()?;
    let body = scenario.body;
    catch_unwind(AssertUnwindSafe(|| body(stage)))
        .unwrap_or_else(|_| Err(anyhow!("the scenario panicked")))?;
    let complaints = stage.engine.log().complaints(position, scenario.tolerated)?;
    ensure!(complaints.is_empty(), "the plugin complained:\n{}", complaints.join("\n"));
    Ok(())
}
