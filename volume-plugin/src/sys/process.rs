//! Other processes, by way of `/proc`. Needs the host's processes and `CAP_SYS_PTRACE`. Nothing
//! here waits for the process or for a file system other than `/proc`, but for
//! [`Process::works_in`], which looks at a directory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::file::FileId;

/// Clock ticks a second in what `/proc` shows: the same on every Linux.
const TICKS: u64 = 100;

/// A process. Its number may be given to another once it has ended; this handle is not.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    directory: File,
}

/// Where a process lives: those of one container have it in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Namespaces {
    /// Its mount namespace.
    pub mount: u64,
    /// Its process namespace: numbers of processes mean nothing outside.
    pub pid: u64,
}

impl Process {
    /// The process `pid`; `NotFound` when there is none.
    pub fn open(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, directory: File::open(Path::new("/proc").join(pid.to_string()))? })
    }

    /// All that there are. One that ends meanwhile is left out.
    pub fn all() -> io::Result<impl Iterator<Item = Self>> {
        let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        Ok(fs::read_dir("/proc")?.flatten().filter_map(pid).filter_map(|pid| Self::open(pid).ok()))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its namespaces; an error once it has ended.
    pub fn namespaces(&self) -> io::Result<Namespaces> {
        let inode = |what: &str| Ok::<_, io::Error>(fs::metadata(self.path(what))?.ino());
        Ok(Namespaces { mount: inode("ns/mnt")?, pid: inode("ns/pid")? })
    }

    /// Its name: that of its program, cut to 15 bytes, unless it has changed it.
    pub fn name(&self) -> io::Result<String> {
        let name = fs::read(self.path("comm"))?;
        Ok(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
    }

    /// The name of its program's file, also of one that was replaced since.
    pub fn program(&self) -> io::Result<OsString> {
        let path = fs::read_link(self.path("exe"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(name.trim_end_matches(" (deleted)").into())
    }

    /// Its working directory.
    pub fn works_in(&self) -> io::Result<FileId> {
        Ok(FileId::of(&fs::metadata(self.path("cwd"))?))
    }

    /// The number of its parent.
    pub fn parent(&self) -> io::Result<u32> {
        self.stat_field(1)
    }

    /// When it began, in seconds since 1970, give or take one.
    pub fn started(&self) -> io::Result<i64> {
        let ticks: u64 = self.stat_field(19)?;
        let stat = fs::read_to_string("/proc/stat")?;
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")?.parse::<i64>().ok());
        let since_boot = i64::try_from(ticks / TICKS).map_err(io::Error::other)?;
        boot.map(|boot| boot + since_boot).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The identifier of the container that it is in, by the name of its control group; `None`
    /// for one that is in none.
    pub fn container(&self) -> io::Result<Option<String>> {
        Ok(container_in(&fs::read_to_string(self.path("cgroup"))?))
    }

    /// The directory `path` as this process sees it, to be looked at: links in it lead to where they
    /// lead there.
    pub fn open_in_its_root(&self, path: &Path) -> io::Result<File> {
        let root = File::open(self.path("root"))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        Ok(openat2(&root, path, OpenHow::new().flags(flags).resolve(resolve)).map(File::from)?)
    }

    /// The environment that it was started with, at most so many bytes of it.
    pub fn environment(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path("environ"))?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A number out of `stat`, counted from the state, which is 0.
    fn stat_field<T: std::str::FromStr>(&self, index: usize) -> io::Result<T> {
        let stat = fs::read(self.path("stat"))?;
        let stat = String::from_utf8_lossy(&stat);
        // The name, in parentheses, may hold anything.
        let field = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(index));
        field.and_then(|field| field.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn path(&self, what: &str) -> String {
        format!("/proc/self/fd/{}/{what}", self.directory.as_raw_fd())
    }
}

/// The threads of all processes that live in one of these mount namespaces, each behind the number of its
/// process. Opens nothing of the others, of which there may be many; what ends meanwhile may be left out.
pub fn threads_in(namespaces: &BTreeSet<u64>) -> io::Result<Vec<(u32, u32)>> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let mut threads = Vec::new();
    for pid in fs::read_dir("/proc")?.flatten().filter_map(number) {
        let home = fs::metadata(format!("/proc/{pid}/ns/mnt"));
        if home.is_ok_and(|home| namespaces.contains(&home.ino())) {
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            threads.extend(tasks.flatten().filter_map(number).map(|thread| (pid, thread)));
        }
    }
    Ok(threads)
}

/// Makes this process one of another user, for good.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}

/// The last 64 hexadecimal digits in a row: Docker names control groups `ID` or `docker-ID.scope`.
fn container_in(groups: &str) -> Option<String> {
    let word = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    groups.split(|letter: char| !letter.is_ascii_alphanumeric()).rfind(word).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Process {
        Process::open(std::process::id()).unwrap()
    }

    #[test]
    fn this_process_is_seen() {
        let own = own();
        assert_eq!(own.parent().unwrap(), std::os::unix::process::parent_id());
        assert_eq!(
            own.namespaces().unwrap().mount,
            fs::metadata("/proc/self/ns/mnt").unwrap().ino()
        );
        assert_eq!(own.works_in().unwrap(), FileId::of(&fs::metadata(".").unwrap()));
        assert!(own.program().unwrap().to_str().unwrap().starts_with("pgvol"));
        assert!("pgvol".starts_with(&own.name().unwrap()[..5]));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = i64::try_from(now.as_secs()).unwrap() - own.started().unwrap();
        assert!((-2..36_000).contains(&age), "{age}");
        assert!(Process::all().unwrap().any(|process| process.pid() == own.pid()));
        assert!(
            own.open_in_its_root(Path::new("/proc/../dev")).unwrap().metadata().unwrap().is_dir()
        );
        assert!(own.open_in_its_root(Path::new("/no/where")).is_err());
        assert_eq!(own.environment(5).unwrap().len(), 5);
        let here = threads_in(&[own.namespaces().unwrap().mount].into()).unwrap();
        assert!(here.contains(&(own.pid(), own.pid())));
        assert!(threads_in(&BTreeSet::new()).unwrap().is_empty());
    }

    #[test]
    fn an_ended_process_is_not_taken_for_another() {
        #[expect(clippy::disallowed_methods, reason = "it ends at once")]
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        assert!(process.namespaces().is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.namespaces().is_err() && process.name().is_err());
        assert!(Process::open(child.id()).is_err());
    }

    #[test]
    fn a_container_is_named_by_its_control_group() {
        let id = "0123456789abcdef".repeat(4);
        for groups in [
            format!("12:cpu:/docker/{id}\n0::/x\n"),
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("0::/../{id}\n"),
        ] {
            assert_eq!(container_in(&groups).as_deref(), Some(id.as_str()));
        }
        assert_eq!(container_in("0::/user.slice\n1:name=systemd:/\n"), None);
    }
}
