//! A container's log, spliced into segments by a plugin that is killed again and again.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Scenario, Stage, eventually, numbered};
use serde_json::Value;

use crate::probe::Probe;

const LINES: usize = 700_000;
const KILLS: usize = 5;
const SEGMENT: usize = 256 * 1024;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("stream::every_line_once_over_kills", every_line_once_over_kills)]
}

fn every_line_once_over_kills(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let probe = Probe::install(engine, "pglog")?;
    let count = LINES.to_string();
    let program = ["--entrypoint=perl", "postgres:17", "-e", numbered::SLOWLY, &count];
    let writer =
        Container::run(engine, "writer", &[&["--log-driver=pglog"], &program[..]].concat())?;
    for _ in 0..KILLS {
        probe.kill()?;
        let about = probe.ask("about", &Value::Null)?;
        let again = about["reattached"][0].as_str().unwrap_or_default();
        ensure!(again.ends_with("goes on"), "after a kill: {about}");
    }
    ensure!(writer.inspect("{{.State.Status}}")? == "running", "the kills came too late");
    ensure!(writer.wait(Duration::from_mins(1))? == 0, "the writer failed");
    // dockerd has no more to say once it has taken the FIFO away.
    let segments = engine.path("/var/lib/pgvol/probe/segments");
    let streams = engine.path("/var/lib/pgvol/probe/streams");
    eventually(Duration::from_secs(10), || {
        ensure!(fs::read_dir(&streams)?.count() == 0, "the stream is not stopped");
        Ok(())
    })?;

    let stream = fs::read_dir(segments)?.next().context("no segments")??.path();
    let mut names: Vec<_> = fs::read_dir(stream)?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    ensure!(names.len() > 10, "only {} segments", names.len());
    let mut lines = Vec::new();
    for name in &names {
        let bytes = fs::read(name)?;
        frames(&bytes, &mut lines).with_context(|| name.display().to_string())?;
        let last = names.last() == Some(name);
        ensure!(last || (SEGMENT..SEGMENT + 64).contains(&bytes.len()), "{} bytes", bytes.len());
    }
    numbered::check(&lines, LINES)
}

/// Adds the lines of a segment, which must be whole frames: a length and a `LogEntry` each.
fn frames(mut bytes: &[u8], lines: &mut Vec<u8>) -> Result<()> {
    while !bytes.is_empty() {
        let (header, rest) = bytes.split_first_chunk::<4>().context("half a header")?;
        let length = u32::from_be_bytes(*header).try_into()?;
        let (entry, rest) = rest.split_at_checked(length).context("half a frame")?;
        lines.extend_from_slice(line(entry).context("no log entry")?);
        lines.push(b'\n');
        bytes = rest;
    }
    Ok(())
}

/// The field `line` of a `LogEntry` whose lines are short: a source, a time, a line.
fn line(entry: &[u8]) -> Option<&[u8]> {
    let rest = entry.strip_prefix(b"\x0a\x06stdout\x10")?;
    let time = rest.iter().position(|byte| byte & 0x80 == 0)?;
    let line = rest.get(time + 1..)?.strip_prefix(b"\x1a")?;
    line.get(1..).filter(|text| text.len() == usize::from(line[0]))
}
