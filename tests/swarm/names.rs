//! How swarm finds the plugins, and what a user sees where it does not.

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, eventually};

use crate::service::{LIMIT, Service, Swarm};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("plugins_by_both_of_their_names", both_names),
        Scenario::new("a_task_waits_for_its_plugin", waits),
        Scenario::new("a_refused_option_is_shown_with_the_task", refused),
    ]
}

fn both_names(stage: &Stage) -> Result<()> {
    Swarm::with(stage, |swarm| {
        for (number, tag) in ["", ":latest"].into_iter().enumerate() {
            let name = format!("names{number}");
            let mount = format!("--mount=type=volume,src={name},dst=/pg,volume-driver=pgvol{tag}");
            let log = format!("--log-driver=pglog{tag}");
            let script = "echo kept | tee /pg/data/file; sleep 1000";
            let options = [mount.as_str(), &log, "base", "sh", "-c", script];
            let service = Service::create(swarm, &name, &options)?;
            let task = service.wait_task("")?;
            eventually(LIMIT, || {
                ensure!(service.logs()? == "kept\n", "logs: {:?}", service.logs());
                Ok(())
            })?;
            let driver = ["volume", "inspect", "--format={{.Driver}}", &name];
            let driver = swarm.engine.docker(&driver)?;
            ensure!(driver.starts_with("pgvol"), "the driver is {driver}");
            let found = swarm.engine.docker(&["exec", &task, "cat", "/pg/data/file"])?;
            ensure!(found == "kept", "{found:?}");
            service.remove()?;
            swarm.engine.docker(&["volume", "rm", &name])?;
        }
        Ok(())
    })
}

/// While the plugin is disabled no node has it; a task that runs is left alone.
fn waits(stage: &Stage) -> Result<()> {
    Swarm::with(stage, |swarm| {
        let mount = "--mount=type=volume,src=waits,dst=/pg,volume-driver=pgvol";
        let command = ["base", "sleep", "1000"];
        let create = |name: &str| Service::create(swarm, name, &[&[mount], &command[..]].concat());
        let running = create("running")?;
        let task = running.wait_task("")?;
        swarm.pgvol.disable()?;
        let waiting = create("waiting")?;
        eventually(LIMIT, || {
            let states = waiting.states("{{.CurrentState}} {{.Error}}")?;
            ensure!(states.contains("Pending") && states.contains("missing plugin"), "{states}");
            Ok(())
        })?;
        swarm.pgvol.enable()?;
        waiting.wait_task("")?;
        ensure!(running.wait_task("")? == task, "the running task was replaced");
        waiting.remove()?;
        running.remove()?;
        swarm.engine.docker(&["volume", "rm", "waits"]).map(drop)
    })
}

fn refused(stage: &Stage) -> Result<()> {
    Swarm::with(stage, |swarm| {
        let mount = "--mount=type=volume,src=no,dst=/pg,volume-driver=pgvol,volume-opt=sizes=1G";
        let service = Service::create(swarm, "refused", &[mount, "base", "sleep", "1000"])?;
        eventually(LIMIT, || {
            let states = service.states("{{.CurrentState}} {{.Error}}")?;
            ensure!(states.contains("Rejected") && states.contains("sizes"), "{states}");
            Ok(())
        })?;
        service.remove()?;
        // Others may be there: swarm now and then leaves the volume that an image declares.
        let ours = ["volume", "ls", "--quiet", "--filter=driver=pgvol"];
        let volumes = swarm.engine.docker(&ours)?;
        ensure!(volumes.is_empty(), "left: {volumes}");
        Ok(())
    })
}
