//! Running servers: which processes they are, and whose data directory they work in.

use std::io;

use crate::sys::file::FileId;
use crate::sys::process::{Namespaces, Process};

/// Names of the server's program: PostgreSQL's own, its old alias, EDB's. A wrapper that keeps
/// another name is not known.
const PROGRAMS: [&str; 3] = ["postgres", "postmaster", "edb-postgres"];

/// The program that makes clusters; it runs the server's for parts of that.
const INITDB: &str = "initdb";

/// Ancestors of a server's process that are looked at: between it and initdb there may be a shell.
const ANCESTORS: usize = 3;

/// A process of a server: its first one, one that serves a client, or another.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub process: Process,
    /// Where it lives.
    pub home: Namespaces,
    /// The directory that it works in: its cluster's, once it has begun.
    pub data: FileId,
}

/// Whether the process runs the server's program, for whatever purpose.
pub fn is_server(process: &Process) -> bool {
    process.name().is_ok_and(|name| PROGRAMS.contains(&name.as_str()))
        || process.program().is_ok_and(|program| PROGRAMS.iter().any(|name| program == *name))
}

/// The processes of all servers of the machine that may be looked at.
pub fn all() -> io::Result<Vec<Server>> {
    let server = |process: Process| {
        let home = process.namespaces().ok()?;
        let data = process.works_in().ok()?;
        Some(Server { process, home, data })
    };
    Ok(Process::all()?.filter(is_server).filter_map(server).collect())
}

/// The first of these processes: the one that none of the others has started.
pub fn first<'a>(servers: &[&'a Server]) -> Option<&'a Server> {
    let is_first = |server: &&&Server| {
        let parent = server.process.parent().ok();
        !servers.iter().any(|other| Some(other.process.pid()) == parent)
    };
    servers.iter().find(is_first).or(servers.first()).copied()
}

/// The server's process that started this one, if one did.
pub fn started_by_server(process: &Process) -> Option<Process> {
    let parent = Process::open(process.parent().ok()?).ok()?;
    is_server(&parent).then_some(parent)
}

/// The initdb that this process works for, if it does.
pub fn initdb_of(process: &Process) -> Option<Process> {
    let mut parent = process.parent().ok()?;
    for _ in 0..ANCESTORS {
        let ancestor = Process::open(parent).ok()?;
        if ancestor.name().is_ok_and(|name| name == INITDB) {
            return Some(ancestor);
        }
        parent = ancestor.parent().ok()?;
    }
    None
}
