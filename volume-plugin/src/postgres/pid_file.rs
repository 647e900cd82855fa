//! A server's `postmaster.pid`: where it has its cluster and its socket. It lies in the volume, so that it
//! may hold anything.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::sys::beneath::Dir;

/// Its name in the cluster's directory.
pub(crate) const NAME: &str = "postmaster.pid";

/// More than any server writes.
const LONGEST: u64 = 4096;

/// What it tells, as of `CreateLockFile` and `AddToDataDirLockFile` in PostgreSQL's `miscinit.c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PidFile {
    /// The cluster's directory, as the server sees it.
    pub(crate) data: Option<PathBuf>,
    /// Directory and name of its socket.
    pub(crate) socket: Option<(PathBuf, String)>,
    /// Whether it is a primary that answers.
    pub(crate) is_ready: bool,
}

/// That of the cluster in `cluster`.
pub(crate) fn read(cluster: &Dir) -> io::Result<PidFile> {
    let mut text = String::new();
    cluster.open_file(Path::new(NAME))?.take(LONGEST).read_to_string(&mut text)?;
    Ok(parse(&text))
}

/// Reads its text; lines that are not what a server writes tell nothing.
pub(crate) fn parse(text: &str) -> PidFile {
    let line = |number: usize| text.lines().nth(number - 1);
    let absolute = |line: &str| Some(PathBuf::from(line)).filter(|path| path.is_absolute());
    let port = line(4).and_then(|line| line.trim().parse::<u16>().ok());
    let directory = line(5).and_then(absolute);
    PidFile {
        data: line(2).and_then(absolute),
        socket: directory.zip(port.map(|port| format!(".s.PGSQL.{port}"))),
        is_ready: line(8).is_some_and(|line| line.trim() == "ready"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: PidFile = PidFile { data: None, socket: None, is_ready: false };

    #[test]
    fn cluster_and_socket_are_told() {
        let file = "1\n/pg/data\n1700000000\n5433\n/var/run/postgresql\n*\n  1 2\nready\n";
        let socket = Some(("/var/run/postgresql".into(), ".s.PGSQL.5433".to_owned()));
        let data = Some("/pg/data".into());
        assert_eq!(parse(file), PidFile { data, socket, is_ready: true });
        assert!(!parse(&file.replace("ready", "standby ")).is_ready);
        for none in ["", "1\nd\n17\n5432\n", "1\nd\n17\n5432\n\n*\n", "1\n\n17\nx\n/run\n"] {
            assert_eq!(parse(none), NOTHING, "{none:?}");
        }
    }
}
