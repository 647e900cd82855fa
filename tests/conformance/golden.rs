//! Call traces as text, compared with the ones in `traces/`.
//!
//! A trace is a list of steps: a line `$ what is done`, then a line for each thing that reached the
//! plugins. Identifiers that differ from run to run have names in order of appearance: `id1` for
//! ids of mounts, `F1` for FIFOs, `container1`, `anonymous1`. Below `$$ what is done` the order
//! between the two plugins is dockerd's chance, and each one's lines are by themselves. Below
//! `$* what is done` the order of several mounts is: their ids are `id*`, and each of them is
//! mounted once and unmounted once.
//!
//! An engine whose calls differ has files of its own in `traces/VERSION/`, such as `20.10`.
//! `TRACES=write` writes what was found instead of comparing it, for the reviewer's eyes.

use std::env;
use std::fs;
use std::mem;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Version, eventually};

use crate::call::{Call, Event, Kind, Recording};
use crate::rig::Rig;

const LIMIT: Duration = Duration::from_secs(30);

/// The version whose traces are those of every engine without its own.
const OF_ALL: Version = Version::V26_1;

/// What may follow a step without being asked for comes within this time.
const QUIET: Duration = Duration::from_secs(2);

/// A trace in the making.
pub(crate) struct Trace<'a> {
    rig: &'a Rig<'a>,
    name: &'static str,
    /// None where the file is to be written.
    expected: Option<Vec<Step>>,
    names: Names,
    steps: Vec<Step>,
    /// Of the last step, to see what comes late.
    recording: Option<(Recording, Order, Names)>,
}

/// Whether the order of the lines of a step says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AsItCame,
    EachPlugin,
    MixedIds,
}

impl Order {
    /// What begins the title of such a step.
    fn sign(self) -> &'static str {
        match self {
            Self::AsItCame => "$",
            Self::EachPlugin => "$$",
            Self::MixedIds => "$*",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// With the sign of its order.
    title: String,
    lines: Vec<String>,
}

impl<'a> Trace<'a> {
    /// The trace that `traces/NAME.txt` has.
    pub(crate) fn begin(rig: &'a Rig<'a>, name: &'static str) -> Result<Self> {
        let expected = if env::var("TRACES").as_deref() == Ok("write") {
            None
        } else {
            let [own, all] = files(rig, name);
            let file = if own.exists() { own } else { all };
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            Some(parse(&text))
        };
        rig.record()?.wait_for_quiet()?;
        let (names, steps, recording) = (Names::default(), Vec::new(), None);
        Ok(Self { rig, name, expected, names, steps, recording })
    }

    /// A step that is one docker command.
    pub(crate) fn docker(&mut self, arguments: &[&str]) -> Result<String> {
        let title = format!("docker {}", arguments.join(" "));
        self.step(&title, |rig| rig.engine().docker(arguments))
    }

    /// A step.
    pub(crate) fn step<T>(
        &mut self,
        title: &str,
        act: impl FnOnce(&Rig<'_>) -> Result<T>,
    ) -> Result<T> {
        self.act(Order::AsItCame, title, act)
    }

    /// A step in which dockerd talks to both plugins at once.
    pub(crate) fn step_at_once<T>(
        &mut self,
        title: &str,
        act: impl FnOnce(&Rig<'_>) -> Result<T>,
    ) -> Result<T> {
        self.act(Order::EachPlugin, title, act)
    }

    /// A step in which dockerd takes several mounts in any order.
    pub(crate) fn step_of_mixed_ids<T>(
        &mut self,
        title: &str,
        act: impl FnOnce(&Rig<'_>) -> Result<T>,
    ) -> Result<T> {
        self.act(Order::MixedIds, title, act)
    }

    fn act<T>(
        &mut self,
        order: Order,
        title: &str,
        act: impl FnOnce(&Rig<'_>) -> Result<T>,
    ) -> Result<T> {
        self.check_nothing_late()?;
        let title = format!("{} {title}", order.sign());
        let recording = self.rig.record()?;
        let value = act(self.rig).with_context(|| format!("trace {}: {title}", self.name))?;
        let mut names = self.names.clone();
        let found = |names: &mut Names| render(&recording, order, names);
        let lines = if let Some(expected) = &self.expected {
            let wanted = expected.get(self.steps.len()).filter(|step| step.title == title);
            let wanted = wanted.with_context(|| {
                format!("trace {} has no step {title:?} in this place", self.name)
            })?;
            eventually(LIMIT, || {
                names = self.names.clone();
                let lines = found(&mut names)?;
                ensure!(lines == wanted.lines, "trace {}\n{title}\n{}", self.name, {
                    difference(&wanted.lines, &lines)
                });
                Ok(lines)
            })?
        } else {
            thread::sleep(QUIET);
            found(&mut names)?
        };
        if order == Order::MixedIds {
            check_each_id_once(&recording)?;
        }
        self.recording = Some((recording, order, mem::replace(&mut self.names, names)));
        self.steps.push(Step { title, lines });
        Ok(value)
    }

    /// Nothing has come since the last step was found to be whole.
    fn check_nothing_late(&self) -> Result<()> {
        let (Some((recording, order, names)), Some(step)) = (&self.recording, self.steps.last())
        else {
            return Ok(());
        };
        let lines = render(recording, *order, &mut names.clone())?;
        ensure!(lines == step.lines, "trace {}, late\n{}\n{}", self.name, step.title, {
            difference(&step.lines, &lines)
        });
        Ok(())
    }

    /// The trace is whole.
    pub(crate) fn end(self) -> Result<()> {
        self.check_nothing_late()?;
        if let Some(expected) = &self.expected {
            let missing = expected.get(self.steps.len());
            ensure!(missing.is_none(), "trace {} has a further step {missing:?}", self.name);
            return Ok(());
        }
        let text: String = self.steps.iter().map(Step::text).collect();
        write(self.rig, self.name, &text)
    }
}

impl Step {
    fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| format!("{line}\n"));
        format!("{}\n{}", self.title, lines.collect::<String>())
    }
}

/// Where the trace is, for the engine at hand alone and for all that have no file of their own.
fn files(rig: &Rig<'_>, name: &str) -> [PathBuf; 2] {
    let all = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance/traces");
    let file = format!("{name}.txt");
    [all.join(rig.engine().version().to_string()).join(&file), all.join(file)]
}

/// Writes the trace, for the engine alone where another one has another.
#[expect(clippy::disallowed_methods, reason = "git has the old one")]
fn write(rig: &Rig<'_>, name: &str, text: &str) -> Result<()> {
    let [own, all] = files(rig, name);
    let file = match fs::read_to_string(&all) {
        Ok(other) if other == text => return Ok(()),
        Ok(_) if rig.engine().version() != OF_ALL => own,
        _ => all,
    };
    fs::create_dir_all(file.parent().context("a directory")?)?;
    fs::write(&file, text).with_context(|| file.display().to_string())
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        match steps.last_mut() {
            Some(step) if !line.starts_with('$') => step.lines.push(line.to_owned()),
            _ => steps.push(Step { title: line.to_owned(), lines: Vec::new() }),
        }
    }
    steps
}

fn render(recording: &Recording, order: Order, names: &mut Names) -> Result<Vec<String>> {
    let mut events = recording.events()?;
    if order == Order::EachPlugin {
        // Stable: the order of each one's events stays.
        events.sort_by(|left, right| left.plugin.cmp(&right.plugin));
    }
    let mut lines: Vec<String> = events.iter().map(|event| names.line(event)).collect();
    if order == Order::MixedIds {
        for number in 1..=names.count("id") {
            for line in &mut lines {
                *line = line.replace(&format!(" id{number} "), " id* ");
            }
        }
    }
    Ok(lines)
}

/// Each id that was mounted is unmounted, and no id is that of two mounts.
fn check_each_id_once(recording: &Recording) -> Result<()> {
    let ids = |call: &str| {
        let calls = recording.calls(call)?;
        let mut ids: Vec<_> = calls.iter().map(|call| call.field("ID").to_string()).collect();
        ids.sort();
        anyhow::Ok(ids)
    };
    let mounted = ids("VolumeDriver.Mount")?;
    ensure!(mounted.windows(2).all(|pair| pair[0] != pair[1]), "one id twice: {mounted:?}");
    let unmounted = ids("VolumeDriver.Unmount")?;
    ensure!(mounted == unmounted, "{mounted:?} is mounted, {unmounted:?} unmounted");
    Ok(())
}

/// Names of what is different in each run, in order of appearance.
#[derive(Debug, Clone, Default)]
struct Names(Vec<(&'static str, String)>);

impl Names {
    fn count(&self, kind: &str) -> usize {
        self.0.iter().filter(|(found, _)| *found == kind).count()
    }

    fn of(&mut self, kind: &'static str, value: &str) -> String {
        let known = self.0.iter().position(|(_, found)| found == value);
        let known = known.unwrap_or_else(|| {
            self.0.push((kind, value.to_owned()));
            self.0.len() - 1
        });
        let number = self.0[..=known].iter().filter(|(found, _)| *found == kind).count();
        format!("{kind}{number}")
    }

    fn line(&mut self, event: &Event) -> String {
        let what = match &event.kind {
            Kind::Started => "starts".to_owned(),
            Kind::ToldToEnd => "is told to end".to_owned(),
            Kind::Probed => "is connected to".to_owned(),
            Kind::Call(call) => {
                let mut words = vec![call.name.clone()];
                words.extend(self.arguments(call));
                format!("{} -> {}", words.join(" "), call.outcome())
            }
        };
        format!("{} {what}", event.plugin)
    }

    /// What a call says, in the order in which it is read.
    fn arguments(&mut self, call: &Call) -> Vec<String> {
        let text = |name: &str| call.field(name).as_str().map(str::to_owned);
        let mut words = Vec::new();
        if let Some(name) = text("Name") {
            let anonymous = name.len() == 64;
            words.push(if anonymous { self.of("anonymous", &name) } else { name });
        }
        if let Some(id) = text("ID") {
            words.push(self.of("id", &id));
        }
        if call.name == "VolumeDriver.Create" {
            words.push(call.field("Opts").to_string());
        }
        if let Some(file) = text("File") {
            words.push(self.of("F", &file));
        }
        if let Some(container) = call.field("Info")["ContainerID"].as_str() {
            words.push(self.of("container", container));
        }
        if let Some(config) = call.field("Config").as_object() {
            for name in ["Tail", "Follow"] {
                words.push(format!("{name}={}", config[name]));
            }
        }
        words
    }
}

/// The lines of both, with `-` before what is missing and `+` before what is too much.
fn difference(expected: &[String], found: &[String]) -> String {
    // Lengths of the longest common subsequence of each two tails.
    let mut common = vec![vec![0; found.len() + 1]; expected.len() + 1];
    for left in (0..expected.len()).rev() {
        for right in (0..found.len()).rev() {
            common[left][right] = if expected[left] == found[right] {
                common[left + 1][right + 1] + 1
            } else {
                common[left + 1][right].max(common[left][right + 1])
            };
        }
    }
    let (mut left, mut right, mut lines) = (0, 0, String::new());
    while left < expected.len() || right < found.len() {
        let both = left < expected.len() && right < found.len();
        let (sign, line) = if both && expected[left] == found[right] {
            (left, right) = (left + 1, right + 1);
            (' ', &expected[left - 1])
        } else if right == found.len()
            || left < expected.len() && common[left + 1][right] >= common[left][right + 1]
        {
            left += 1;
            ('-', &expected[left - 1])
        } else {
            right += 1;
            ('+', &found[right - 1])
        };
        lines.extend([sign.to_string().as_str(), " ", line, "\n"]);
    }
    lines
}
