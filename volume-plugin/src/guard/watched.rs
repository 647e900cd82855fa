//! A directory that is, or may become, that of a cluster, and who has the cluster.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::name::VolumeName;
use crate::postgres::control;
use crate::sys::beneath::Dir;
use crate::sys::fanotify::{Group, Scope};
use crate::sys::file::FileId;
use crate::sys::process::{Namespaces, Process};

/// The directory of the control file.
const GLOBAL: &str = "global";

/// See the module.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) volume: VolumeName,
    /// Below the volume's root.
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    dir: Dir,
    /// Held for accesses to memory alone: the thread that answers takes it too.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The control file that is watched by itself.
    control: Option<FileId>,
    /// Whether the files of `global` are watched, while there is no control file.
    global: bool,
    holder: Option<Arc<Holder>>,
    /// The process that was let through last.
    latest: Option<Arc<Process>>,
    /// Servers that were found beside each other.
    rivals: Vec<Arc<Holder>>,
    refused: u64,
    unjudged: u64,
}

/// A process that stands for a cluster's server: as long as it lives, so does the server.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) process: Arc<Process>,
    pub(super) home: Namespaces,
}

impl Holder {
    pub(super) fn is_alive(&self) -> bool {
        self.process.namespaces().is_ok_and(|home| home == self.home)
    }
}

impl Watched {
    /// The directory `dir` at `path` below the root of `volume`.
    pub(super) fn new(volume: VolumeName, path: PathBuf, dir: Dir) -> io::Result<Self> {
        let id = FileId::of(&dir.metadata(Path::new("."))?);
        Ok(Self { volume, path, id, dir, state: Mutex::default() })
    }

    /// The directory `path` below this one.
    pub(super) fn open_dir(&self, path: &Path) -> io::Result<Dir> {
        self.dir.open_dir(path)
    }

    /// Whether a cluster's files are here.
    pub(super) fn is_cluster(&self) -> bool {
        ["PG_VERSION", GLOBAL].iter().any(|name| self.dir.metadata(Path::new(name)).is_ok())
    }

    /// Watches what tells that a server begins here. Nothing counts that was watched before.
    pub(super) fn begin(&self, group: &Group) -> io::Result<Option<FileId>> {
        {
            let mut state = self.state();
            (state.control, state.global) = (None, false);
        }
        self.look(group)
    }

    /// Looks for the control file and watches it: it may have been made or replaced. Tells which
    /// one it is if it is a new one. Watches also what should be watched already: a file that was
    /// made anew may have the number of the old one, whose mark is gone. Opens nothing.
    pub(super) fn look(&self, group: &Group) -> io::Result<Option<FileId>> {
        let (known, global) = {
            let state = self.state();
            (state.control, state.global)
        };
        group.watch(&self.dir.handle(Path::new("."))?, Scope::Children)?;
        match self.dir.handle(Path::new(control::PATH)) {
            Ok(file) => {
                let found = FileId::of(&file.metadata()?);
                group.watch(&file, Scope::File)?;
                self.state().control = Some(found);
                if global {
                    self.unwatch_global(group)?;
                }
                Ok((known != Some(found)).then_some(found))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Ok(directory) = self.dir.handle(Path::new(GLOBAL)) {
                    group.watch(&directory, Scope::Children)?;
                    self.state().global = true;
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Once the control file is watched, the many opens beside it are none of ours.
    fn unwatch_global(&self, group: &Group) -> io::Result<()> {
        group.unwatch(&self.dir.handle(Path::new(GLOBAL))?, Scope::Children)?;
        self.state().global = false;
        Ok(())
    }

    /// Watches nothing here any more, as far as it is still there.
    pub(super) fn end(&self, group: &Group) {
        for (path, scope) in
            [(".", Scope::Children), (GLOBAL, Scope::Children), (control::PATH, Scope::File)]
        {
            if let Ok(handle) = self.dir.handle(Path::new(path)) {
                drop(group.unwatch(&handle, scope));
            }
        }
    }

    /// Whether `file` is what is called `name` here.
    pub(super) fn has(&self, name: &Path, file: FileId) -> bool {
        file.device == self.id.device
            && self.dir.metadata(name).is_ok_and(|found| FileId::of(&found) == file)
    }

    /// Who has the cluster, dead or alive.
    pub(super) fn holder(&self) -> Option<Arc<Holder>> {
        self.state().holder.clone()
    }

    pub(super) fn give_to(&self, holder: Arc<Holder>) {
        self.state().holder = Some(holder);
    }

    pub(super) fn latest(&self) -> Option<Arc<Process>> {
        self.state().latest.clone()
    }

    pub(super) fn let_through(&self, process: Arc<Process>) {
        self.state().latest = Some(process);
    }

    pub(super) fn rivals(&self) -> Vec<Arc<Holder>> {
        self.state().rivals.clone()
    }

    pub(super) fn set_rivals(&self, rivals: Vec<Arc<Holder>>) {
        self.state().rivals = rivals;
    }

    /// Counts a server that was kept from starting.
    pub(super) fn count_refused(&self) {
        self.state().refused += 1;
    }

    /// Counts an open that was allowed since it could not be judged, and says so the first time:
    /// whatever keeps it from being judged keeps every other.
    pub(super) fn count_unjudged(&self, reason: &dyn Display) {
        let count = {
            let mut state = self.state();
            state.unjudged += 1;
            state.unjudged
        };
        if count == 1 {
            let (volume, directory) = (&self.volume, self.path.display());
            tracing::error!(%volume, %directory, %reason, "a server is let through unjudged");
        }
    }

    /// How often a server was refused, and how often an open was allowed without a judgement.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.refused, state.unjudged)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
