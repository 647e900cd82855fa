//! The namespaces of an engine: mounts, processes, network, host name, IPC.
//!
//! The first process only reaps. When it ends the kernel kills every other one and drops the
//! mounts; it is tied to the harness by the parent-death signal, so that a harness that is killed
//! leaves nothing running either.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::{program, run};

const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/harness/engine_init.sh");

/// A running set of namespaces with a root of its own.
#[derive(Debug)]
pub(crate) struct Namespace {
    unshare: Child,
    init: u32,
}

impl Namespace {
    /// Makes the namespaces; `root` is the lower layer, `work` the engine's directory, `plugins`
    /// appears as `/srv`.
    pub(crate) fn start(root: &Path, work: &Path, plugins: &Path) -> Result<Self> {
        let log = File::create(work.join("init.log"))?;
        let mut unshare = program("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--uts"])
            .args(["--ipc", "--propagation", "private", "--fork", "--kill-child"])
            .args(["bash", INIT])
            .args([root, work, plugins])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start setpriv and unshare")?;
        let mut line = String::new();
        let stdout = unshare.stdout.take().context("standard output is piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line != "ready\n" {
            unshare.kill().ok();
            unshare.wait().ok();
            let said = fs::read_to_string(work.join("init.log")).unwrap_or_default();
            anyhow::bail!("the namespaces of an engine cannot be made (root needed): {said}");
        }
        let parent = unshare.id();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        let init = children.trim().parse().context("the one child of unshare")?;
        Ok(Self { unshare, init })
    }

    /// A command that runs inside.
    pub(crate) fn enter(&self) -> Command {
        let mut command = program("nsenter");
        command.args(["--target", &self.init.to_string()]);
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd=/", "--"]);
        command
    }

    /// A command that runs inside and dies with the process here that stands for it.
    pub(crate) fn enter_tied(&self) -> Command {
        let mut command = self.enter();
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        command
    }

    /// Where the machine sees a path of the inside. Absolute links on the way would lead out.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// The mounts of the inside, a line of mountinfo each.
    pub(crate) fn mounts(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", self.init))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The control groups that processes of the inside are in, relative to each hierarchy.
    pub(crate) fn control_groups(&self) -> Result<Vec<String>> {
        let own = fs::read_link(format!("/proc/{}/ns/pid", self.init))?;
        let mut groups = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            // Processes end while this looks at them.
            if fs::read_link(entry.path().join("ns/pid")).is_ok_and(|other| other == own) {
                let text = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
                let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
                groups.extend(paths.filter(|path| *path != "/").map(str::to_owned));
            }
        }
        groups.sort();
        groups.dedup();
        Ok(groups)
    }

    /// Kills everything inside and waits until it is gone.
    pub(crate) fn end(&mut self) -> Result<()> {
        if self.unshare.try_wait()?.is_none() {
            // Built into the shell: the program of that name is not on every machine.
            run(program("bash").args(["-c", &format!("kill -KILL {}", self.init)]))?;
        }
        let status = self.unshare.wait()?;
        // Whoever still wants to enter must not meet a process that gets the same number.
        self.init = u32::MAX;
        ensure!(status.code() != Some(0), "the first process of an engine ended by itself");
        Ok(())
    }
}
