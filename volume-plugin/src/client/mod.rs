//! `docker pgvol`: the plugin's answers to people and scripts on the engine's host.
//!
//! A command is a file here: a struct of its arguments, whose `run` calls the plugin and shows the answer;
//! a new one is one more file, variant and arm.

mod clone;
mod df;
mod inspect;
mod ls;
mod making;
mod moving;
mod pool;
mod prepare;
mod purge;
mod release_reserve;
mod resize;
mod restore;
mod set;
mod snapshot;
mod status;
mod trash;
mod trial;
mod undelete;
mod verify;

use std::collections::BTreeSet;

use clap::Subcommand;
use plugin_sdk::cli::{Commands, Failure, Identity, Nothing, Session};

use crate::api::answers::{List, Status};
use crate::api::change::Done;
use crate::api::snapshots::{Of, Snapshots};
use crate::api::trash::Trash;
use crate::snapshot::Consistency;
use crate::volume::spec::Role;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Pgvol {
    /// List the volumes with their state
    Ls(ls::Ls),
    /// Show all that is known of volumes
    Inspect(inspect::Inspect),
    /// Show what volumes and pools take
    Df(df::Df),
    /// Show the plugin, its settings and its pools, and what is wrong
    Status(status::Status),
    /// Make a pool smaller
    Pool(pool::Pool),
    /// Change what can be changed of a volume
    Set(set::Set),
    /// Change what a volume may hold, while it is in use
    Resize(resize::Resize),
    /// Let a volume that is full fill what is held back of its size
    ReleaseReserve(release_reserve::ReleaseReserve),
    /// Move the WAL of a volume that is not mounted to another pool
    Move(moving::Move),
    /// Take, list, remove and protect snapshots
    #[command(subcommand)]
    Snapshot(snapshot::Snapshotting),
    /// Make a volume with the content of another one or of a snapshot
    Clone(clone::Clone),
    /// End the making of a snapshot or clone that is under way
    Cancel(making::Cancel),
    /// Give a volume that is not mounted the content of one of its snapshots
    Restore(restore::Restore),
    /// Look at a snapshot again, more closely if asked
    Verify(verify::Verify),
    /// Have a server recover a snapshot once, so that its clones need not
    Prepare(prepare::Prepare),
    /// List the volumes that were removed and can be had back
    Trash(trash::Trash),
    /// Take a removed volume out of the trash
    Undelete(undelete::Undelete),
    /// Delete removed volumes for good
    Purge(purge::Purge),
}

impl Commands for Pgvol {
    const IDENTITY: Identity = Identity {
        name: "pgvol",
        about: "Volumes for PostgreSQL",
        version: env!("CARGO_PKG_VERSION"),
    };

    fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(session),
            Self::Inspect(inspect) => inspect.run(session),
            Self::Df(df) => df.run(session),
            Self::Status(status) => status.run(session),
            Self::Pool(pool) => pool.run(session),
            Self::Set(set) => set.run(session),
            Self::Resize(resize) => resize.run(session),
            Self::ReleaseReserve(release) => release.run(session),
            Self::Move(moving) => moving.run(session),
            Self::Snapshot(snapshot) => snapshot.run(session),
            Self::Clone(clone) => clone.run(session),
            Self::Cancel(cancel) => cancel.run(session),
            Self::Restore(restore) => restore.run(session),
            Self::Verify(verify) => verify.run(session),
            Self::Prepare(prepare) => prepare.run(session),
            Self::Trash(trash) => trash.run(session),
            Self::Undelete(undelete) => undelete.run(session),
            Self::Purge(purge) => purge.run(session),
        }
    }

    fn candidates(argument: &str, session: &Session) -> Result<Vec<String>, Failure> {
        match argument {
            "removed" => {
                let trash: Trash = session.ask("/Pgvol.Trash", &Nothing {})?;
                Ok(trash.volumes.into_iter().map(|removed| removed.id).collect())
            }
            "volume" | "volumes" => volumes(session),
            "snapshot" | "snapshots" => snapshots(session),
            // Of what a clone is made.
            "from" => {
                // Most snapshots are listed as volumes too.
                let both = [volumes(session)?, snapshots(session)?].concat();
                Ok(BTreeSet::from_iter(both).into_iter().collect())
            }
            // Words of a list that is the plugin's; one that is newer may know more.
            "consistency" => Ok(words(&Consistency::ALL)),
            "role" => Ok(words(&[Role::Data, Role::Wal])),
            "moved" => Ok(words(&[Role::Wal])),
            "unset" => Ok(words(&["snapshot.schedule", "snapshot.keep"])),
            "image" => images(session),
            "pool" => {
                let status: Status = session.ask("/Pgvol.Status", &Nothing {})?;
                Ok(status.pools.into_iter().map(|pool| pool.name).collect())
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// What was made or changed, by its name.
fn done(done: Done) -> String {
    done.name + "\n"
}

fn words(words: &[impl ToString]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Those that have a name.
fn images(session: &Session) -> Result<Vec<String>, Failure> {
    let names = ["image", "ls", "--filter=dangling=false", "--format={{.Repository}}:{{.Tag}}"];
    Ok(session.docker(&names)?.lines().map(str::to_owned).collect())
}

fn volumes(session: &Session) -> Result<Vec<String>, Failure> {
    let list: List = session.ask("/Pgvol.List", &Nothing {})?;
    Ok(list.volumes.into_iter().map(|volume| volume.name).collect())
}

fn snapshots(session: &Session) -> Result<Vec<String>, Failure> {
    let list: Snapshots = session.ask("/Pgvol.Snapshots", &Of::default())?;
    Ok(list.snapshots.into_iter().map(|snapshot| snapshot.name).collect())
}
