//! How Docker's command shows the client plugins, their help, and what is not understood.

use anyhow::{Result, ensure};
use harness::{Scenario, Stage};

use crate::{ends_with, says};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("docker_lists_both", listed),
        Scenario::new("help_is_shown", help),
        Scenario::new("what_is_not_understood_ends_with_2", not_understood),
        Scenario::new("a_reader_that_has_enough_is_no_failure", enough),
    ]
}

fn listed(stage: &Stage) -> Result<()> {
    let help = stage.engine().docker(&["--help"])?;
    for (name, about) in [("pgvol*", "Volumes for PostgreSQL"), ("pglog*", "Logs of containers")] {
        let line = help.lines().find(|line| line.trim_start().starts_with(name));
        ensure!(line.is_some_and(|line| line.contains(about)), "{name} is not in: {help}");
    }
    let plugins = "{{range .ClientInfo.Plugins}}{{.Name}} {{.Version}} {{.Err}};{{end}}";
    let info = stage.engine().docker(&["info", "--format", plugins])?;
    says(&info, &["pgvol 0.1.0", "pglog 0.1.0"])
}

/// Needs neither a plugin nor root.
fn help(stage: &Stage) -> Result<()> {
    for plugin in ["pgvol", "pglog"] {
        for command in [format!("docker {plugin} --help"), format!("docker help {plugin}")] {
            let help = ends_with(stage, 0, &format!("HOME=/tmp setpriv --reuid 65534 {command}"))?;
            let usage = format!("Usage: docker {plugin}");
            says(&help, &[&usage, "ls ", "inspect ", "status ", "--json", "--plugin"])?;
        }
        let help = ends_with(stage, 0, &format!("docker {plugin} inspect --help"))?;
        says(&help, &[&format!("Usage: docker {plugin} inspect")])?;
        let version = ends_with(stage, 0, &format!("docker {plugin} --version"))?;
        says(&version, &["0.1.0"])?;
    }
    Ok(())
}

fn not_understood(stage: &Stage) -> Result<()> {
    for (words, part) in [
        ("", "Usage"),
        ("nonsense", "has no command `nonsense`: allowed are ls, inspect, "),
        ("ls --nonsense", "ls has no flag `--nonsense`: allowed are --json, --plugin, --help"),
        ("ls too much", "too"),
        ("inspect", "required"),
        ("status --plugin", "--plugin"),
    ] {
        for plugin in ["pgvol", "pglog"] {
            let said = ends_with(stage, 2, &format!("docker {plugin} {words}"))?;
            says(&said, &[part])?;
        }
    }
    Ok(())
}

fn enough(stage: &Stage) -> Result<()> {
    stage.plugin()?;
    stage.engine().docker(&["pgvol", "status"])?;
    // The pipe is closed before anything is written.
    ends_with(stage, 0, "set -o pipefail; (sleep 1; docker pgvol status) | true").map(drop)
}
