//! What containers print arrives once, in order, byte for byte.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Container, Outcome, Scenario, Stage, numbered};

const DRIVERS: &[&str] = &["json-file", "pglog"];

pub(crate) fn scenarios() -> Vec<Scenario> {
    [
        Scenario::for_drivers("a_million_lines", DRIVERS, a_million_lines),
        Scenario::for_drivers("stdout_and_stderr", DRIVERS, stdout_and_stderr),
        Scenario::for_drivers("line_of_one_chunk", DRIVERS, line_of_one_chunk),
        Scenario::for_drivers("line_of_a_megabyte", DRIVERS, line_of_a_megabyte),
        Scenario::for_drivers("empty_lines", DRIVERS, empty_lines),
        Scenario::for_drivers("no_final_newline", DRIVERS, no_final_newline),
        Scenario::for_drivers("terminal", DRIVERS, terminal),
        Scenario::for_drivers("many_containers_at_once", DRIVERS, many_at_once),
        // json-file would replace bytes that are no UTF-8.
        Scenario::for_drivers("any_bytes", &["local", "pglog"], any_bytes),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn a_million_lines(stage: &Stage, driver: &'static str) -> Result<()> {
    let logs = logs_of(stage, driver, &[], "seq 1000000")?;
    numbered::check(&logs.stdout, 1_000_000)
}

fn many_at_once(stage: &Stage, driver: &'static str) -> Result<()> {
    let arguments = ["--log-driver", driver, "base", "seq", "50000"];
    let run = |n: usize| Container::run(stage.engine(), &format!("many{n}"), &arguments);
    let containers = (0..20).map(run).collect::<Result<Vec<_>>>()?;
    for container in &containers {
        ensure!(container.wait(Duration::from_mins(1))? == 0, "seq failed");
        numbered::check(&container.logs(&[])?.stdout, 50_000)?;
    }
    Ok(())
}

fn stdout_and_stderr(stage: &Stage, driver: &'static str) -> Result<()> {
    let script = "for n in $(seq 500); do echo out $n; echo err $n >&2; done";
    let logs = logs_of(stage, driver, &[], script)?;
    check(&logs.stdout, numbered::lines("out ", 1..=500).as_bytes())?;
    check(&logs.stderr, numbered::lines("err ", 1..=500).as_bytes())
}

/// Docker cuts lines at 16384 bytes; at exactly that length the last piece is an empty one.
fn line_of_one_chunk(stage: &Stage, driver: &'static str) -> Result<()> {
    let script = "line() { head -c $1 /dev/zero | tr '\\0' $2; echo; }
        line 16383 a; line 16384 b; line 16385 c; line 32768 d; echo end";
    let logs = logs_of(stage, driver, &[], script)?;
    let mut expected = Vec::new();
    for (length, letter) in [(16383, b'a'), (16384, b'b'), (16385, b'c'), (32768, b'd')] {
        expected.extend(vec![letter; length]);
        expected.push(b'\n');
    }
    expected.extend(b"end\n");
    check(&logs.stdout, &expected)
}

fn line_of_a_megabyte(stage: &Stage, driver: &'static str) -> Result<()> {
    let script = "echo begin; head -c 1048576 /dev/zero | tr '\\0' x; echo; echo end";
    let logs = logs_of(stage, driver, &[], script)?;
    let expected = [b"begin\n".as_slice(), &vec![b'x'; 1 << 20], b"\nend\n"].concat();
    check(&logs.stdout, &expected)
}

fn empty_lines(stage: &Stage, driver: &'static str) -> Result<()> {
    let logs = logs_of(stage, driver, &[], "echo; echo; echo a; echo; echo ' '; echo")?;
    check(&logs.stdout, b"\n\na\n\n \n\n")
}

fn no_final_newline(stage: &Stage, driver: &'static str) -> Result<()> {
    let logs = logs_of(stage, driver, &[], "echo whole; printf cut")?;
    check(&logs.stdout, b"whole\ncut")
}

fn terminal(stage: &Stage, driver: &'static str) -> Result<()> {
    let logs = logs_of(stage, driver, &["--tty"], "echo one; echo two >&2; printf three")?;
    check(&logs.stdout, b"one\r\ntwo\r\nthree")?;
    check(&logs.stderr, b"")
}

fn any_bytes(stage: &Stage, driver: &'static str) -> Result<()> {
    let script = r"printf 'nul \000 latin \344 carriage\rreturn \033[1m utf \303\244\n'; echo end";
    let logs = logs_of(stage, driver, &[], script)?;
    check(&logs.stdout, b"nul \0 latin \xe4 carriage\rreturn \x1b[1m utf \xc3\xa4\nend\n")
}

/// Runs `script` to its end and reads its log back.
fn logs_of(stage: &Stage, driver: &'static str, options: &[&str], script: &str) -> Result<Outcome> {
    let command = ["base", "bash", "-euc", script];
    let arguments = [&["--log-driver", driver], options, &command].concat();
    let container = Container::run(stage.engine(), "lines", &arguments)?;
    ensure!(container.wait(Duration::from_mins(2))? == 0, "the script failed");
    container.logs(&[])
}

fn check(found: &[u8], expected: &[u8]) -> Result<()> {
    let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let position = differs.unwrap_or(found.len().min(expected.len()));
    let around = |bytes: &[u8]| {
        let end = bytes.len().min(position + 20);
        bytes[position.saturating_sub(20).min(end)..end].escape_ascii().to_string()
    };
    ensure!(
        found == expected,
        "{} bytes instead of {}; at {position} there is ...{}... instead of ...{}...",
        found.len(),
        expected.len(),
        around(found),
        around(expected)
    );
    Ok(())
}
