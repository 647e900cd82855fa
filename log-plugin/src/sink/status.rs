//! What is to be known of each sink, for `docker pglog status`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::ledger::State;
use super::target::Target;
use crate::journal::Journal;
use crate::names::ContainerId;

/// Which kind of sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkKind {
    /// A file of the host.
    File,
    /// Syslog servers.
    Syslog,
    /// A fluentd.
    Fluentd,
}

impl SinkKind {
    /// As it is called in options and in names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Syslog => "syslog",
            Self::Fluentd => "fluentd",
        }
    }
}

/// Which of a container's sinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SinkId {
    pub(super) kind: SinkKind,
    /// Among those of the kind, from 0 on.
    pub(super) number: usize,
}

impl From<SinkKind> for SinkId {
    fn from(kind: SinkKind) -> Self {
        Self { kind, number: 0 }
    }
}

/// As names of files have it: the first of a kind is called as if it were the only one.
impl fmt::Display for SinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if self.number > 0 { write!(f, "-{}", self.number + 1) } else { Ok(()) }
    }
}

/// One sink of one container, right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SinkStatus {
    /// The container's full id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// Which sink.
    pub sink: SinkKind,
    /// Where it delivers.
    pub target: String,
    /// Bytes of the journal that are not delivered yet.
    pub lag_bytes: u64,
    /// Lines delivered, over all lives of the process; of a line in pieces the last one counts.
    pub lines: u64,
    /// Bytes of them in the journal.
    pub bytes: u64,
    /// Lines that retention removed before they were delivered.
    pub dropped_lines: u64,
    /// So many more may have been: they were on their way when the process was killed.
    pub dropped_doubtful: u64,
    /// Whether there were more of them, not counted.
    pub dropped_uncounted: bool,
    /// Why nothing is delivered right now.
    pub error: Option<String>,
    /// Options that were given and mean nothing here.
    pub ignored: Vec<String>,
}

/// The numbers of one running sink, shared between its task and who asks.
#[derive(Debug)]
pub(super) struct Meter {
    journal: Arc<Journal>,
    container: ContainerId,
    name: String,
    sink: SinkKind,
    target: String,
    ignored: Vec<String>,
    now: Mutex<Now>,
}

#[derive(Debug, Clone, Default)]
struct Now {
    state: State,
    /// Why nothing is delivered.
    error: Option<String>,
    /// Why that is not kept what is.
    unkept: Option<String>,
}

impl Meter {
    pub(super) fn new(
        journal: Arc<Journal>,
        container: ContainerId,
        name: String,
        target: &Target,
        shown: String,
    ) -> Self {
        let (sink, now) = (target.kind(), Mutex::default());
        let ignored = match target {
            Target::Fluentd(target) => target.ignored.clone(),
            Target::File(_) | Target::Syslog(_) => Vec::new(),
        };
        Self { journal, container, name, sink, target: shown, ignored, now }
    }

    /// Takes over what the sink has come to.
    pub(super) fn show(&self, state: &State) {
        self.lock().state = state.clone();
    }

    /// The sink works, or does not because of `error`. A change is logged.
    pub(super) fn judge(&self, error: Option<String>) {
        let mut now = self.lock();
        if now.error == error {
            return;
        }
        now.error.clone_from(&error);
        drop(now);
        let (container, sink) = (&self.container, self.sink.name());
        if let Some(error) = error {
            tracing::warn!(%container, name = self.name, sink, error, "a sink does not deliver");
        } else {
            tracing::info!(%container, name = self.name, sink, "a sink delivers again");
        }
    }

    /// How far it is can be kept, or cannot be because of `error`. A change is logged, not each batch of
    /// those that are delivered meanwhile: a full disk may have this log too.
    pub(super) fn judge_keeping(&self, error: Option<String>) {
        let known = std::mem::replace(&mut self.lock().unkept, error.clone()).is_some();
        let (container, sink) = (&self.container, self.sink.name());
        if let Some(error) = error
            && !known
        {
            tracing::warn!(%container, name = self.name, sink, error, "how far a sink is cannot be kept");
        }
    }

    pub(super) fn status(&self) -> SinkStatus {
        let Now { state, error, unkept } = self.lock().clone();
        SinkStatus {
            container: self.container.to_string(),
            name: self.name.clone(),
            sink: self.sink,
            target: self.target.clone(),
            lag_bytes: self.journal.unread(&state.position),
            lines: state.lines,
            bytes: state.bytes,
            dropped_lines: state.dropped,
            dropped_doubtful: state.doubtful,
            dropped_uncounted: state.uncounted,
            error: error.or(unkept),
            ignored: self.ignored.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
