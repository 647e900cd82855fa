//! The file sink: on the host, whatever happens to the plugin and to the files.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Scenario, Stage, eventually, numbered};

const LIMIT: Duration = Duration::from_mins(1);
const LOGS: &str = "/var/log/pglog";

pub(crate) fn scenarios() -> Vec<Scenario> {
    // A sink that does not deliver is a warning.
    const DEAD: &[&str] = &["a sink does not deliver"];
    vec![
        Scenario::new("files_hold_each_line_once", each_line_once).tolerating(DEAD),
        Scenario::new("file_as_json_file_writes_it", as_json_file),
        Scenario::new("file_is_rotated", rotated),
        Scenario::new("file_of_another_container_is_refused", another_container)
            .tolerating(&["LogDriver.StartLogging"]),
        Scenario::new("file_options_are_refused_by_name", refused)
            .tolerating(&["LogDriver.StartLogging"]),
        Scenario::new("file_waits_for_settings_that_are_allowed", wrong_settings)
            .tolerating(&["a sink does not deliver", "settings that are not allowed"]),
    ]
}

fn run(stage: &Stage, name: &str, options: &[&str], command: &[&str]) -> Result<Container> {
    let mut arguments = vec!["--log-driver", stage.driver("pglog")?];
    for option in options {
        arguments.extend(["--log-opt", option]);
    }
    arguments.push("base");
    Container::run(stage.engine(), name, &[&arguments[..], command].concat())
}

fn read(stage: &Stage, path: &str) -> Result<Vec<u8>> {
    let path = format!("{LOGS}/{path}");
    fs::read(stage.engine().path(&path)).with_context(|| path)
}

/// Makes each of two paths the other: renameat2(2) with `RENAME_EXCHANGE`.
const EXCHANGE: &str =
    r#"syscall(316, -100, $ARGV[0], -100, $ARGV[1], 2) == 0 or die "exchange: $!""#;

/// The plugin is killed, the place for the files is taken away and given back, the files are
/// moved as logrotate does, all while three containers print.
fn each_line_once(stage: &Stage) -> Result<()> {
    let plugin = stage.plugin()?;
    let engine = stage.engine();
    let print = |n: usize| {
        let options = ["sinks=file", "max-size=200m"];
        run(stage, &format!("filed{n}"), &options, &["perl", "-e", numbered::SLOWLY, "1000000000"])
    };
    let containers = (0..3).map(print).collect::<Result<Vec<_>>>()?;
    plugin.kill()?;
    eventually(LIMIT, || read(stage, "filed2/filed2.log"))?;
    // At one instant, or the plugin makes the directory anew in between.
    let exchange = format!("perl -e '{EXCHANGE}' {LOGS} {LOGS}.aside");
    engine.shell(&format!(": >{LOGS}.aside; {exchange}"))?;
    plugin.kill()?;
    engine.shell(&format!("{exchange}; rm {LOGS}.aside"))?;
    plugin.kill()?;
    for container in &containers {
        engine.docker(&["kill", "--signal", "USR1", container.name()])?;
        ensure!(container.wait(LIMIT)? == 0, "the container failed");
        let printed: usize = String::from_utf8(container.logs(&[])?.stderr)?.trim().parse()?;
        let name = container.name();
        eventually(LIMIT, || {
            let files = [".4", ".3", ".2", ".1", ""];
            let mut all: Vec<u8> = Vec::new();
            for number in files {
                all.extend(read(stage, &format!("{name}/{name}.log{number}")).unwrap_or_default());
            }
            // A line on stderr says how many there were; dockerd may be quicker with it.
            let said = format!("\n{printed}\n").into_bytes();
            let at = all.windows(said.len()).position(|window| window == said);
            let at = at.with_context(|| format!("{} bytes without an end", all.len()))?;
            all.drain(at + 1..at + said.len());
            numbered::check(&all, printed)
        })?;
    }
    Ok(())
}

/// The same as Docker's own driver, but for the time.
fn as_json_file(stage: &Stage) -> Result<()> {
    let script = r#"printf 'a"b\\c\td\re<f>&g \377\344 utf \303\244 \342\200\250\033[1m\n'; echo
        head -c 40000 /dev/zero | tr '\0' x; echo; printf end"#;
    let command = ["bash", "-uc", script];
    let options = ["file-format=json", "file-path={{.Name | upper}}.json"];
    let own = run(stage, "as-json", &options, &command)?;
    let theirs = [&["--log-driver", "json-file", "base"], &command[..]].concat();
    let theirs = Container::run(stage.engine(), "json", &theirs)?;
    ensure!(own.wait(LIMIT)? == 0 && theirs.wait(LIMIT)? == 0, "the script failed");
    let expected = fs::read(stage.engine().path(&theirs.inspect("{{.LogPath}}")?))?;
    let expected = without_time(&expected)?;
    eventually(LIMIT, || {
        let found = without_time(&read(stage, "AS-JSON.json")?)?;
        ensure!(found == expected, "{found:#?} instead of {expected:#?}");
        Ok(())
    })
}

fn without_time(lines: &[u8]) -> Result<Vec<String>> {
    let cut = |line: &str| {
        let (before, time) = line.split_once(r#""time":""#).context("a time")?;
        ensure!(time.ends_with("Z\"}") && time.len() <= 33, "the time {time}");
        Ok(before.to_owned())
    };
    std::str::from_utf8(lines)?.lines().map(cut).collect()
}

/// By size, and by others' hands.
fn rotated(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let options = ["file-path=r/r.log", "file-max-size=100k", "file-max-files=3", "file-mode=0644"];
    let container = run(stage, "rotated", &options, &["seq", "100000"])?;
    ensure!(container.wait(LIMIT)? == 0, "seq failed");
    eventually(LIMIT, || {
        let last = read(stage, "r/r.log")?;
        ensure!(last.ends_with(b"\n100000\n"), "the last line is not there yet");
        Ok(())
    })?;
    let all = [read(stage, "r/r.log.2")?, read(stage, "r/r.log.1")?, read(stage, "r/r.log")?];
    let sizes = all.each_ref().map(Vec::len);
    ensure!(sizes[0] < 110_000 && sizes[0] >= 102_400 && sizes[1] < 110_000, "{sizes:?}");
    let (_, last) = numbered::range(&all.concat())?;
    ensure!(last == 100_000, "the last line is {last}");
    ensure!(read(stage, "r/r.log.3").is_err(), "there are four files");
    let mode = engine.shell(&format!("stat -c %a:%u {LOGS}/r/r.log"))?;
    ensure!(mode == "644:0", "mode and owner are {mode}");
    engine.shell(&format!("mv {LOGS}/r/r.log {LOGS}/r/moved"))?;
    container.start()?;
    ensure!(container.wait(LIMIT)? == 0, "seq failed");
    eventually(LIMIT, || {
        let last = read(stage, "r/r.log")?;
        ensure!(last.ends_with(b"\n100000\n"), "the last line is not there yet");
        Ok(())
    })?;
    ensure!(read(stage, "r/moved")? == all[2], "the moved file was written to");
    Ok(())
}

fn another_container(stage: &Stage) -> Result<()> {
    let options = ["file-path=shared.log"];
    let first = run(stage, "first", &options, &["sleep", "1000"])?;
    let words = run(stage, "second", &options, &["echo", "a"]).err().context("it started")?;
    let words = format!("{words:#}");
    ensure!(words.contains("shared.log") && words.contains("`first`"), "{words}");
    first.remove(LIMIT)?;
    // As compose does when it makes a container anew.
    let second = run(stage, "second", &options, &["echo", "a"])?;
    ensure!(second.wait(LIMIT)? == 0);
    eventually(LIMIT, || {
        ensure!(read(stage, "shared.log")? == b"a\n", "not the second one's line");
        Ok(())
    })
}

fn refused(stage: &Stage) -> Result<()> {
    for option in ["file-path=../x", "file-path={{.Nick}}", "file-format=xml", "file-max-files=0"] {
        let (key, value) = option.split_once('=').unwrap_or_default();
        let words = run(stage, "refused", &[option], &["true"]).err().context("it started")?;
        let words = format!("{words:#}");
        ensure!(words.contains(key) && words.contains(value), "{option}: {words}");
    }
    Ok(())
}

/// A plugin that would not start for its settings would be started again and again, and no container.
fn wrong_settings(stage: &Stage) -> Result<()> {
    let (engine, plugin) = (stage.engine(), stage.plugin()?);
    let set = |settings: &[&str]| {
        plugin.disable()?;
        engine.docker(&[&["plugin", "set", "pglog"], settings].concat())?;
        plugin.enable()
    };
    set(&["LOG_DIR=logs", "KEEP_REMOVED=14"])?;
    let container = run(stage, "patient", &["sinks=file"], &["echo", "a"])?;
    ensure!(container.wait(LIMIT)? == 0 && container.logs(&[])?.stdout == b"a\n", "no log");
    let (_, status) = plugin.call("/Pglog.Status", "{}")?;
    let status = status.to_string();
    let wrong = ["LOG_DIR=logs: allowed is an absolute path", "KEEP_REMOVED=14: allowed is"];
    ensure!(wrong.iter().all(|wrong| status.contains(wrong)), "{status}");
    ensure!(status.contains("LOG_DIR/patient/patient.log"), "{status}");
    ensure!(read(stage, "patient/patient.log").is_err(), "written below a directory not meant");
    set(&[&format!("LOG_DIR={LOGS}"), "KEEP_REMOVED=14d"])?;
    eventually(LIMIT, || {
        ensure!(read(stage, "patient/patient.log")? == b"a\n", "not the line");
        Ok(())
    })
}
