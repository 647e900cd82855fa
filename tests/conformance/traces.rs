//! What dockerd says to both plugins in ten situations, call by call.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{RestartMode, Scenario, Stage, Version, eventually};

use crate::golden::Trace;
use crate::rig::Rig;

/// Ends at SIGTERM, so that nothing waits for it.
const SERVE: &str = "trap 'exit 0' TERM; echo hi; sleep infinity & wait";
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let scenario = |name: &'static str, file: &'static str, body: Body| {
        Scenario::new(name, move |stage: &Stage| {
            let rig = Rig::new(stage)?;
            let mut trace = Trace::begin(&rig, file)?;
            body(&mut trace)?;
            trace.end()
        })
    };
    vec![
        scenario("trace_a_run", "a", run),
        scenario("trace_b_copy_up", "b", copy_up),
        scenario("trace_c_subpaths", "c", subpaths).since(Version::V26_1, "volume-subpath"),
        scenario("trace_d_cp", "d", cp),
        scenario("trace_e_logs", "e", logs),
        scenario("trace_f_restart", "f", restart),
        scenario("trace_g_plugin_killed", "g", plugin_killed),
        scenario("trace_h_engine_restarted", "h", engine_restarted),
        scenario("trace_i_live_restore", "i", live_restore),
        scenario("trace_j_plugin_disabled", "j", plugin_disabled),
    ]
}

type Body = fn(&mut Trace<'_>) -> Result<()>;

/// A container `box` that runs on, with the volume `v1` at a place that is not in the image.
fn serve(trace: &mut Trace<'_>, options: &[&str]) -> Result<()> {
    let run = ["run", "-d", "--name", "box", "-v", "v1:/data", "--volume-driver", "pgvol"];
    let command = ["--log-driver", "pglog", "base", "sh", "-c", SERVE];
    trace.docker(&[&run[..], options, &command].concat()).map(drop)
}

fn remove(trace: &mut Trace<'_>) -> Result<()> {
    trace.docker(&["rm", "-f", "box"])?;
    trace.docker(&["volume", "rm", "v1"]).map(drop)
}

fn run(trace: &mut Trace<'_>) -> Result<()> {
    let run = ["run", "--rm", "-v", "v1:/data", "--volume-driver", "pgvol", "--log-driver"];
    trace.docker(&[&run[..], &["pglog", "base", "echo", "hi"]].concat())?;
    trace.docker(&["volume", "rm", "v1"]).map(drop)
}

fn copy_up(trace: &mut Trace<'_>) -> Result<()> {
    // In every Debian image.
    let run = ["create", "--name", "box", "-v", "v1:/srv", "--volume-driver", "pgvol"];
    trace.docker(&[&run[..], &["--log-driver", "pglog", "base", "true"]].concat())?;
    trace.docker(&["start", "-a", "box"])?;
    remove(trace)
}

fn subpaths(trace: &mut Trace<'_>) -> Result<()> {
    trace.docker(&["volume", "create", "-d", "pgvol", "v1"])?;
    let data = "type=volume,src=v1,dst=/a,volume-subpath=data";
    let wal = "type=volume,src=v1,dst=/b,volume-subpath=wal";
    let run = ["run", "--rm", "--mount", data, "--mount", wal, "base", "true"];
    trace
        .step_of_mixed_ids(&format!("docker {}", run.join(" ")), |rig| rig.engine().docker(&run))?;
    trace.docker(&["volume", "rm", "v1"]).map(drop)
}

fn cp(trace: &mut Trace<'_>) -> Result<()> {
    serve(trace, &[])?;
    trace.docker(&["cp", "box:/etc/hostname", "/tmp/out"])?;
    trace.docker(&["cp", "/tmp/out", "box:/data/in"])?;
    trace.docker(&["stop", "box"])?;
    remove(trace)
}

fn logs(trace: &mut Trace<'_>) -> Result<()> {
    serve(trace, &[])?;
    trace.docker(&["logs", "box"])?;
    trace.docker(&["logs", "--tail", "1", "box"])?;
    trace.step("docker logs -f box & docker stop box", |rig| {
        let follower = rig.engine().stream(&["logs", "-f", "box"])?;
        ensure!(follower.next(LIMIT)? == "hi");
        rig.engine().docker(&["stop", "box"])?;
        let rest = follower.rest(LIMIT)?;
        ensure!(rest.is_empty(), "{rest:?}");
        Ok(())
    })?;
    let kept = trace.docker(&["logs", "box"])?;
    ensure!(kept == "hi", "{kept:?}");
    remove(trace)
}

fn restart(trace: &mut Trace<'_>) -> Result<()> {
    serve(trace, &[])?;
    trace.docker(&["restart", "box"])?;
    remove(trace)
}

fn plugin_killed(trace: &mut Trace<'_>) -> Result<()> {
    serve(trace, &[])?;
    trace.step("kill -9 pgvol", |rig| rig.pgvol.kill())?;
    trace.step("kill -9 pglog", |rig| rig.pglog.kill())?;
    trace.docker(&["stop", "box"])?;
    remove(trace)
}

fn engine_restarted(trace: &mut Trace<'_>) -> Result<()> {
    serve(trace, &["--restart", "always"])?;
    trace.step_at_once("kill dockerd", |rig| rig.engine().stop_daemon())?;
    trace.step_at_once("dockerd", |rig| {
        rig.engine().start_daemon(RestartMode::Plain)?;
        running(rig)
    })?;
    remove(trace)
}

fn live_restore(trace: &mut Trace<'_>) -> Result<()> {
    trace.step_at_once("kill dockerd; dockerd --live-restore", |rig| {
        rig.engine().stop_daemon()?;
        rig.engine().start_daemon(RestartMode::LiveRestore)?;
        rig.pgvol.wait_listening()?;
        rig.pglog.wait_listening()
    })?;
    serve(trace, &[])?;
    trace.step_at_once("kill dockerd", |rig| rig.engine().stop_daemon())?;
    trace.step_at_once("dockerd --live-restore", |rig| {
        rig.engine().start_daemon(RestartMode::LiveRestore)?;
        running(rig)
    })?;
    trace.step_at_once("kill -9 dockerd", |rig| rig.engine().kill_daemon())?;
    trace.step_at_once("dockerd --live-restore", |rig| {
        rig.engine().start_daemon(RestartMode::LiveRestore)?;
        running(rig)
    })?;
    trace.docker(&["stop", "box"])?;
    remove(trace)?;
    trace.step_at_once("kill dockerd; dockerd", |rig| {
        rig.engine().stop_daemon()?;
        rig.engine().start_daemon(RestartMode::Plain)
    })
}

fn running(rig: &Rig<'_>) -> Result<()> {
    eventually(LIMIT, || {
        let state = rig.engine().docker(&["inspect", "--format", "{{.State.Running}}", "box"])?;
        ensure!(state == "true", "the container does not run");
        Ok(())
    })
}

fn plugin_disabled(trace: &mut Trace<'_>) -> Result<()> {
    serve(trace, &[])?;
    for plugin in ["pgvol", "pglog"] {
        trace.docker(&["plugin", "disable", "-f", plugin])?;
        trace.docker(&["plugin", "enable", plugin])?;
    }
    trace.docker(&["stop", "box"])?;
    remove(trace)
}
