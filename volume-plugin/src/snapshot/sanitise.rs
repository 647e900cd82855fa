//! What is taken from a clone, since it would reach out: into an archive that another server writes, to
//! a primary, to publishers. And what belongs to the server that ran on the original.
//!
//! Settings are marked lines at the end of `postgresql.auto.conf`, which is read last, so that one look
//! shows them and an editor takes them away. (The server drops the marks at the next `ALTER SYSTEM`.)

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use super::facts::Disarmed;
use crate::name::VolumeName;
use crate::postgres::cluster::Found;
use crate::postgres::pid_file;
use crate::sys::beneath::Dir;

/// The settings that PostgreSQL reads last.
const SETTINGS: &str = "postgresql.auto.conf";

/// Longest file of settings that is read.
const LONGEST: u64 = 4 << 20;

/// Longest name of a cluster that the server takes.
const LONGEST_NAME: usize = 63;

/// Settings that reach out, what they are set to, and from which major version on there are such.
const DISARMED: [(&str, &str, u32); 10] = [
    ("archive_mode", "off", 0),
    ("archive_command", "", 0),
    ("archive_library", "", 15),
    ("restore_command", "", 12),
    ("primary_conninfo", "", 12),
    ("primary_slot_name", "", 12),
    ("synchronous_standby_names", "", 0),
    ("synchronized_standby_slots", "", 17),
    ("max_logical_replication_workers", "0", 10),
    // An extension's, which a server without it takes all the same.
    ("cron.launch_active_jobs", "off", 0),
];

/// Files that make a server a standby.
const SIGNALS: [&str; 2] = ["standby.signal", "recovery.signal"];

/// Files of the server that ran on the original.
const SERVER_FILES: [&str; 2] = [pid_file::NAME, "postmaster.opts"];

/// The directory whose content would keep WAL for others.
const SLOTS: &str = "pg_replslot";

/// What is told of a standby, or of a recovery to a point in time, that would have waited with some of its WAL.
const REPLAYS: &str = "replays all WAL that was received";

/// Directories whose content means nothing to another server.
const STALE: [&str; 6] =
    ["pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];

/// Takes away what belongs to another server, whatever the clone is for; durable with the directory.
pub(super) fn forget_server(cluster: &Found) -> io::Result<()> {
    SERVER_FILES.iter().try_for_each(|name| remove(&cluster.dir, name).map(drop))
}

/// Disarms the cluster, which is `version`, in the clone `name`, durable with its directory; tells what was
/// set. `in_recovery` is what its control file says.
pub(super) fn sanitise(
    cluster: &Found,
    name: &VolumeName,
    version: &str,
    in_recovery: bool,
) -> io::Result<Vec<Disarmed>> {
    let mut disarmed = Vec::new();
    let directory = cluster.path.display().to_string();
    let mut note = |what: String| {
        disarmed.push(Disarmed { directory: directory.clone(), what });
    };
    let settings = read_settings(&cluster.dir, SETTINGS)?;
    let all = [read_settings(&cluster.dir, "postgresql.conf")?, settings.clone()].concat();
    for (key, _, _) in DISARMED {
        if is_set(&all, key) {
            note(key.to_owned());
        }
    }
    let mut signalled = false;
    for signal in SIGNALS {
        if remove(&cluster.dir, signal)? {
            note(signal.to_owned());
            signalled = true;
        }
    }
    // Without them nothing says where to stop, or for how long to wait.
    if signalled && in_recovery {
        note(REPLAYS.to_owned());
    }
    for slot in directories(&cluster.dir, SLOTS)? {
        note(format!("slot {slot}"));
    }
    // What a power cut brings back of these the server clears away by itself.
    for stale in STALE {
        // Where a link leads nothing is the clone's: such as `pg_stat_tmp` in memory.
        if !cluster.dir.metadata(Path::new(stale)).is_ok_and(|found| found.is_symlink()) {
            clear(&cluster.dir, stale)?;
        }
    }
    if let (Some(slots), true) = (open(&cluster.dir, SLOTS)?, clear(&cluster.dir, SLOTS)?) {
        slots.sync()?;
    }
    append(&cluster.dir, &settings, &lines(name, version))?;
    Ok(disarmed)
}

/// What is appended to the settings.
fn lines(name: &VolumeName, version: &str) -> String {
    let major = version.parse().unwrap_or(u32::MAX);
    let mut lines = format!("# pgvol: begin of what keeps the clone {name} to itself\n");
    for (key, value, since) in DISARMED {
        // Of a version that is not known nothing newer is asked.
        if since <= 12 || (major != u32::MAX && since <= major) {
            lines.extend([key, " = '", value, "'\n"]);
        }
    }
    let mut shown = name.to_string();
    shown.truncate(LONGEST_NAME);
    lines.extend(["cluster_name = '", &shown, "'\n# pgvol: end\n"]);
    lines
}

/// Whether a line that is no comment gives `key` a value other than none.
fn is_set(settings: &str, key: &str) -> bool {
    let mut set = false;
    for line in settings.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix(key) else { continue };
        let Some(value) = rest.trim_start().strip_prefix('=').or(rest.strip_prefix(' ')) else {
            continue;
        };
        let value = value.trim().trim_matches('\'');
        set = !matches!(value, "" | "off" | "0" | "false" | "no");
    }
    set
}

fn read_settings(cluster: &Dir, name: &str) -> io::Result<String> {
    let file = match cluster.open_file(Path::new(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        // Somewhere else, where the server will look and we do not.
        Err(_) if cluster.metadata(Path::new(name)).is_ok_and(|found| found.is_symlink()) => {
            return Ok(String::new());
        }
        other => other?,
    };
    if file.metadata()?.len() > LONGEST {
        return Err(io::Error::other(format!("{name} is too long")));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Replaces the settings by themselves and `lines`.
fn append(cluster: &Dir, settings: &str, lines: &str) -> io::Result<()> {
    let (name, new) = (Path::new(SETTINGS), Path::new("postgresql.auto.conf.pgvol"));
    let directory = cluster.metadata(Path::new("."))?;
    let (uid, gid, mode) = match cluster.metadata(name) {
        Ok(found) if found.is_file() => (found.uid(), found.gid(), found.mode() & 0o777),
        _ => (directory.uid(), directory.gid(), 0o600),
    };
    remove(cluster, "postgresql.auto.conf.pgvol")?;
    let mut file = cluster.make_file(new, 0o600)?;
    let separator = if settings.is_empty() || settings.ends_with('\n') { "" } else { "\n" };
    file.write_all(format!("{settings}{separator}{lines}").as_bytes())?;
    fchown(&file, Some(uid), Some(gid))?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    cluster.rename(new, cluster, name)
}

/// Removes a file; tells whether there was one.
pub(super) fn remove(cluster: &Dir, name: &str) -> io::Result<bool> {
    match cluster.remove_file(Path::new(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

fn directories(cluster: &Dir, name: &str) -> io::Result<Vec<String>> {
    let Some(dir) = open(cluster, name)? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.path())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Empties a directory, two levels deep: that is as deep as the server makes them. Tells whether anything was
/// in it.
fn clear(cluster: &Dir, name: &str) -> io::Result<bool> {
    let Some(dir) = open(cluster, name)? else { return Ok(false) };
    let mut cleared = false;
    for entry in fs::read_dir(dir.path())? {
        let entry = entry?;
        cleared = true;
        let file = entry.file_name();
        let file = Path::new(&file);
        if entry.file_type()?.is_dir() {
            let below = dir.open_dir(file)?;
            for entry in fs::read_dir(below.path())? {
                below.remove_file(Path::new(&entry?.file_name()))?;
            }
            dir.remove_dir(file)?;
        } else {
            dir.remove_file(file)?;
        }
    }
    Ok(cleared)
}

fn open(cluster: &Dir, name: &str) -> io::Result<Option<Dir>> {
    match cluster.open_dir(Path::new(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use plugin_sdk::durable;

    use super::*;

    fn cluster(files: &[(&str, &str)]) -> (tempfile::TempDir, Found) {
        let temporary = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = temporary.path().join(path);
            durable::create_dir(path.parent().unwrap(), 0o700).unwrap();
            durable::write(&path, text.as_bytes()).unwrap();
        }
        let dir = Dir::open(temporary.path()).unwrap();
        (temporary, Found { path: PathBuf::new(), dir })
    }

    fn sanitised(cluster: &Found, version: &str) -> Vec<String> {
        let disarmed = sanitise(cluster, &"clone".parse().unwrap(), version, false).unwrap();
        disarmed.into_iter().map(|disarmed| disarmed.what).collect()
    }

    #[test]
    fn what_reaches_out_is_disarmed_and_told() {
        let (temporary, found) = cluster(&[
            ("postgresql.conf", "archive_command = 'cp %p /x'\n#primary_conninfo = 'x'\n"),
            ("postgresql.auto.conf", "work_mem = '4MB'\nprimary_conninfo = 'host=a'"),
            ("standby.signal", ""),
            ("postmaster.pid", "1\n/pg/data\n"),
            ("pg_replslot/sub/state", "x"),
            ("pg_stat_tmp/global.stat", "x"),
        ]);
        forget_server(&found).unwrap();
        let told = sanitised(&found, "17");
        assert_eq!(told, ["archive_command", "primary_conninfo", "standby.signal", "slot sub"]);
        let settings = fs::read_to_string(temporary.path().join(SETTINGS)).unwrap();
        let (before, after) = settings.split_once("# pgvol: begin").unwrap();
        assert_eq!(before, "work_mem = '4MB'\nprimary_conninfo = 'host=a'\n");
        for line in [
            "archive_mode = 'off'",
            "archive_command = ''",
            "primary_conninfo = ''",
            "synchronized_standby_slots = ''",
            "max_logical_replication_workers = '0'",
            "cluster_name = 'clone'",
            "# pgvol: end",
        ] {
            assert!(after.lines().any(|found| found == line), "{line} in {after}");
        }
        for gone in
            ["standby.signal", "postmaster.pid", "pg_replslot/sub", "pg_stat_tmp/global.stat"]
        {
            assert!(!temporary.path().join(gone).exists(), "{gone}");
        }
    }

    #[test]
    fn no_version_is_asked_for_a_setting_that_it_does_not_know() {
        for (version, absent) in [
            ("13", &["archive_library", "synchronized_standby_slots"][..]),
            ("16", &["synchronized_standby_slots"]),
            ("unknown", &["archive_library", "synchronized_standby_slots"]),
            ("17", &[]),
        ] {
            let text = lines(&"c".parse().unwrap(), version);
            for key in ["archive_library", "synchronized_standby_slots"] {
                assert_eq!(text.contains(key), !absent.contains(&key), "{version} {key}");
            }
        }
    }

    #[test]
    fn links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        durable::write(&outside.path().join("precious"), b"precious").unwrap();
        let (temporary, found) = cluster(&[("PG_VERSION", "17\n")]);
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(outside.path().join(target), temporary.path().join(name))
                .unwrap();
        };
        link("precious", SETTINGS);
        link("precious", "postmaster.pid");
        forget_server(&found).unwrap();
        assert!(sanitised(&found, "17").is_empty());
        assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"precious");
        assert!(fs::symlink_metadata(temporary.path().join(SETTINGS)).unwrap().is_file());
        // As old set-ups have their statistics.
        link("", "pg_stat_tmp");
        sanitised(&found, "17");
        assert!(fs::symlink_metadata(temporary.path().join("pg_stat_tmp")).unwrap().is_symlink());
        link("", SLOTS);
        assert!(sanitise(&found, &"c".parse().unwrap(), "17", false).is_err());
        assert!(outside.path().join("precious").exists());
    }

    #[test]
    fn what_would_have_waited_with_its_wal_is_told() {
        for (signal, in_recovery, told) in [
            ("standby.signal", true, &["standby.signal", REPLAYS][..]),
            ("recovery.signal", true, &["recovery.signal", REPLAYS]),
            ("standby.signal", false, &["standby.signal"]),
            ("none", true, &[]),
        ] {
            let (_temporary, found) = cluster(&[(signal, "")]);
            let name = "c".parse().unwrap();
            let disarmed = sanitise(&found, &name, "17", in_recovery).unwrap().into_iter();
            assert_eq!(disarmed.map(|it| it.what).collect::<Vec<_>>(), told, "{signal}");
        }
    }

    #[test]
    fn what_is_off_is_not_told() {
        assert!(!is_set("archive_mode = off\n", "archive_mode"));
        assert!(!is_set("archive_mode = on\narchive_mode = 'off' # x\n", "archive_mode"));
        assert!(is_set("archive_mode=on", "archive_mode"));
        assert!(!is_set("archive_mode_not = on", "archive_mode"));
    }
}
