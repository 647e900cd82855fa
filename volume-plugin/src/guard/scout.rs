//! Finds the directories that are or may become those of clusters, when a volume begins to be
//! guarded and when directories appear in it. A bounded look: what lies in a volume is hostile.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::table::{Added, Table};
use super::watched::Watched;
use crate::name::VolumeName;
use crate::postgres::cluster;
use crate::sys::beneath::Dir;
use crate::sys::fanotify::Group;
use crate::sys::file::FileId;
use crate::sys::inotify::{NewDirectories, News, Number};
use plugin_sdk::chain::chain;

/// Directories of a volume that are watched.
const MOST_DIRECTORIES: usize = 256;

/// Names that are looked at in one directory.
const MOST_NAMES: usize = 4096;

/// How long a busy volume is left alone between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the thread sleeps when nothing appears.
const IDLE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Scout {
    table: Arc<Table>,
    /// `None` where the kernel gives none: then all is looked at once a second.
    appearing: Option<NewDirectories>,
    /// The directory of each number, and its volume.
    volumes: Mutex<HashMap<Number, (VolumeName, FileId)>>,
}

/// A directory to look at.
struct Place {
    dir: Dir,
    path: PathBuf,
    depth: usize,
}

impl Scout {
    pub(super) fn new(table: Arc<Table>) -> Self {
        let appearing = NewDirectories::new();
        if let Err(error) = &appearing {
            tracing::warn!(%error, "new directories are looked for once a second");
        }
        Self { table, appearing: appearing.ok(), volumes: Mutex::default() }
    }

    /// Looks wherever a directory appears, until `stop`; `group` is the group of the moment.
    pub(super) fn run(&self, stop: impl Fn() -> bool, group: impl Fn() -> Option<Group>) {
        while !stop() {
            let news = self.wait();
            // What could not be watched is tried again.
            let mut changed = if news.is_empty() { self.table.troubled() } else { HashSet::new() };
            for one in news {
                match one {
                    News::In(number) => {
                        changed.extend(self.volumes().get(&number).map(|(of, _)| of.clone()));
                    }
                    News::Gone(number) => drop(self.volumes().remove(&number)),
                    News::Lost => changed.extend(self.table.volumes()),
                }
            }
            for volume in &changed {
                self.look(volume, group().as_ref());
            }
            if !changed.is_empty() {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn wait(&self) -> Vec<News> {
        let news = self.appearing.as_ref().map(|appearing| appearing.read(IDLE));
        if let Some(Ok(news)) = news {
            return news;
        }
        if let Some(Err(error)) = news {
            tracing::error!(%error, "new directories are not seen");
        }
        std::thread::sleep(IDLE);
        vec![News::Lost]
    }

    /// Watches what is in `volume` now and no longer what is not.
    pub(super) fn look(&self, volume: &VolumeName, group: Option<&Group>) {
        let Some(looks) = self.table.entry(volume).map(|entry| entry.looks) else { return };
        // Of two at once, one would drop what only the other has seen.
        let _looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = self.table.entry(volume) else { return };
        let trouble = match self.walk(volume, &entry.root, &entry.except, group) {
            Ok(Seen { mut ids, complete, trouble }) => {
                let directories =
                    self.table.entry(volume).into_iter().flat_map(|of| of.directories);
                // Looked at here, not while the table is locked.
                let held = directories
                    .filter(|watched| watched.holder().is_some_and(|holder| holder.is_alive()));
                ids.extend(held.map(|watched| watched.id));
                for gone in self.table.keep(volume, &ids) {
                    self.unwatch(|(of, id)| of == volume && *id == gone.id);
                    if let Some(group) = group {
                        gone.end(group);
                    }
                }
                let too_many = || {
                    format!(
                        "only {MOST_DIRECTORIES} directories are watched, and {MOST_NAMES} names \
                         looked at in each"
                    )
                };
                (!complete).then(too_many).or(trouble)
            }
            Err(error) => Some(chain(&error)),
        };
        if let Some(trouble) = trouble.as_ref().filter(|_| trouble != entry.trouble) {
            tracing::warn!(volume = %volume, trouble, "not all of a volume is guarded");
        }
        self.table.set_trouble(volume, trouble);
    }

    /// Forgets the numbers of `volume`.
    pub(super) fn forget(&self, volume: &VolumeName) {
        self.unwatch(|(of, _)| of == volume);
    }

    /// Forgets the numbers of such directories.
    fn unwatch(&self, such: impl Fn(&(VolumeName, FileId)) -> bool) {
        self.volumes().retain(|number, of| {
            let goes = such(of);
            if goes && let Some(appearing) = &self.appearing {
                appearing.unwatch(*number);
            }
            !goes
        });
    }

    fn walk(
        &self,
        volume: &VolumeName,
        root: &Path,
        except: &[String],
        group: Option<&Group>,
    ) -> io::Result<Seen> {
        let mut seen = Seen { ids: HashSet::new(), complete: true, trouble: None };
        let dir = match Dir::open(root) {
            // The volume was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(seen),
            other => other?,
        };
        let mut places = VecDeque::from([Place { dir, path: PathBuf::new(), depth: 0 }]);
        while let Some(place) = places.pop_front() {
            let except = if place.depth == 0 { except } else { &[] };
            match self.visit(volume, place, except, group, &mut seen) {
                Ok(Some(below)) => {
                    places.extend(below);
                    // Each of them is open.
                    let left = MOST_DIRECTORIES.saturating_sub(seen.ids.len());
                    seen.complete &= places.len() <= left;
                    places.truncate(left);
                }
                // Nothing is left to be watched of a volume that is being forgotten.
                Ok(None) => break,
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // One directory keeps no other from being guarded.
                Err(error) => seen.note(&error),
            }
        }
        Ok(seen)
    }

    /// Watches one directory; notes it, and gives those in it that are to be visited.
    fn visit(
        &self,
        volume: &VolumeName,
        Place { dir, path, depth }: Place,
        except: &[String],
        group: Option<&Group>,
        seen: &mut Seen,
    ) -> io::Result<Option<Vec<Place>>> {
        let id = FileId::of(&dir.metadata(Path::new("."))?);
        seen.ids.insert(id);
        // Before its content is looked at, so that nothing appears unseen.
        if let Some(appearing) = &self.appearing {
            let number = appearing.watch(&dir.handle(Path::new("."))?)?;
            self.volumes().insert(number, (volume.clone(), id));
        }
        let mut entries = fs::read_dir(dir.path())?;
        let names: Vec<_> = entries
            .by_ref()
            .take(MOST_NAMES)
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.file_name())
            .collect();
        let cut = entries.next().is_some();
        let watched = Watched::new(volume.clone(), path.clone(), dir)?;
        let is_cluster = watched.is_cluster();
        let below: Vec<_> = names
            .into_iter()
            .filter(|name| !except.iter().any(|except| name == except.as_str()))
            // A cluster's own many files are none of ours; another may be beside them.
            .filter(|name| !(is_cluster && cluster::is_own(name)))
            // Gone meanwhile, or no directory any more.
            .filter_map(|name| Some((watched.open_dir(Path::new(&name)).ok()?, name)))
            .map(|(dir, name)| Place { dir, path: path.join(name), depth: depth + 1 })
            .take(MOST_DIRECTORIES + 1)
            .collect();
        let Some((watched, added)) = self.table.add(watched) else { return Ok(None) };
        if let Some(group) = group {
            match self.begin(&watched, added, group) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => seen.note(&error),
                _ => {}
            }
        }
        if depth == cluster::DEEPEST {
            return Ok(Some(Vec::new()));
        }
        seen.complete &= !cut || is_cluster;
        Ok(Some(below))
    }

    fn begin(&self, watched: &Arc<Watched>, added: Added, group: &Group) -> io::Result<()> {
        let control = match added {
            Added::Now => watched.begin(group)?,
            Added::Before => watched.look(group)?,
        };
        if let Some(control) = control {
            self.table.index(watched, control);
        }
        Ok(())
    }

    /// How many directories are watched for new ones.
    #[cfg(test)]
    pub(super) fn numbers(&self) -> usize {
        self.volumes().len()
    }

    fn volumes(&self) -> MutexGuard<'_, HashMap<Number, (VolumeName, FileId)>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a walk has seen.
struct Seen {
    ids: HashSet<FileId>,
    /// Whether that was all.
    complete: bool,
    /// What was wrong with a directory.
    trouble: Option<String>,
}

impl Seen {
    fn note(&mut self, error: &io::Error) {
        self.trouble.get_or_insert_with(|| chain(error));
    }
}
