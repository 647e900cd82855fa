//! Judges the opens that take a look at all processes: whether a server may have a cluster. On a
//! thread of its own, one open after the other, so that of two servers that start at the same
//! instant one is first.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use super::census::Census;
use super::watched::{Holder, Watched};
use crate::postgres::server;
use crate::sys::fanotify::{Answer, Opening};
use crate::sys::process::{Namespaces, Process};

/// Opens that may wait to be judged; each of them is a thread that starts a server.
const WAITING: usize = 4096;

/// A server's process that wants a cluster.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) opening: Pending,
    pub(super) watched: Arc<Watched>,
    pub(super) process: Process,
    pub(super) home: Namespaces,
}

/// An open that whoever comes first answers.
#[derive(Debug, Clone)]
pub(super) struct Pending(Arc<Mutex<Option<Opening>>>);

impl Pending {
    pub(super) fn new(opening: Opening) -> Self {
        Self(Arc::new(Mutex::new(Some(opening))))
    }

    /// Takes the open to answer it, unless somebody has.
    pub(super) fn take(&self) -> Option<Opening> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn is_answered(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// The way to a judge, which ends when this does.
#[derive(Debug)]
pub(super) struct Arbiter(SyncSender<Question>);

impl Arbiter {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, questions) = sync_channel(WAITING);
        thread::Builder::new().name("arbiter".to_owned()).spawn(move || judge_all(&questions))?;
        Ok(Self(sender))
    }

    /// One that never answers, while the receiver lives.
    #[cfg(test)]
    pub(super) fn unheard() -> (Self, Receiver<Question>) {
        let (sender, questions) = sync_channel(WAITING);
        (Self(sender), questions)
    }

    /// Hands the question over without waiting. Given back if there is no judge any more or it
    /// has fallen far behind.
    pub(super) fn ask(&self, question: Question) -> Result<(), Question> {
        self.0.try_send(question).map_err(|refused| match refused {
            TrySendError::Full(question) | TrySendError::Disconnected(question) => question,
        })
    }
}

fn judge_all(questions: &Receiver<Question>) {
    for question in questions {
        let Question { opening, watched, process, home } = question;
        let (process, answer) = judge(&watched, Arc::new(process), home);
        // Noted before it goes on: whoever is judged next must see it.
        match answer {
            Answer::Allow => watched.let_through(process),
            Answer::Deny => watched.count_refused(),
        }
        if let Some(opening) = opening.take() {
            opening.answer(answer);
        }
    }
}

/// May the process have the cluster?
fn judge(watched: &Watched, process: Arc<Process>, home: Namespaces) -> (Arc<Process>, Answer) {
    let holder = watched.holder().filter(|holder| holder.is_alive());
    if let Some(holder) = holder.filter(|holder| holder.home != home) {
        let answer = against(watched, &process, home, &holder);
        return (process, answer);
    }
    let census = match Census::of(watched, &process) {
        Ok(census) => census,
        Err(error) => {
            watched.count_unjudged(&error);
            return (process, Answer::Allow);
        }
    };
    watched.set_rivals(census.rivals());
    if let Some(other) = census.other_than(home) {
        let answer = against(watched, &process, home, &other);
        watched.give_to(other);
        return (process, answer);
    }
    let standing = census.at(home).unwrap_or_else(|| Arc::clone(&process));
    watched.give_to(Arc::new(Holder { process: standing, home }));
    (process, Answer::Allow)
}

/// The answer to a process while somebody else has the cluster. What a server that runs all the
/// same starts is not kept from its work: that would end it in the midst of writing.
fn against(watched: &Watched, process: &Process, home: Namespaces, holder: &Holder) -> Answer {
    let runs = server::started_by_server(process).is_some_and(|parent| {
        parent.namespaces().is_ok_and(|its| its == home)
            && parent.works_in().is_ok_and(|data| data == watched.id)
    });
    if runs {
        return Answer::Allow;
    }
    tracing::info!(
        volume = %watched.volume,
        directory = %watched.path.display(),
        pid = process.pid(),
        container = process.container().ok().flatten(),
        holder = holder.process.pid(),
        "a second server is refused"
    );
    Answer::Deny
}
