//! Being asked before a file is opened: fanotify's permission events.
//!
//! An opener waits until its event is answered, and so does whoever waits for that opener: a
//! reader of events must not wait for anything. The kernel allows what is pending, and everything
//! from then on, once the last handle of the group is closed, also by a kill.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags,
    Response,
};

use super::beneath::{Dir, handle_path};
use super::file::FileId;

/// A group that is asked about the opens of what it watches.
#[derive(Debug, Clone)]
pub struct Group(Arc<Fanotify>);

/// What is watched of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The file itself.
    File,
    /// The files, not the directories, that are in the directory, now and later.
    Children,
}

/// The answer to an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It goes on.
    Allow,
    /// It ends with `EPERM`.
    Deny,
}

/// A process that waits in an open. Allowed when dropped without an answer.
#[derive(Debug)]
pub struct Opening {
    /// `None` once answered.
    event: Option<FanotifyEvent>,
    group: Group,
}

impl Group {
    /// A new group. `EINVAL` on a kernel without `CONFIG_FANOTIFY_ACCESS_PERMISSIONS`, `ENOSYS`
    /// without fanotify, `EPERM` without `CAP_SYS_ADMIN`.
    pub fn new() -> io::Result<Self> {
        // A full queue would let opens pass unasked.
        let flags = InitFlags::FAN_CLASS_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_QUEUE
            | InitFlags::FAN_UNLIMITED_MARKS;
        // The kernel opens the file for us too: non-blocking, since it may be a FIFO or leased.
        let handles = EventFFlags::O_RDONLY
            | EventFFlags::O_NONBLOCK
            | EventFFlags::O_CLOEXEC
            | EventFFlags::O_LARGEFILE;
        let group = Self(Arc::new(Fanotify::init(flags, handles)?));
        // Only a mark tells whether the kernel asks about opens; none comes from this one.
        let root = Dir::open(Path::new("/"))?.handle(Path::new("."))?;
        group.watch(&root, Scope::File)?;
        group.unwatch(&root, Scope::File)?;
        Ok(group)
    }

    /// Watches the file or directory of `handle`; doing so again changes nothing.
    pub fn watch(&self, handle: &File, scope: Scope) -> io::Result<()> {
        self.mark(MarkFlags::FAN_MARK_ADD, handle, scope)
    }

    /// Watches it no longer; one that is not watched is no error.
    pub fn unwatch(&self, handle: &File, scope: Scope) -> io::Result<()> {
        match self.mark(MarkFlags::FAN_MARK_REMOVE, handle, scope) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Opens that wait for an answer, waiting for the first for at most `patience`.
    pub fn read(&self, patience: Duration) -> io::Result<Vec<Opening>> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Vec::new()),
            other => other?,
        };
        let events = match self.0.read_events() {
            Err(Errno::EAGAIN | Errno::EINTR) => Vec::new(),
            other => other?,
        };
        // One without a file says that the queue was full, which it is never.
        let opening = |event: FanotifyEvent| Opening { event: Some(event), group: self.clone() };
        Ok(events.into_iter().filter(|event| event.fd().is_some()).map(opening).collect())
    }

    fn mark(&self, flags: MarkFlags, handle: &File, scope: Scope) -> io::Result<()> {
        let mask = match scope {
            Scope::File => MaskFlags::FAN_OPEN_PERM,
            Scope::Children => MaskFlags::FAN_OPEN_PERM | MaskFlags::FAN_EVENT_ON_CHILD,
        };
        Ok(self.0.mark(flags, mask, AT_FDCWD, Some(&handle_path(handle)))?)
    }
}

/// Whether a read of events failed with `error` since one file cannot be opened for us, as a
/// socket: the kernel has denied that one open, and the group works.
pub fn is_of_one_file(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    errno.is_some_and(|errno| {
        matches!(
            errno,
            Errno::ENXIO
                | Errno::ENODEV
                | Errno::EOPNOTSUPP
                | Errno::ESTALE
                | Errno::ETXTBSY
                | Errno::ENOENT
                | Errno::EACCES
                | Errno::EIO
        )
    })
}

impl Opening {
    /// The process, by its number here; 0 where that cannot be seen.
    pub fn pid(&self) -> u32 {
        let pid = self.event.as_ref().map_or(0, FanotifyEvent::pid);
        u32::try_from(pid).unwrap_or(0)
    }

    /// The file that is being opened.
    pub fn file(&self) -> io::Result<FileId> {
        Ok(FileId::of(&fs::metadata(self.path()?)?))
    }

    /// The name by which it is being opened, without its directory.
    pub fn name(&self) -> io::Result<OsString> {
        let path = fs::read_link(self.path()?)?;
        Ok(path.file_name().map(OsString::from).unwrap_or_default())
    }

    /// Lets the opener go on or not. One that has been killed meanwhile needs no answer.
    pub fn answer(mut self, answer: Answer) {
        self.respond(answer);
    }

    fn path(&self) -> io::Result<String> {
        let fd = self.event.as_ref().and_then(FanotifyEvent::fd);
        let fd = fd.ok_or(io::ErrorKind::NotFound)?;
        Ok(format!("/proc/self/fd/{}", fd.as_raw_fd()))
    }

    fn respond(&mut self, answer: Answer) {
        let Some(event) = self.event.take() else { return };
        let Some(fd) = event.fd() else { return };
        let response = match answer {
            Answer::Allow => Response::FAN_ALLOW,
            Answer::Deny => Response::FAN_DENY,
        };
        // Fails only for an opener that does not wait any more.
        self.group.0.write_response(FanotifyResponse::new(fd, response)).ok();
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.respond(Answer::Allow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_sdk::durable;
    use std::thread;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn wait_for_one(group: &Group) -> Opening {
        let mut found = group.read(PATIENCE).unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    /// What a thread that opens `name` in a watched directory is told after `answer`.
    fn open_with(name: &str, answer: impl FnOnce(Opening)) -> io::Result<File> {
        let temporary = tempfile::tempdir().unwrap();
        durable::write(&temporary.path().join("file"), b"x").unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let group = Group::new().unwrap();
        group.watch(&dir.handle(Path::new(".")).unwrap(), Scope::Children).unwrap();
        let path = temporary.path().join(name);
        let opener = thread::spawn(move || File::open(path));
        let opening = wait_for_one(&group);
        assert_eq!(opening.name().unwrap(), name);
        let expected = dir.metadata(Path::new(name)).unwrap();
        assert_eq!(opening.file().unwrap(), FileId::of(&expected));
        assert_eq!(opening.pid(), std::process::id());
        answer(opening);
        opener.join().unwrap()
    }

    #[test]
    fn an_open_goes_as_it_is_answered() {
        assert!(open_with("file", |opening| opening.answer(Answer::Allow)).is_ok());
        let denied = open_with("file", |opening| opening.answer(Answer::Deny)).unwrap_err();
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn what_is_forgotten_is_allowed() {
        assert!(open_with("file", drop).is_ok());
    }

    #[test]
    fn a_fifo_does_not_hold_the_reader_up() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let group = Group::new().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        group.watch(&dir.handle(Path::new(".")).unwrap(), Scope::Children).unwrap();
        // Waits for a reader, which the group must not become by waiting for this writer. Newer
        // kernels do not even ask.
        let opener = thread::spawn(move || File::options().write(true).open(path));
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(500) {
            for opening in group.read(Duration::from_millis(50)).unwrap() {
                opening.answer(Answer::Allow);
            }
        }
        drop(group);
        drop(File::open(temporary.path().join("fifo")).unwrap());
        assert!(opener.join().unwrap().is_ok());
    }

    #[test]
    fn nothing_is_asked_about_what_is_not_watched() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("file");
        durable::write(&path, b"x").unwrap();
        let handle = Dir::open(temporary.path()).unwrap().handle(Path::new("file")).unwrap();
        let group = Group::new().unwrap();
        group.watch(&handle, Scope::File).unwrap();
        group.unwatch(&handle, Scope::File).unwrap();
        group.unwatch(&handle, Scope::File).unwrap();
        assert!(File::open(path).is_ok());
        assert!(group.read(Duration::ZERO).unwrap().is_empty());
    }
}
