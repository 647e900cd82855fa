//! One operation, one step, one event.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{Engine, Plugin, RestartMode, Stage, eventually};

use crate::observation::{difference, image, observe, variables};
use crate::operations::{Act, Operation};

/// An id that nobody came for goes a minute after a start.
const LIMIT: Duration = Duration::from_mins(3);
pub(crate) const FAILPOINT: &str = "/var/lib/pgvol/failpoint";
pub(crate) const REACHED: &str = "/var/lib/pgvol/reached";

/// What happens at the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// `kill -9` of the plugin.
    Killed,
    /// `kill -9` of the engine, whose next start ends the plugin there.
    EngineKilled,
    /// The machine ends and starts again.
    Reboot,
    /// The disk takes nothing more.
    Full,
}

impl Event {
    pub(crate) const ALL: [Self; 4] = [Self::Killed, Self::EngineKilled, Self::Reboot, Self::Full];

    /// Whether it is played in every run.
    pub(crate) fn is_quick(self, operation: &Operation) -> bool {
        self == Self::Killed && !operation.is_long
    }

    /// A full disk is met where something is written.
    pub(crate) fn applies_to(self, operation: &Operation, step: &str) -> bool {
        self != Self::Full || operation.writes.contains(&step)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Killed => "killed",
            Self::EngineKilled => "engine killed",
            Self::Reboot => "reboot",
            Self::Full => "disk full",
        })
    }
}

/// What became of the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing.
    AsBefore,
    /// All of it.
    AsAsked,
}

/// Plays it; the error says what is neither as before nor as asked.
pub(crate) fn play(
    stage: &Stage,
    operation: &Operation,
    step: &str,
    event: Event,
) -> Result<Outcome> {
    let (engine, plugin) = (stage.engine(), stage.plugin()?);
    let served = operation.is_served;
    let base = begin(engine, plugin, served)?;
    let prepare = || {
        let script = format!("{}\n{}", variables(plugin)?, operation.prepare);
        engine.shell(&script).context("prepare")?;
        observe(engine, plugin, served)
    };
    let before = prepare()?;
    let asked = undisturbed(engine, plugin, operation)?;
    clear(engine, plugin, served, &base)?;
    let again = prepare()?;
    ensure!(again == before, "not the same twice:\n{}", difference(&before, &again));

    happen(engine, plugin, operation, step, event)?;
    // An engine that ends takes its containers with it.
    let ended = matches!(event, Event::EngineKilled | Event::Reboot);
    let outcome = eventually(LIMIT, || {
        let mut found = observe(engine, plugin, served)?;
        let (mut before, mut asked) = (before.clone(), asked.clone());
        if ended {
            for text in [&mut found, &mut before, &mut asked] {
                *text = without_running(text);
            }
        }
        if found == asked {
            Ok(Outcome::AsAsked)
        } else if found == before {
            Ok(Outcome::AsBefore)
        } else {
            let (one, other) = (difference(&before, &found), difference(&asked, &found));
            bail!("neither as before:\n{one}nor as asked:\n{other}")
        }
    })?;
    let first = observe(engine, plugin, served)?;
    plugin.kill()?;
    eventually(LIMIT, || {
        let second = observe(engine, plugin, served)?;
        ensure!(second == first, "a second start changed:\n{}", difference(&first, &second));
        Ok(())
    })?;
    let read = ["run", "--rm", "-v", "other:/pg", "base", "cat", "/pg/data/file", "/pg/wal/file"];
    ensure!(engine.docker(&read)? == "other\nother", "another volume does not work");
    if outcome == Outcome::AsBefore && !ended {
        let now = undisturbed(engine, plugin, operation).context("the operation afterwards")?;
        ensure!(now == asked, "afterwards it did:\n{}", difference(&asked, &now));
    }
    clear(engine, plugin, served, &base)?;
    Ok(outcome)
}

/// What is the same whether or not containers run: these and their views.
fn without_running(text: &str) -> String {
    let runs = |line: &&str| {
        ["view ", "container ", "server ", "mounts/"].iter().any(|word| line.starts_with(word))
            || *line == "main"
    };
    text.lines().filter(|line| !runs(line)).collect::<Vec<_>>().join("\n")
}

/// Another volume, which nothing happens to, and what there is beside.
fn begin(engine: &Arc<Engine>, plugin: &Plugin, is_served: bool) -> Result<String> {
    if engine.docker(&["volume", "inspect", "other"]).is_err() {
        engine.docker(&["volume", "create", "-d", "pgvol", "other"])?;
        engine.shell(&format!(
            "{}; echo other >$pool/other/data/file; echo other >/var/lib/pgvol/wal/other/wal/file",
            variables(plugin)?
        ))?;
    }
    observe(engine, plugin, is_served)
}

/// Does the operation and gives what there is then.
fn undisturbed(engine: &Arc<Engine>, plugin: &Plugin, operation: &Operation) -> Result<String> {
    let (is_done, said) = ask(engine, plugin, operation)?;
    ensure!(is_done, "{said}");
    settled(engine, plugin, operation.is_served)
}

/// Asks for the operation; tells whether it is done, and what was said.
fn ask(engine: &Arc<Engine>, plugin: &Plugin, operation: &Operation) -> Result<(bool, String)> {
    match operation.act {
        Act::Docker(words) => {
            let outcome = engine.client(LIMIT, words)?;
            let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
            Ok((outcome.success, said))
        }
        Act::Call(path, body) => {
            let (_, answer) = plugin.call(path, body)?;
            Ok((answer["Err"].as_str().is_none_or(str::is_empty), answer.to_string()))
        }
    }
}

/// What there is once nothing is being deleted any more.
fn settled(engine: &Arc<Engine>, plugin: &Plugin, is_served: bool) -> Result<String> {
    eventually(LIMIT, || {
        let found = observe(engine, plugin, is_served)?;
        ensure!(!found.contains(".removing"), "something is still being deleted");
        Ok(found)
    })
}

/// Takes away all but what was there at the beginning.
fn clear(engine: &Arc<Engine>, plugin: &Plugin, is_served: bool, base: &str) -> Result<()> {
    engine.shell(
        "docker rm -f user >/dev/null 2>&1 || :
        for name in main back copy; do ! docker volume inspect $name || docker volume rm $name; done
        docker pgvol purge --all",
    )?;
    eventually(LIMIT, || {
        let found = observe(engine, plugin, is_served)?;
        // What was deleted has to be given back before it can be given to the host.
        if image(&found) != image(base) {
            engine.docker(&["pgvol", "pool", "shrink"])?;
        }
        ensure!(found == base, "something is left:\n{}", difference(base, &found));
        Ok(())
    })
}

fn happen(
    engine: &Arc<Engine>,
    plugin: &Plugin,
    operation: &Operation,
    step: &str,
    event: Event,
) -> Result<()> {
    let action = match event {
        Event::Killed => "kill",
        Event::Full => "full",
        Event::EngineKilled | Event::Reboot => "wait",
    };
    plugin.settle();
    let pid = plugin.pid()?;
    engine.shell(&format!("echo '{step} {action}' >{FAILPOINT}"))?;
    let gone = |what: &str| -> Result<()> {
        eventually(LIMIT, || {
            engine.shell(&format!("test ! -e {FAILPOINT}")).context(format!("{step} {what}"))?;
            Ok(())
        })
    };
    match event {
        // Whether it succeeds in the end is the engine's to say, which asks again.
        Event::Killed => {
            drop(ask(engine, plugin, operation));
            gone("is not reached")?;
            eventually(LIMIT, || {
                ensure!(plugin.pid()? != pid, "it is not restarted");
                Ok(())
            })?;
            plugin.started();
            plugin.wait_listening()?;
        }
        Event::Full => {
            let (is_done, _) = ask(engine, plugin, operation)?;
            gone("is not reached")?;
            ensure!(is_done == operation.is_by_itself(), "it succeeded on a full disk");
        }
        Event::EngineKilled | Event::Reboot => {
            let end = || -> Result<()> {
                let reached = || engine.shell(&format!("test -e {REACHED}")).context("waiting");
                eventually(LIMIT, reached)?;
                if event == Event::Reboot {
                    return engine.reboot(RestartMode::Plain);
                }
                engine.kill_daemon()?;
                engine.start_daemon(RestartMode::Plain)
            };
            match operation.act {
                Act::Docker(words) => {
                    let client = engine.stream(words)?;
                    end()?;
                    drop(client);
                }
                Act::Call(..) => thread::scope(|scope| {
                    // It fails with the plugin.
                    scope.spawn(|| ask(engine, plugin, operation).ok());
                    end()
                })?,
            }
            engine.shell(&format!("rm -f {REACHED}"))?;
            plugin.started();
            plugin.wait_listening()?;
        }
    }
    Ok(())
}
