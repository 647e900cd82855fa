//! Waiting for a snapshot or clone that the plugin makes in the background, and `docker pgvol cancel`.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use plugin_sdk::cli::{Bar, Failure, Format, Session};

use super::snapshot::done;
use crate::api::snapshots::{Made, Make, Of, Progress, Wait};

/// Nothing is said about what takes no longer.
const SOON: Duration = Duration::from_secs(1);

/// What is to be ended.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// A snapshot or clone that is being made
    #[arg(value_name = "NAME")]
    name: String,
}

impl Cancel {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(session.call("/Pgvol.Cancel", &Of { name: self.name })?, done)
    }
}

/// Has the plugin make what is asked for, and waits for it unless it is `detached`.
pub(super) fn make(mut asked: Make, detached: bool, session: &Session) -> Result<(), Failure> {
    asked.background = true;
    let Made { name, work } = session.ask("/Pgvol.Make", &asked)?;
    if let (Some(work), false) = (work, detached) {
        wait(work, session, || false)?;
    }
    session.show(serde_json::json!({ "name": name }), done)
}

/// Waits until it is made, or `is_over`.
pub(super) fn wait(
    work: u64,
    session: &Session,
    is_over: impl Fn() -> bool,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let shown = session.format() == Format::Text && io::stderr().is_terminal();
    let mut bar = shown.then(Bar::default);
    while !is_over() {
        let progress: Progress = session.ask("/Pgvol.Wait", &Wait { work })?;
        if progress.is_made {
            break;
        }
        if let Some(bar) = bar.as_mut().filter(|_| begun.elapsed() >= SOON) {
            bar.draw(progress.done, progress.total).map_err(Failure::Output)?;
        }
    }
    Ok(())
}
