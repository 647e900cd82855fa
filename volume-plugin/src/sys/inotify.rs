//! Being told of new names in directories, after the fact.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::beneath::handle_path;

/// A watched directory's number; the same for each watch of the same directory.
pub type Number = WatchDescriptor;

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// A directory appeared in this one.
    In(Number),
    /// The directory is gone, and its number with it.
    Gone(Number),
    /// Some news was lost.
    Lost,
}

/// Watches directories for directories that are made in them or moved there.
#[derive(Debug)]
pub struct NewDirectories(Inotify);

impl NewDirectories {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?))
    }

    /// Watches the directory of `handle`.
    pub fn watch(&self, handle: &File) -> io::Result<Number> {
        let flags =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        Ok(self.0.add_watch(&handle_path(handle), flags)?)
    }

    /// Watches it no longer; a number that is gone is no error.
    pub fn unwatch(&self, number: Number) {
        self.0.rm_watch(number).ok();
    }

    /// What has come, waiting for the first for at most `patience`.
    pub fn read(&self, patience: Duration) -> io::Result<Vec<News>> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Vec::new()),
            other => other?,
        };
        let events = match self.0.read_events() {
            Err(Errno::EAGAIN | Errno::EINTR) => Vec::new(),
            other => other?,
        };
        let news = events.into_iter().filter_map(|event| {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                Some(News::Lost)
            } else if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                Some(News::Gone(event.wd))
            } else {
                event.mask.contains(AddWatchFlags::IN_ISDIR).then_some(News::In(event.wd))
            }
        });
        Ok(news.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::beneath::Dir;
    use super::*;
    use std::path::Path;

    #[test]
    fn new_directories_are_told_and_files_are_not() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let watches = NewDirectories::new().unwrap();
        let number = watches.watch(&dir.handle(Path::new(".")).unwrap()).unwrap();
        File::create(temporary.path().join("file")).unwrap();
        dir.make_dir("made").unwrap();
        assert_eq!(watches.read(Duration::from_secs(20)).unwrap(), [News::In(number)]);
        assert_eq!(watches.read(Duration::ZERO).unwrap(), []);
        watches.unwatch(number);
        assert_eq!(watches.read(Duration::from_secs(20)).unwrap(), [News::Gone(number)]);
    }
}
