//! A clone that is thrown away with a server that is started on it: how a snapshot shows that it recovers.
//!
//! The plugin knows no images and starts no containers, so this is done beside the engine. However it ends,
//! container and clone go: on errors and signals here; after a kill the container by itself, since its
//! standard input ends, and the clone at the next trial, by its label and since nobody claims its name.

mod claim;
mod home;
mod report;

use std::io;
use std::path::Path;

use plugin_sdk::cli::{Failure, Interruption, Session};
use serde::Deserialize;

use self::claim::Claim;
use self::home::{Container, Home};
use self::report::{Came, Report, Trouble};
use super::making;
use crate::api::answers::{List, Volume};
use crate::api::snapshots::{Made, Make, Of};
use crate::api::trials::{Cluster, Clusters, Found};
use crate::name::VolumeName;

/// What runs in the container.
const SERVER: &str = include_str!("server.sh");

/// What a container is told whatever it is of: it sees no network, keeps no log and gains nothing.
const APART: [&str; 15] = [
    "run",
    "--rm",
    "--interactive",
    "--network=none",
    "--log-driver=none",
    "--no-healthcheck",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--tmpfs=/run/pgvol-trial:mode=1777,size=64m",
    "--workdir=/",
    "--label",
    claim::LABEL,
    "--entrypoint=sh",
    "--env",
    "PGTZ=UTC",
];

/// What a server is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// To be searched for damage.
    Verify,
    /// To recover and stop.
    Prepare,
}

impl Task {
    fn word(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Prepare => "prepare",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    session: &'a Session,
    interruption: Interruption,
    claim: Claim,
    is_over: bool,
    /// The volume that the clone is of, or of a snapshot of.
    volume: String,
}

impl<'a> Trial<'a> {
    /// Makes a clone of `from`, a volume or a snapshot.
    pub(super) fn begin(session: &'a Session, from: &str) -> Result<Self, Failure> {
        let interruption = Interruption::watch().map_err(Failure::Runtime)?;
        sweep(session)?;
        let volume = from.split_once('@').map_or(from, |(volume, _)| volume).to_owned();
        let claim = Claim::new().map_err(|error| unclaimed(&error))?;
        let mut make = Make { name: claim.name.clone(), background: true, ..Make::default() };
        make.options.insert("from".to_owned(), from.to_owned());
        make.options.insert("prepared".to_owned(), "off".to_owned());
        make.options.insert(format!("label.{}", claim::LABEL), from.to_owned());
        // From here on there may be something to throw away.
        let trial = Self { session, interruption, claim, is_over: false, volume };
        let Made { work, .. } = session.ask("/Pgvol.Make", &make)?;
        if let Some(work) = work {
            making::wait(work, &make.name, session, || trial.interruption.happened())?;
        }
        trial.refuse_if_over()?;
        Ok(trial)
    }

    /// The name of the clone.
    pub(super) fn clone(&self) -> &str {
        &self.claim.name
    }

    /// Starts the server of each cluster, one after the other, and gives what came of it.
    pub(super) fn run(&self, task: Task, image: Option<&str>) -> Result<Vec<Found>, Failure> {
        let of = Of { name: self.clone().to_owned() };
        let Clusters { clusters } = self.session.ask("/Pgvol.Clusters", &of)?;
        if clusters.is_empty() {
            return Err(Failure::Refused(format!("there is no cluster in {}", self.volume)));
        }
        let containers = self.containers()?;
        let mut found = Vec::new();
        for cluster in &clusters {
            let mut checks = self.serve(task, cluster, image, &containers)?;
            if clusters.len() > 1 {
                for check in &mut checks {
                    check.found = format!("{}: {}", cluster.path, check.found);
                }
            }
            found.extend(checks);
        }
        Ok(found)
    }

    fn refuse_if_over(&self) -> Result<(), Failure> {
        let over = self.interruption.happened();
        if over { Err(Failure::Refused("interrupted".to_owned())) } else { Ok(()) }
    }

    /// Those that have the volume, or had it and are still there.
    fn containers(&self) -> Result<Vec<Container>, Failure> {
        let filter = format!("volume={}", self.volume);
        let ids =
            self.session.docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter])?;
        let ids: Vec<_> = ids.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let shown = self.session.docker(&[&["inspect", "--type=container"], &ids[..]].concat())?;
        parse(&shown, "docker inspect")
    }

    fn serve(
        &self,
        task: Task,
        cluster: &Cluster,
        image: Option<&str>,
        containers: &[Container],
    ) -> Result<Vec<Found>, Failure> {
        let home = Home::of(&self.volume, Path::new(&cluster.path), &cluster.version, containers);
        let Some(image) = image.or(home.image.as_deref()) else {
            return Err(Failure::Refused(format!(
                "no container has or had {}: name an image with PostgreSQL {} by --image",
                self.volume, cluster.version
            )));
        };
        let user = format!("--user={}:{}", cluster.uid, cluster.gid);
        let variables =
            [format!("PGDATA={}", home.data.display()), format!("PGUSER={}", home.superuser)];
        let mounts = home.mounts(self.clone());
        let mut words = APART.to_vec();
        words.push(&user);
        for variable in &variables {
            words.extend(["--env", variable]);
        }
        words.extend(mounts.iter().map(String::as_str));
        words.extend([image, "-c", SERVER, "server.sh", task.word()]);
        let running = self.session.attach(&words)?;
        let mut report = Report::default();
        while let Some(line) = running.next_line(|| self.interruption.happened()) {
            report.take(&line);
        }
        if self.interruption.happened() {
            remove_containers(self.session, self.clone())?;
            drop(running.end());
        } else {
            running.end()?;
        }
        self.refuse_if_over()?;
        let wanted = &cluster.version;
        match report.end() {
            Came::Checks(checks) => Ok(checks),
            Came::Nothing => Err(Failure::Refused(format!(
                "the container of image {image} ended before anything was known"
            ))),
            Came::Trouble(Trouble::Program(Some(found))) => Err(Failure::Refused(format!(
                "the image {image} has PostgreSQL {found}, and the cluster is of {wanted}: name one of \
                 that by --image"
            ))),
            Came::Trouble(Trouble::Program(None)) => Err(Failure::Refused(format!(
                "the image {image} has no PostgreSQL: name one with {wanted} by --image"
            ))),
            Came::Trouble(Trouble::Absent(place)) => Err(Failure::Refused(format!(
                "there is no cluster at {place} in a container of image {image}"
            ))),
        }
    }

    /// Throws all of it away, and tells if that is not possible.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        self.is_over = true;
        discard(self.session, self.clone())
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        // After an error, which is the one to show; what stays is the next one's to remove.
        if !self.is_over {
            drop(discard(self.session, self.clone()));
        }
    }
}

/// Removes what trials have left whose process was killed.
fn sweep(session: &Session) -> Result<(), Failure> {
    let List { volumes } = session.ask("/Pgvol.List", &plugin_sdk::cli::Nothing {})?;
    // By its name too: anybody may give a volume of theirs any label.
    let is_trial = |volume: &&Volume| {
        let name = volume.name.parse::<VolumeName>();
        volume.labels.contains_key(claim::LABEL) && name.is_ok_and(|name| name.is_anonymous())
    };
    for volume in volumes.iter().filter(is_trial) {
        if claim::is_left(&volume.name).map_err(|error| unclaimed(&error))? {
            discard(session, &volume.name)?;
        }
    }
    Ok(())
}

fn unclaimed(error: &io::Error) -> Failure {
    Failure::Refused(format!("claim a name for a clone in {}: {error}", claim::DIRECTORY))
}

/// Removes the clone and whatever container has it.
fn discard(session: &Session, clone: &str) -> Result<(), Failure> {
    remove_containers(session, clone)?;
    session.docker(&["volume", "rm", clone]).map(drop)
}

fn remove_containers(session: &Session, clone: &str) -> Result<(), Failure> {
    let filter = format!("volume={clone}");
    let ids = session.docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter])?;
    for id in ids.split_whitespace() {
        // It may be going by itself.
        drop(session.docker(&["rm", "--force", "--volumes", id]));
    }
    Ok(())
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str, call: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|source| Failure::Answer { call: call.to_owned(), source })
}
