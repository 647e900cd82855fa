//! Running a list of scenarios on one engine after the other, and saying what happened when one
//! fails.

use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

use crate::version::{self, Extent, Version};
use crate::{Engine, Plugin, Scenario};

/// What the scenarios of one test binary have in common.
#[derive(Debug)]
pub struct Suite {
    /// The plugin that they are about.
    pub plugin: &'static str,
    /// Its settings, `KEY=VALUE`.
    pub settings: &'static [&'static str],
    /// Puts the images on a new engine that the scenarios run.
    pub images: fn(&Engine) -> Result<()>,
    /// The scenarios, by whole names, that a smoke run consists of: few, quick, and together what
    /// would show that an engine is not like the others.
    pub smoke: &'static [&'static str],
}

/// Where a scenario plays: an engine that earlier ones have used and left clean.
#[derive(Debug)]
pub struct Stage {
    suite: &'static Suite,
    engine: Arc<Engine>,
    plugin: OnceCell<Plugin>,
}

impl Stage {
    fn set_up(suite: &'static Suite, version: Version) -> Result<Self> {
        let engine = Engine::start(version)?;
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

/// Runs the scenarios that the command line asks for, one after the other, on each engine that
/// `ENGINES` asks for.
#[expect(clippy::needless_pass_by_value, reason = "every suite makes the list for this call")]
pub fn run(suite: &'static Suite, scenarios: Vec<Scenario>) -> ExitCode {
    // One at a time, so that one engine serves all; on this thread, which engines are tied to.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let selected = version::selected().and_then(|selected| {
        check_smoke(suite, &scenarios)?;
        Ok(selected)
    });
    let selected = match selected {
        Ok(selected) => selected,
        Err(error) => {
            report(&format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for (version, extent) in selected {
        let mut chosen = scenarios.clone();
        if extent == Extent::Smoke {
            chosen.retain(|scenario| suite.smoke.contains(&scenario.name.as_str()));
        }
        if let Err(failure) = run_on(suite, version, chosen, &arguments) {
            code = failure;
        }
    }
    code
}

/// Fails where the smoke list names a scenario that there is not.
fn check_smoke(suite: &Suite, scenarios: &[Scenario]) -> Result<()> {
    let unknown =
        suite.smoke.iter().find(|name| scenarios.iter().all(|scenario| scenario.name != **name));
    ensure!(unknown.is_none(), "the smoke list names {unknown:?}, which is no scenario");
    Ok(())
}

/// Runs `scenarios` on an engine of `version`. One that is not for it is listed as ignored, with
/// the reason: nothing else is ever ignored.
fn run_on(
    suite: &'static Suite,
    version: Version,
    scenarios: Vec<Scenario>,
    arguments: &Arguments,
) -> Result<(), ExitCode> {
    let stage = Arc::new(Mutex::new(None));
    let times = Arc::new(Mutex::new(Vec::new()));
    let trial = |scenario: Scenario| {
        let (stage, times) = (Arc::clone(&stage), Arc::clone(&times));
        let excluded = scenario.does_not_apply(version);
        let name = match &excluded {
            Some(reason) => format!("{} ({reason})", scenario.name),
            None => scenario.name.clone(),
        };
        let trial = Trial::test(name, move || {
            let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
            let start = Instant::now();
            let outcome = play(suite, version, &mut stage, &scenario).map_err(Failed::from);
            let entry = (start.elapsed(), scenario.name);
            times.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
            outcome
        });
        trial.with_kind(version.to_string()).with_ignored_flag(excluded.is_some())
    };
    let conclusion = libtest_mimic::run(arguments, scenarios.into_iter().map(trial).collect());
    report_counts(version, &conclusion);
    report_slowest(&mut times.lock().unwrap_or_else(PoisonError::into_inner));
    let stage = stage.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(stage) = stage
        && let Err(error) = stage.engine.end()
    {
        report(&format!("the engine left something behind: {error:#}"));
        return Err(ExitCode::FAILURE);
    }
    if conclusion.has_failed() { Err(conclusion.exit_code()) } else { Ok(()) }
}

/// A line for each engine, which scripts/test.sh adds up.
fn report_counts(version: Version, conclusion: &Conclusion) {
    let Conclusion { num_passed, num_failed, num_ignored, .. } = conclusion;
    if num_passed + num_failed + num_ignored > 0 {
        report(&format!(
            "engine {version}: {num_passed} passed, {num_failed} failed, {num_ignored} not for it"
        ));
    }
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
fn play(
    suite: &'static Suite,
    version: Version,
    slot: &mut Option<Stage>,
    scenario: &Scenario,
) -> Result<(), String> {
    let stage = match slot.take() {
        Some(stage) => stage,
        None => Stage::set_up(suite, version).map_err(|error| format!("no engine: {error:#}"))?,
    };
    let Err(error) = act(&stage, scenario) else {
        *slot = Some(stage);
        return Ok(());
    };
    let diagnosis = stage.engine.diagnosis();
    let leaks = stage.engine.end().err().map(|leak| format!("{leak:#}\n"));
    Err(format!("{diagnosis}--- failure\n{}{error:#}", leaks.unwrap_or_default()))
}

fn act(stage: &Stage, scenario: &Scenario) -> Result<()> {
    let position = stage.engine.log().position()?;
    catch_unwind(AssertUnwindSafe(|| (scenario.body)(stage)))
        .unwrap_or_else(|_| Err(anyhow!("the scenario panicked")))?;
    let complaints = stage.engine.log().complaints(position, scenario.tolerated)?;
    ensure!(complaints.is_empty(), "the plugin complained:\n{}", complaints.join("\n"));
    Ok(())
}
