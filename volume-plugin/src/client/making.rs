//! Waiting for a snapshot or clone that the plugin makes in the background, and `docker pgvol cancel`.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};

use plugin_sdk::cli::{Bar, Failure, Format, Session};

use super::done;
use crate::api::snapshots::{Made, Make, Of, Progress, Wait};

/// How long the plugin may be away: what it makes is begun anew when it comes back.
const AWAY: Duration = Duration::from_mins(1);

/// How often it is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(500);

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
        wait(work, &name, session, || false)?;
    }
    session.show(serde_json::json!({ "name": name }), done)
}

/// Waits until `name` is made, or `is_over`; also where the plugin is started again meanwhile.
pub(super) fn wait(
    work: u64,
    name: &str,
    session: &Session,
    is_over: impl Fn() -> bool,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let shown = session.format() == Format::Text && io::stderr().is_terminal();
    let mut bar = shown.then(Bar::default);
    let asked = Wait { work, name: name.to_owned() };
    let mut away: Option<Instant> = None;
    while !is_over() {
        let progress: Progress = match session.ask("/Pgvol.Wait", &asked) {
            Err(Failure::Call(_)) if away.is_none_or(|since| since.elapsed() < AWAY) => {
                away.get_or_insert_with(Instant::now);
                thread::sleep(LOOK);
                continue;
            }
            answer => answer?,
        };
        away = None;
        if progress.is_made {
            break;
        }
        if let Some(bar) = bar.as_mut().filter(|_| begun.elapsed() >= SOON) {
            bar.draw(progress.done, progress.total).map_err(Failure::Output)?;
        }
    }
    Ok(())
}
