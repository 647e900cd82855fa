//! A backup of a running server: begun and ended in one session, which a child holds open; see
//! [`super::door`]. While it is, the server writes every page whole into its WAL, and keeps the WAL for
//! a slot that goes with the session. Whatever ends the child ends the backup with it.

use std::ffi::OsString;
use std::io::{self, BufRead, ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::control::{Control, Lsn};
use super::door::{self, Door};
use super::talk::Talk;
use crate::sys::beneath::Dir;
use crate::sys::companion::Companion;
use crate::sys::process::Process;

/// The word by which this program is called as the child.
pub const WORD: &str = "backup";

/// How long the server may take to begin, which takes a checkpoint, and to end.
const LIMIT: Duration = Duration::from_mins(10);

/// Longest label and map that are kept.
const LONGEST: usize = 256 << 10;

/// The last version that calls the functions by their old names.
const OLD: u32 = 14;

/// A backup that goes on.
#[derive(Debug)]
pub struct Session {
    child: Companion,
    /// Where recovery begins to read.
    pub start: Lsn,
    /// Why the server does not keep the WAL for it; none where it does.
    pub unkept: Option<String>,
}

/// What a server says of a backup that it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// How far the WAL has to reach.
    pub stop: String,
    /// What is to be in the file `backup_label` of whatever recovers from it.
    pub label: String,
    /// Where tablespaces were, as the server wrote it.
    pub tablespace_map: String,
}

/// What a label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Where recovery begins to read.
    pub start: Lsn,
    /// The checkpoint that it begins with.
    pub checkpoint: Lsn,
    /// Of that.
    pub timeline: u32,
    /// Whether it is of a primary, which notes the backup's end in the WAL.
    pub of_primary: bool,
}

/// What the child says, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Begun { start: String, unkept: Option<String> },
    Ended(Backup),
    Wrong(String),
}

/// Begins a backup of the server of the cluster in `cluster`, whose first process is `server` and whose major
/// version is `version`, for as long as `go_on` says so; the error says why there is none.
pub fn begin(
    server: &Process,
    cluster: &Dir,
    version: &str,
    go_on: &dyn Fn() -> io::Result<()>,
) -> io::Result<Session> {
    let door = Door::of(server, cluster)?;
    let [uid, gid, role, socket] = &door.words();
    let words = [WORD, uid, gid, role, socket, version];
    let child = Companion::start(&door.directory, "/proc/self/exe", &words)?;
    match hear(&child, go_on)? {
        Said::Begun { start, unkept } => Ok(Session { child, start: lsn(&start)?, unkept }),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

impl Session {
    /// Ends the backup; the session goes on, and with it the server keeps the WAL.
    pub fn stop(&mut self, go_on: &dyn Fn() -> io::Result<()>) -> io::Result<Backup> {
        self.child.say("stop")?;
        match hear(&self.child, go_on)? {
            Said::Ended(backup) if backup.label.len() + backup.tablespace_map.len() > LONGEST => {
                Err(io::Error::other("its label is too long"))
            }
            Said::Ended(backup) => Ok(backup),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }
}

fn hear(child: &Companion, go_on: &dyn Fn() -> io::Result<()>) -> io::Result<Said> {
    match serde_json::from_str(&child.line(go_on)?)? {
        Said::Wrong(why) => Err(io::Error::other(why)),
        said => Ok(said),
    }
}

impl Backup {
    /// What recovery from it takes, where `control` is the control file of the copy.
    pub fn control(&self, control: &Control) -> io::Result<Control> {
        let mut needed = parse_label(&self.label)?.control(control);
        let point = &mut needed.details.min_recovery_point;
        *point = lsn(&self.stop)?.max(*point);
        Ok(needed)
    }
}

impl Label {
    /// What recovery by it takes, where `control` is the control file beside it.
    pub fn control(self, control: &Control) -> Control {
        let Self { start, checkpoint, timeline, of_primary } = self;
        let mut details = control.details;
        if of_primary {
            details.backup_start = start;
        }
        Control { redo: start, checkpoint, timeline, details, ..control.clone() }
    }
}

/// Reads a label that a primary has written.
pub fn parse_label(label: &str) -> io::Result<Label> {
    let parsed = parse_any_label(label)?;
    if parsed.of_primary {
        Ok(parsed)
    } else {
        Err(io::Error::other("the backup is none of a primary"))
    }
}

/// Whether it is the label of an exclusive backup, which a server up to 14 has in its own directory while it
/// takes one, and so has what was copied from there.
pub fn is_exclusive_label(label: &str) -> bool {
    word(label, "BACKUP METHOD").is_ok_and(|method| method == "pg_start_backup")
}

/// Reads the label of any backup, be it of a standby too.
pub fn parse_any_label(label: &str) -> io::Result<Label> {
    let timeline = word(label, "START TIMELINE")?.parse().map_err(io::Error::other)?;
    let position = |key| lsn(word(label, key)?);
    let (start, checkpoint) = (position("START WAL LOCATION")?, position("CHECKPOINT LOCATION")?);
    // Up to 13 by its older name.
    let of_primary = matches!(word(label, "BACKUP FROM")?, "primary" | "master");
    Ok(Label { start, checkpoint, timeline, of_primary })
}

/// The first word of what the label says under `key`.
fn word<'a>(label: &'a str, key: &str) -> io::Result<&'a str> {
    let value = label.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    let missing = || io::Error::other(format!("the backup's label has no {key}"));
    value.and_then(|value| value.split(' ').next()).ok_or_else(missing)
}

/// Reads a position as the server writes it.
fn lsn(text: &str) -> io::Result<Lsn> {
    let parse = || {
        let (high, low) = text.split_once('/')?;
        let half = |half: &str| u32::from_str_radix(half, 16).ok().map(u64::from);
        Some(Lsn(half(high)? << 32 | half(low)?))
    };
    parse().ok_or_else(|| io::Error::other(format!("`{text}` is no position in the WAL")))
}

/// What the child does: `UID GID ROLE SOCKET VERSION`, with the directory of the socket as its own.
pub fn child(arguments: &[OsString]) -> ExitCode {
    let done = act(arguments).or_else(|error| say(&Said::Wrong(error.to_string())).and(Err(error)));
    ExitCode::from(u8::from(done.is_err()))
}

fn act(arguments: &[OsString]) -> io::Result<()> {
    let (mut talk, rest) = door::enter(arguments, Instant::now() + LIMIT)?;
    let [version] = rest[..] else { return Err(io::Error::other("no VERSION")) };
    let version: u32 = version.parse().map_err(io::Error::other)?;
    let (start, unkept) = start(&mut talk, version)?;
    say(&Said::Begun { start, unkept })?;
    let mut words = io::stdin().lock().lines();
    // Its end is that of whoever wanted the backup, which ends with the session.
    if words.next().transpose()?.is_none() {
        return Ok(());
    }
    say(&Said::Ended(stop(&mut talk, version)?))?;
    words.next().transpose().map(drop)
}

/// Begins; gives where, and why the server does not keep the WAL.
fn start(talk: &mut Talk, version: u32) -> io::Result<(String, Option<String>)> {
    let deadline = Instant::now() + LIMIT;
    for setting in ["statement_timeout", "idle_session_timeout", "transaction_timeout"] {
        // Not every version has them all.
        drop(talk.ask(&format!("SET {setting} = 0"), deadline));
    }
    let slot = format!(
        "SELECT pg_catalog.pg_create_physical_replication_slot('pgvol_{}', true, true)",
        std::process::id()
    );
    let unkept = talk.ask(&slot, deadline).err().map(|error| error.to_string());
    let begin = if version <= OLD {
        "SELECT pg_catalog.pg_start_backup('pgvol', true, false)"
    } else {
        "SELECT pg_catalog.pg_backup_start('pgvol', true)"
    };
    let row = talk.ask(begin, deadline)?;
    let start = row.into_iter().next().flatten().ok_or(ErrorKind::InvalidData)?;
    Ok((start, unkept))
}

fn stop(talk: &mut Talk, version: u32) -> io::Result<Backup> {
    // Without waiting for an archive: the WAL is captured.
    let function =
        if version <= OLD { "pg_stop_backup(false, false)" } else { "pg_backup_stop(false)" };
    let end = format!("SELECT lsn, labelfile, spcmapfile FROM pg_catalog.{function}");
    let row = talk.ask(&end, Instant::now() + LIMIT)?;
    let [Some(stop), Some(label), map] = &row[..] else {
        return Err(ErrorKind::InvalidData.into());
    };
    let tablespace_map = map.clone().unwrap_or_default();
    Ok(Backup { stop: stop.clone(), label: label.clone(), tablespace_map })
}

fn say(said: &Said) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(said)?)?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "START WAL LOCATION: 1/A2000028 (file 0000000100000001000000A2)\n\
        CHECKPOINT LOCATION: 1/A2000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
        START TIME: 2026-11-27 12:00:00 UTC\nLABEL: pgvol\nSTART TIMELINE: 3\n";

    #[test]
    fn a_label_says_what_recovery_needs() {
        let label = parse_label(LABEL).unwrap();
        let (start, checkpoint) = (Lsn(0x1_A200_0028), Lsn(0x1_A200_0060));
        assert_eq!(label, Label { start, checkpoint, timeline: 3, of_primary: true });
        // As versions up to 13 write it.
        assert_eq!(parse_label(&LABEL.replace("primary", "master")).unwrap(), label);
        for (from, to, said) in [
            ("primary", "standby", "none of a primary"),
            ("BACKUP FROM: ", "", "no BACKUP FROM"),
            ("1/A2000060", "A2000060", "`A2000060` is no position"),
            ("TIMELINE: 3", "TIMELINE: x", "invalid digit"),
        ] {
            let error = parse_label(&LABEL.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let of_standby = LABEL.replace("primary", "standby");
        let label = Label { of_primary: false, ..label };
        assert_eq!(parse_any_label(&of_standby).unwrap(), label);
        assert!(!is_exclusive_label(LABEL));
        assert!(is_exclusive_label(&LABEL.replace("streamed", "pg_start_backup")));
    }

    #[test]
    fn positions_are_read_as_they_are_written() {
        for text in ["0/0", "1/A2000028", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(lsn(text).unwrap().to_string(), text);
        }
        for none in ["", "1", "/", "1/G", "1/100000000", "-1/2"] {
            assert!(lsn(none).is_err(), "{none}");
        }
    }

    #[test]
    fn the_wal_has_to_reach_the_stop() {
        let bytes = include_bytes!("../../fixtures/pg_control/17");
        let control = super::super::control::parse(bytes).unwrap();
        let backup = |stop: &str| Backup {
            stop: stop.to_owned(),
            label: LABEL.to_owned(),
            tablespace_map: String::new(),
        };
        let needed = backup("1/A3000000").control(&control).unwrap();
        assert_eq!((needed.redo, needed.timeline), (Lsn(0x1_A200_0028), 3));
        assert_eq!(needed.details.min_recovery_point, Lsn(0x1_A300_0000));
        assert!(backup("x").control(&control).is_err());
    }

    #[test]
    fn a_child_that_is_called_wrongly_says_so() {
        for words in [&[][..], &["1", "1", "postgres"], &["x", "1", "postgres", "s", "17"]] {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            assert!(act(&words).is_err(), "{words:?}");
        }
    }
}
