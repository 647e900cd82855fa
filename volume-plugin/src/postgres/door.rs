//! The way to a running server without credentials: a child of this program becomes the server's own user
//! and talks to it over its socket, which is what `trust` and `peer` ask for. Whatever keeps it from
//! that is an answer and no error. (A library for this would bring forty crates for a start-up message
//! and a few words of SQL.)

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use super::pid_file;
use super::talk::Talk;
use crate::sys::beneath::Dir;
use crate::sys::process::{self, Process};

/// Longest environment that is read.
const LONGEST: u64 = 128 << 10;

/// Who a server takes for its administrator where its environment names nobody.
const ADMINISTRATOR: &str = "postgres";

/// Where a server's socket is, and who may come in.
#[derive(Debug)]
pub(super) struct Door {
    /// The directory of the socket.
    pub(super) directory: File,
    uid: u32,
    gid: u32,
    role: String,
    socket: String,
}

impl Door {
    /// That of the server of the cluster in `cluster`, whose first process is `server`; the error says why
    /// nobody may come in.
    pub(super) fn of(server: &Process, cluster: &Dir) -> io::Result<Self> {
        let told = pid_file::read(cluster)?.socket;
        let (directory, socket) = told.ok_or_else(|| other("it listens on no socket"))?;
        let directory = server.open_in_its_root(&directory)?;
        let environment = server.environment(LONGEST)?;
        let role = role(&environment).unwrap_or_else(|| ADMINISTRATOR.to_owned());
        // A server works only for the owner of its directory.
        let owner = cluster.metadata(Path::new("."))?;
        if owner.uid() == 0 {
            return Err(other("its files belong to root"));
        }
        Ok(Self { directory, uid: owner.uid(), gid: owner.gid(), role, socket })
    }

    /// What the child is called with, behind its word.
    pub(super) fn words(&self) -> [String; 4] {
        [self.uid.to_string(), self.gid.to_string(), self.role.clone(), self.socket.clone()]
    }
}

/// What the child does first: `UID GID ROLE SOCKET` and what else there is, with the directory of the socket
/// as its own.
pub(super) fn enter(words: &[OsString], deadline: Instant) -> io::Result<(Talk, Vec<&str>)> {
    let words: Option<Vec<_>> = words.iter().map(|word| word.to_str()).collect();
    let Some([uid, gid, role, socket, rest @ ..]) = words.as_deref() else {
        return Err(other("UID GID ROLE SOCKET"));
    };
    let number = |word: &str| word.parse().map_err(io::Error::other);
    process::become_user(number(uid)?, number(gid)?)?;
    Ok((Talk::begin(Path::new(socket), role, deadline)?, rest.to_vec()))
}

/// The role that the official image makes the administrator.
fn role(environment: &[u8]) -> Option<String> {
    let mut variables = environment.split(|&byte| byte == 0);
    let role = variables.find_map(|variable| variable.strip_prefix(b"POSTGRES_USER="))?;
    let role = std::str::from_utf8(role).ok()?;
    (!role.is_empty()).then(|| role.to_owned())
}

fn other(why: &'static str) -> io::Error {
    io::Error::other(why)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_administrator_is_whom_the_image_was_told() {
        assert_eq!(role(b"A=1\0POSTGRES_USER=boss\0B=2\0").as_deref(), Some("boss"));
        for none in [&b""[..], b"POSTGRES_USER=\0", b"POSTGRES_USERS=x\0", b"POSTGRES_USER=\xff\0"]
        {
            assert_eq!(role(none), None);
        }
    }

    #[test]
    fn what_stands_in_the_way_is_said() {
        let own = Process::open(std::process::id()).unwrap();
        let cluster = tempfile::tempdir().unwrap();
        let dir = Dir::open(cluster.path()).unwrap();
        let said = || Door::of(&own, &dir).unwrap_err().to_string();
        assert!(said().contains("No such file"), "{}", said());
        let write = |text: &str| {
            plugin_sdk::durable::write(&cluster.path().join(pid_file::NAME), text.as_bytes())
        };
        write("1\n/d\n17\n5432\n\n").unwrap();
        assert_eq!(said(), "it listens on no socket");
        write("1\n/d\n17\n5432\n/no/where\n").unwrap();
        assert!(said().contains("No such file"), "{}", said());
        write("1\n/d\n17\n5432\n/tmp\n").unwrap();
        assert_eq!(said(), "its files belong to root");
    }

    #[test]
    fn the_child_refuses_what_it_does_not_understand() {
        let soon = Instant::now() + Duration::from_secs(1);
        for words in [&["1"][..], &["x", "1", "postgres", "s"], &["1", "x", "postgres", "s"]] {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            assert!(enter(&words, soon).is_err(), "{words:?}");
        }
    }
}
