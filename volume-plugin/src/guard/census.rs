//! Who serves a cluster, out of all processes of the machine.

use std::io;
use std::sync::Arc;

use super::watched::{Holder, Watched};
use crate::postgres::server::{self, Server};
use crate::sys::process::{Namespaces, Process};

/// One process for each container that serves the cluster, the oldest first.
#[derive(Debug)]
pub(super) struct Census(Vec<Arc<Holder>>);

impl Census {
    /// Counts for `watched`, where `asking` may be about to serve it.
    pub(super) fn of(watched: &Watched, asking: &Process) -> io::Result<Self> {
        let mut census = Self::among(watched, &server::all()?);
        // Between its first open and its change into the directory nothing else tells of it.
        let latest = watched.latest().filter(|latest| latest.pid() != asking.pid());
        for process in latest.into_iter().filter(|latest| server::is_server(latest)) {
            census.add(process);
        }
        // A cluster that is being made belongs to initdb, from its first server to its last.
        if let Some(initdb) = server::initdb_of(asking)
            && let Ok(home) = initdb.namespaces()
        {
            census.0.retain(|holder| holder.home != home);
            census.add(Arc::new(initdb));
        }
        Ok(census)
    }

    /// Counts for `watched` among these processes.
    pub(super) fn among(watched: &Watched, servers: &[Server]) -> Self {
        let here: Vec<_> = servers.iter().filter(|server| server.data == watched.id).collect();
        let mut census = Self(Vec::new());
        for server in &here {
            let same: Vec<_> =
                here.iter().copied().filter(|other| other.home == server.home).collect();
            if let Some(first) = server::first(&same)
                && let Ok(process) = Process::open(first.process.pid())
            {
                census.add(Arc::new(process));
            }
        }
        census.0.sort_by_key(|holder| holder.process.started().unwrap_or(i64::MAX));
        census
    }

    /// The oldest.
    pub(super) fn oldest(&self) -> Option<Arc<Holder>> {
        self.0.first().cloned()
    }

    /// The oldest that lives elsewhere.
    pub(super) fn other_than(&self, home: Namespaces) -> Option<Arc<Holder>> {
        self.0.iter().find(|holder| holder.home != home).cloned()
    }

    /// The process that serves at `home`.
    pub(super) fn at(&self, home: Namespaces) -> Option<Arc<Process>> {
        let found = self.0.iter().find(|holder| holder.home == home);
        found.map(|holder| Arc::clone(&holder.process))
    }

    /// All of them, if that is more than there may be.
    pub(super) fn rivals(&self) -> Vec<Arc<Holder>> {
        if self.0.len() > 1 { self.0.clone() } else { Vec::new() }
    }

    /// Adds a process, unless there is one for its container or it has ended.
    fn add(&mut self, process: Arc<Process>) {
        if let Ok(home) = process.namespaces()
            && self.at(home).is_none()
        {
            self.0.push(Arc::new(Holder { process, home }));
        }
    }
}
