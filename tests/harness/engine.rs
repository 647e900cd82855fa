//! A dockerd of the suite's own: started, killed and restarted at will, gone without a trace.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::dockerd_log::DockerdLog;
use crate::namespace::Namespace;
use crate::process::{LineStream, output, program, run};
use crate::version::Version;
use crate::{leaks, reboot, root, wait::eventually};

/// How long a docker command may take where the scenario does not say.
const COMMAND_LIMIT: Duration = Duration::from_secs(90);
const START_LIMIT: Duration = Duration::from_mins(1);

/// Runs a command in the root `$0`; the engine's socket is reached through /proc.
const OTHER_CLIENT: &str = r#"mount -t proc proc "$0/proc"; exec timeout 60 chroot "$0" "$@""#;

/// What dockerd is told on its next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartMode {
    /// Docker's default: containers end with the daemon.
    Plain,
    /// Containers go on without the daemon.
    LiveRestore,
}

/// What a docker command said, whatever its status.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the exit status was 0.
    pub success: bool,
    /// Standard output, as it is.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A running engine of Debian's docker.io.
#[derive(Debug)]
pub struct Engine {
    version: Version,
    work: TempDir,
    /// Parent of the containers' control groups, and of nothing else on the machine.
    group: String,
    namespace: Mutex<Namespace>,
    daemon: Mutex<Option<Child>>,
}

impl Engine {
    /// Makes the namespaces and starts dockerd of `version` in them.
    pub fn start(version: Version) -> Result<Arc<Self>> {
        let root = root::engine(version)?;
        // Not below /tmp, which may be a tmpfs: overlay2 and image pools need a disk.
        let parent = env::var_os("E2E_WORK").map_or_else(|| "/var/tmp".into(), PathBuf::from);
        let work = tempfile::Builder::new().prefix("pgvol-e2e-").tempdir_in(parent)?;
        for name in ["root", "upper", "overlay", "var-lib"] {
            #[expect(clippy::disallowed_methods, reason = "it is removed with the engine")]
            fs::create_dir(work.path().join(name))?;
        }
        let namespace = boot(&root, work.path())?;
        let group = work.path().file_name().context("a name")?.to_string_lossy().into_owned();
        let engine = Arc::new(Self {
            version,
            work,
            group,
            namespace: Mutex::new(namespace),
            daemon: Mutex::new(None),
        });
        engine.start_daemon(RestartMode::Plain)?;
        version.check(&engine.docker(&["version", "--format", "{{.Server.Version}}"])?)?;
        Ok(engine)
    }

    /// The version that was asked for.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Runs the docker client; another status than 0 is an error. Gives stdout, trimmed.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.client(COMMAND_LIMIT, arguments)?;
        let stderr = String::from_utf8_lossy(&outcome.stderr).into_owned();
        ensure!(outcome.success, "docker {}: {}", arguments.join(" "), stderr.trim());
        Ok(String::from_utf8_lossy(&outcome.stdout).trim().to_owned())
    }

    /// Runs the docker client, which must be refused; gives what it says on stderr.
    pub fn refused(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.client(COMMAND_LIMIT, arguments)?;
        ensure!(!outcome.success, "docker {} succeeded, should not", arguments.join(" "));
        Ok(String::from_utf8_lossy(&outcome.stderr).into_owned())
    }

    /// Runs the docker client for at most `limit`; its status and output are the caller's.
    pub fn client(&self, limit: Duration, arguments: &[&str]) -> Result<Outcome> {
        self.outcome(limit, &[&["docker"], arguments].concat())
    }

    /// Runs the docker client of another version against this engine; gives stdout, trimmed.
    pub fn client_of(&self, version: Version, arguments: &[&str]) -> Result<String> {
        let socket = format!("unix://{}", self.path("/run/docker.sock").display());
        let mut command = program("unshare");
        command.args(["--mount", "--propagation", "private", "bash", "-euc", OTHER_CLIENT]);
        command.arg(root::engine(version)?).args(["docker", "--host", &socket]).args(arguments);
        run(&mut command).map(|text| text.trim().to_owned())
    }

    /// Runs a shell script in the engine's root for at most `limit`, whatever its status.
    pub fn run_shell(&self, limit: Duration, script: &str) -> Result<Outcome> {
        self.outcome(limit, &["bash", "-euc", script])
    }

    fn outcome(&self, limit: Duration, command: &[&str]) -> Result<Outcome> {
        let output = output(self.timed(limit).args(command))?;
        // What timeout(1) answers when it had to end the command.
        if matches!(output.status.code(), Some(124 | 137)) {
            bail!("{} took more than {limit:?}", command.join(" "));
        }
        Ok(Outcome {
            success: output.status.success(),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }

    /// Starts the docker client and reads its standard output line by line.
    pub fn stream(&self, arguments: &[&str]) -> Result<LineStream> {
        let errors = self.append("stream.log")?;
        LineStream::start(self.tied(arguments).stderr(errors))
    }

    /// Starts a shell script in the engine's root and reads its standard output line by line.
    pub fn in_background(&self, script: &str) -> Result<LineStream> {
        let errors = self.append("stream.log")?;
        let mut command = self.namespace().enter_tied();
        LineStream::start(command.args(["bash", "-uc", script]).stderr(errors))
    }

    /// A docker client command that runs on; its streams are the caller's.
    pub(crate) fn tied(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace().enter_tied();
        command.arg("docker").args(arguments);
        command
    }

    /// Runs a shell script in the engine's root, as root of the host that the plugins see.
    pub fn shell(&self, script: &str) -> Result<String> {
        run(self.timed(COMMAND_LIMIT).args(["bash", "-euc", script]))
            .map(|text| text.trim().to_owned())
            .with_context(|| script.to_owned())
    }

    /// Where the machine sees a path of the engine's root.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.namespace().path(inside)
    }

    /// Lines of the engine's mountinfo that contain `part`.
    pub fn mounts(&self, part: &str) -> Result<Vec<String>> {
        let lines = self.namespace().mounts()?;
        Ok(lines.into_iter().filter(|line| line.contains(part)).collect())
    }

    /// Loop devices of the machine that are attached to files of this engine.
    pub fn loop_devices(&self) -> Result<Vec<String>> {
        leaks::loop_devices(&self.work.path().join("var-lib"))
    }

    /// What dockerd and, through it, the plugins have logged so far.
    pub fn log(&self) -> DockerdLog {
        DockerdLog::new(self.work.path().join("dockerd.log"))
    }

    /// Starts dockerd and waits until it answers.
    pub fn start_daemon(&self, mode: RestartMode) -> Result<()> {
        let mut command = self.namespace().enter();
        // One warning less, and the same way on every machine: no systemd is inside.
        command.args(["dockerd", "--exec-opt", "native.cgroupdriver=cgroupfs"]);
        command.arg(format!("--cgroup-parent=/{}", self.group));
        if mode == RestartMode::LiveRestore {
            command.arg("--live-restore");
        }
        let log = self.append("dockerd.log")?;
        command.stdout(log.try_clone()?).stderr(log);
        let mut daemon = self.daemon();
        ensure!(daemon.is_none(), "dockerd runs already");
        *daemon = Some(command.spawn().context("start nsenter")?);
        drop(daemon);
        eventually(START_LIMIT, || self.docker(&["version"])).with_context(|| {
            format!("dockerd does not start:\n{}", self.log().tail(20).unwrap_or_default())
        })?;
        Ok(())
    }

    /// Kills dockerd by SIGKILL: no container and no plugin is told.
    pub fn kill_daemon(&self) -> Result<()> {
        self.signal_daemon("KILL")
    }

    /// Ends dockerd by SIGTERM, as a service manager does.
    pub fn stop_daemon(&self) -> Result<()> {
        self.signal_daemon("TERM")
    }

    fn signal_daemon(&self, signal: &str) -> Result<()> {
        let mut child = self.daemon().take().context("dockerd does not run")?;
        self.shell(&format!("kill -{signal} $(cat /run/docker.pid)"))?;
        eventually(START_LIMIT, || {
            ensure!(child.try_wait()?.is_some(), "dockerd still runs after SIG{signal}");
            Ok(())
        })?;
        if signal == "KILL" {
            // A killed dockerd leaves the file, and the next one would take that pid for alive.
            self.shell("rm -f /run/docker.pid /run/docker/containerd/containerd.pid")?;
        }
        Ok(())
    }

    /// Ends the whole machine at once, as [`reboot`] says, and starts it again.
    pub fn reboot(&self, mode: RestartMode) -> Result<()> {
        self.end()?;
        *self.namespace() = boot(&root::engine(self.version)?, self.work.path())?;
        reboot::change_boot_id(self)?;
        self.start_daemon(mode)
    }

    /// Makes the image `base` (Debian with a shell) unless it is there.
    pub fn add_base_image(&self) -> Result<()> {
        let tar = File::open(root::base_image()?)?;
        run(self.tied(&["import", "-", "base"]).stdin(tar)).map(drop)
    }

    /// Makes the image `name` of Debian with `packages`, separated by commas.
    pub fn add_image(&self, name: &str, packages: &str) -> Result<()> {
        let tar = File::open(root::image(name, packages)?)?;
        run(self.tied(&["import", "-", name]).stdin(tar)).map(drop)
    }

    /// Makes the image `postgres:17`.
    pub fn add_postgres_image(&self) -> Result<()> {
        self.add_postgres(17)
    }

    /// Makes the image `postgres:MAJOR`.
    pub fn add_postgres(&self, major: u32) -> Result<()> {
        let tar = self.work.path().join("postgres.tar");
        root::postgres_image(major, &tar)?;
        let client = self.tied(&[]);
        let words = std::iter::once(client.get_program()).chain(client.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        run(program("bash")
            .arg(root::postgres_import())
            .arg(&tar)
            .arg(format!("postgres:{major}"))
            .env("DOCKER", words.join(" ")))?;
        fs::remove_file(tar)?;
        Ok(())
    }

    /// Copies a directory of the machine into `below`, a directory of the engine's root.
    pub fn add_directory(&self, directory: &Path, below: &str) -> Result<()> {
        run(program("cp").arg("-r").arg(directory).arg(self.path(below))).map(drop)
    }

    /// Puts the project's scripts, and what of the project they read, below `/opt`.
    pub fn add_scripts(&self) -> Result<()> {
        let sources = root::scripts_and_sources();
        run(program("cp").arg("-rt").arg(self.path("/opt")).args(sources)).map(drop)
    }

    /// Ends everything, then looks for what it should not have left. Also done on drop.
    pub fn end(&self) -> Result<()> {
        let groups = self.namespace().control_groups().unwrap_or_default();
        self.namespace().end()?;
        if let Some(mut daemon) = self.daemon().take() {
            daemon.wait()?;
        }
        leaks::remove_control_groups(&groups, &self.group)?;
        leaks::check(self.work.path())
    }

    /// The state of everything, for the report of a failed scenario.
    pub fn diagnosis(&self) -> String {
        let sections = [
            ("containers", self.docker(&["ps", "-a"])),
            ("plugins", self.docker(&["plugin", "ls"])),
            ("processes", self.shell("ps axf -o pid,stat,etime,args | cut -c-150")),
            ("mounts", self.mounts("").map(|lines| lines.join("\n"))),
            ("dockerd", self.log().tail(40)),
            ("plugin log", self.log().plugin_tail(60)),
        ];
        let section = |(title, text): (&str, Result<String>)| {
            format!("--- {title}\n{}\n", text.unwrap_or_else(|error| format!("{error:#}")))
        };
        sections.map(section).concat()
    }

    /// A command inside that is ended after `limit`, so that no scenario hangs.
    fn timed(&self, limit: Duration) -> Command {
        let mut command = self.namespace().enter();
        command.args(["timeout", "--kill-after=5", &limit.as_secs_f32().to_string()]);
        command
    }

    fn append(&self, name: &str) -> Result<File> {
        let path: &Path = self.work.path();
        Ok(OpenOptions::new().create(true).append(true).open(path.join(name))?)
    }

    fn namespace(&self) -> MutexGuard<'_, Namespace> {
        self.namespace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Child>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The namespaces on the engine's directory, which holds what an earlier boot has left.
fn boot(root: &Path, work: &Path) -> Result<Namespace> {
    Namespace::start(root, work, &root::plugins().unwrap_or_default())
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Whoever wants to hear of leaks calls `end` before; here it only must not stay.
        self.end().ok();
    }
}
