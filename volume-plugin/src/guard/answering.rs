//! The thread that answers opens. A running server's checkpoint waits for it, so it waits for
//! nothing: it looks at what the kernel has in memory, answers what is clear, and hands the rest
//! to the arbiter.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::arbiter::{Arbiter, Pending, Question};
use super::table::Table;
use super::watched::Watched;
use crate::postgres::{control, pid_file, server};
use crate::sys::fanotify::{self, Answer, Group, Opening};
use crate::sys::process::Process;

/// How long the thread sleeps when nothing is opened.
const IDLE: Duration = Duration::from_secs(1);

/// Failed reads in a row after which the group is given up.
const MOST_FAILURES: u32 = 64;

/// Opened by every server before the control file: says when to look for that.
const VERSION_FILE: &str = "PG_VERSION";

/// Opened, for a single-user server, before the control file; such a server would remove it from
/// under the one that runs.
const LOCK_FILE: &str = pid_file::NAME;

/// Why the thread ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The kernel gives no events any more.
    #[error("events of opens cannot be read")]
    Events(#[source] std::io::Error),
    /// The arbiter died, fell behind or hangs.
    #[error("opens are not judged any more")]
    Arbiter,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) group: Group,
    pub(super) table: Arc<Table>,
    pub(super) arbiter: Arbiter,
    /// How long an open waits to be judged before it is allowed: what the arbiter looks at may
    /// hang.
    pub(super) patience: Duration,
    /// Opens that are being judged, oldest first.
    pub(super) pending: VecDeque<(Instant, Pending, Arc<Watched>)>,
}

impl Drop for Answering {
    /// A group ends with the last open that is held: none may be, even if the arbiter hangs.
    fn drop(&mut self) {
        for (_, opening, _) in self.pending.drain(..) {
            drop(opening.take());
        }
    }
}

impl Answering {
    /// Answers until that cannot go on, or until `stop`.
    pub(super) fn run(mut self, stop: impl Fn() -> bool) -> Result<(), Ended> {
        let mut failures = 0;
        while !stop() {
            match self.group.read(IDLE) {
                Ok(openings) => {
                    failures = 0;
                    for opening in openings {
                        self.answer(opening)?;
                    }
                }
                // Whoever has a directory to write in can have as many of these as it likes.
                Err(error) if fanotify::is_of_one_file(&error) => {}
                Err(_) if failures < MOST_FAILURES => failures += 1,
                Err(error) => return Err(Ended::Events(error)),
            }
            self.give_up_late()?;
        }
        Ok(())
    }

    /// Allowed is what is not answered otherwise, when `opening` is dropped.
    fn answer(&mut self, opening: Opening) -> Result<(), Ended> {
        if opening.pid() == std::process::id() {
            return Ok(());
        }
        let Ok(file) = opening.file() else { return Ok(()) };
        if let Some(watched) = self.table.by_control(file) {
            return self.decide(opening, watched);
        }
        let Ok(name) = opening.name() else { return Ok(()) };
        let path = match name.to_str() {
            Some(VERSION_FILE) => VERSION_FILE,
            Some(LOCK_FILE) => LOCK_FILE,
            Some("pg_control") => control::PATH,
            _ => return Ok(()),
        };
        let candidates = self.table.on(file.device);
        let Some(watched) = candidates.into_iter().find(|one| one.has(Path::new(path), file))
        else {
            return Ok(());
        };
        match watched.look(&self.group) {
            Ok(Some(control)) => self.table.index(&watched, control),
            Ok(None) => {}
            Err(error) => watched.count_unjudged(&error),
        }
        if path == VERSION_FILE { Ok(()) } else { self.decide(opening, watched) }
    }

    /// Whether the opener may have the cluster.
    fn decide(&mut self, opening: Opening, watched: Arc<Watched>) -> Result<(), Ended> {
        // One that has been killed since needs no answer.
        let Ok(process) = Process::open(opening.pid()) else { return Ok(()) };
        let home = match process.namespaces() {
            Ok(home) => home,
            Err(error) => {
                watched.count_unjudged(&error);
                return Ok(());
            }
        };
        if watched.holder().is_some_and(|holder| holder.home == home && holder.is_alive()) {
            opening.answer(Answer::Allow);
            watched.let_through(Arc::new(process));
            return Ok(());
        }
        if !server::is_server(&process) {
            return Ok(());
        }
        let opening = Pending::new(opening);
        self.pending.push_back((Instant::now(), opening.clone(), Arc::clone(&watched)));
        let question = Question { opening, watched, process, home };
        self.arbiter.ask(question).map_err(|question| {
            question.watched.count_unjudged(&Ended::Arbiter);
            Ended::Arbiter
        })
    }

    /// Lets those go that have waited too long: rather two servers than none for good.
    fn give_up_late(&mut self) -> Result<(), Ended> {
        while let Some((since, opening, watched)) = self.pending.front() {
            if !opening.is_answered() {
                if since.elapsed() < self.patience {
                    return Ok(());
                }
                if let Some(late) = opening.take() {
                    watched.count_unjudged(&Ended::Arbiter);
                    late.answer(Answer::Allow);
                    return Err(Ended::Arbiter);
                }
            }
            self.pending.pop_front();
        }
        Ok(())
    }
}
