//! Looks at every page of a cluster: that none was written by WAL that the copy does not have, which is
//! what a copy with its WAL captured before its data has and checksums do not show, and that checksums
//! are right. A page that was copied while it was being written is torn; recovery writes it anew, from
//! the image that the WAL has of it, so that one is no fault.
//!
//! Absent: relations that recovery empties, and free space maps, which the server repairs by itself.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use super::checksum;
use crate::postgres::control::{Control, Lsn};
use crate::postgres::wal::Block;
use crate::sys::beneath::Dir;

/// Faults that are told one by one.
const TOLD: usize = 5;

/// Directories of one tablespace that are looked at.
const MOST_DIRECTORIES: usize = 1 << 16;

/// A directory of relations' files, such as `base/5`.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: Dir,
    /// As it is shown.
    pub(super) shown: PathBuf,
    /// The tablespace's and the database's number, as the WAL has them.
    pub(super) tablespace: u32,
    pub(super) database: u32,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) pages: u64,
    /// Torn, and written anew by recovery.
    pub(super) healed: u64,
    pub(super) faults: u64,
    /// The first of them.
    pub(super) told: Vec<String>,
}

/// What pages are held to.
#[derive(Debug)]
pub(super) struct Measure<'a> {
    pub(super) control: &'a Control,
    /// Where the WAL of the copy ends.
    pub(super) end: Lsn,
    /// Blocks that recovery writes anew.
    pub(super) images: &'a HashSet<Block>,
}

/// Looks at all relations of `places`, on as many threads as there are processors.
pub(super) fn look(places: Vec<Place>, measure: &Measure) -> io::Result<Report> {
    let queue = Mutex::new(places);
    let total = Mutex::new(Report::default());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop());
    thread::scope(|scope| {
        let work = || {
            while let Some(place) = next() {
                let report = relations(&place, measure)?;
                if let Ok(mut total) = total.lock() {
                    total.add(report);
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a look at pages panicked")))
        })
    })?;
    Ok(total.into_inner().unwrap_or_default())
}

/// The directories of databases in that of a tablespace.
pub(super) fn databases(top: &Dir, shown: &Path, tablespace: u32) -> io::Result<Vec<Place>> {
    let mut places = Vec::new();
    for entry in fs::read_dir(top.path())?.take(MOST_DIRECTORIES) {
        let name = entry?.file_name();
        let database = name.to_str().and_then(|name| name.parse().ok());
        let (Some(database), Ok(dir)) = (database, top.open_dir(Path::new(&name))) else {
            continue;
        };
        places.push(Place { dir, shown: shown.join(&name), tablespace, database });
    }
    Ok(places)
}

impl Report {
    fn add(&mut self, other: Self) {
        self.pages += other.pages;
        self.healed += other.healed;
        self.faults += other.faults;
        let room = TOLD.saturating_sub(self.told.len());
        self.told.extend(other.told.into_iter().take(room));
    }

    fn fault(&mut self, file: &Path, block: u32, what: &str) {
        self.faults += 1;
        if self.told.len() < TOLD {
            self.told.push(format!("{} block {block}: {what}", file.display()));
        }
    }
}

/// A relation's file by its name: `16384`, `16384.1`, `16384_vm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RelationFile {
    relation: u32,
    fork: Fork,
    segment: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fork {
    Main,
    FreeSpace,
    Visibility,
    Init,
}

impl RelationFile {
    fn parse(name: &str) -> Option<Self> {
        let (name, segment) = match name.split_once('.') {
            None => (name, 0),
            Some((name, segment)) => (name, segment.parse().ok()?),
        };
        let (relation, fork) = match name.split_once('_') {
            None => (name, Fork::Main),
            Some((relation, "fsm")) => (relation, Fork::FreeSpace),
            Some((relation, "vm")) => (relation, Fork::Visibility),
            Some((relation, "init")) => (relation, Fork::Init),
            Some(_) => return None,
        };
        Some(Self { relation: relation.parse().ok()?, fork, segment })
    }

    /// As the WAL counts them.
    fn fork_number(self) -> u8 {
        match self.fork {
            Fork::Main => 0,
            Fork::FreeSpace => 1,
            Fork::Visibility => 2,
            Fork::Init => 3,
        }
    }
}

fn relations(place: &Place, measure: &Measure) -> io::Result<Report> {
    let mut files = Vec::new();
    let mut unlogged = BTreeSet::new();
    for entry in fs::read_dir(place.dir.path())? {
        let name = entry?.file_name();
        let Some(file) = name.to_str().and_then(RelationFile::parse) else { continue };
        if file.fork == Fork::Init {
            unlogged.insert(file.relation);
        }
        files.push((PathBuf::from(name), file));
    }
    let mut report = Report::default();
    for (name, file) in files {
        let emptied = unlogged.contains(&file.relation) && file.fork != Fork::Init;
        if !emptied && file.fork != Fork::FreeSpace {
            pages(place, &name, file, measure, &mut report)?;
        }
    }
    Ok(report)
}

fn pages(
    place: &Place,
    name: &Path,
    file: RelationFile,
    measure: &Measure,
    report: &mut Report,
) -> io::Result<()> {
    let details = measure.control.details;
    let size = details.block_size as usize;
    if !size.is_power_of_two() || !(1024..=32768).contains(&size) {
        return Err(io::Error::other("the control file names no possible size of pages"));
    }
    let source = place.dir.open_file(name)?;
    let shown = place.shown.join(name);
    let mut buffer = vec![0; size * 64];
    let mut at = 0_u64;
    loop {
        let read = source.read_at(&mut buffer, at)?;
        for page in buffer[..read].chunks_exact(size) {
            let in_file = u32::try_from(at / size as u64).unwrap_or(u32::MAX);
            let block = file.segment.wrapping_mul(details.blocks_in_file).wrapping_add(in_file);
            at += size as u64;
            report.pages += 1;
            let found = Block {
                tablespace: place.tablespace,
                database: place.database,
                relation: file.relation,
                fork: file.fork_number(),
                block,
            };
            match fault(page, block, measure) {
                None => {}
                Some(Fault::Torn(_))
                    if file.fork == Fork::Visibility || measure.images.contains(&found) =>
                {
                    report.healed += 1;
                }
                Some(Fault::Torn(what) | Fault::Late(what)) => report.fault(&shown, block, &what),
            }
        }
        // What is less than a page at the end is being made, and made again by recovery.
        if read < size {
            return Ok(());
        }
    }
}

/// What is wrong with a page.
enum Fault {
    /// Its checksum. A map of visibility is emptied by the server that finds that.
    Torn(String),
    /// It is from behind the end of the WAL.
    Late(String),
}

fn fault(page: &[u8], block: u32, measure: &Measure) -> Option<Fault> {
    let upper = u16::from_le_bytes([page[14], page[15]]);
    if upper == 0 && page.iter().all(|&byte| byte == 0) {
        return None;
    }
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]))
    };
    let lsn = Lsn(word(0) << 32 | word(4));
    if lsn > measure.end {
        let what = format!("written at {lsn}, behind the end of the WAL at {}", measure.end);
        return Some(Fault::Late(what));
    }
    if measure.control.data_checksums {
        let stored = u16::from_le_bytes([page[8], page[9]]);
        let right = checksum::of(page, block);
        if stored != right {
            return Some(Fault::Torn(format!("checksum {stored:04x}, not {right:04x}")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use plugin_sdk::durable;

    use super::*;
    use crate::postgres::wal::sample::Sample;

    fn page(lsn: u64, block: u32) -> Vec<u8> {
        let mut page = vec![0; 8192];
        page[..4].copy_from_slice(&u32::try_from(lsn >> 32).unwrap().to_le_bytes());
        page[4..8].copy_from_slice(&u32::try_from(lsn & 0xffff_ffff).unwrap().to_le_bytes());
        page[14..16].copy_from_slice(&8192_u16.to_le_bytes());
        page[100] = 7;
        let sum = checksum::of(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    fn report(files: &[(&str, Vec<u8>)], images: &[Block]) -> Report {
        let temporary = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            durable::write(&temporary.path().join(name), bytes).unwrap();
        }
        let dir = Dir::open(temporary.path()).unwrap();
        let place = Place { dir, shown: "base/5".into(), tablespace: 1663, database: 5 };
        let control = Sample::control(Lsn(1), Lsn(1));
        let images = images.iter().copied().collect();
        look(vec![place], &Measure { control: &control, end: Lsn(1000), images: &images }).unwrap()
    }

    #[test]
    fn whole_pages_pass() {
        let file = [page(999, 0), vec![0; 8192], page(1000, 2), vec![9; 100]].concat();
        let report = report(&[("16384", file), ("pg_filenode.map", vec![1; 512])], &[]);
        assert_eq!((report.pages, report.faults, report.healed), (3, 0, 0));
    }

    #[test]
    fn a_page_from_behind_the_end_is_a_fault() {
        // Also where recovery writes the page anew: the others like it are not.
        let image = Block { tablespace: 1663, database: 5, relation: 16384, fork: 0, block: 1 };
        let report = report(&[("16384", [page(7, 0), page(1001, 1)].concat())], &[image]);
        assert_eq!(report.faults, 1);
        assert!(report.told[0].contains("base/5/16384 block 1: written at 0/3E9"), "{report:?}");
    }

    #[test]
    fn a_torn_page_is_one_unless_recovery_writes_it_anew() {
        let mut torn = page(7, 0);
        torn[5000] ^= 1;
        let block = Block { tablespace: 1663, database: 5, relation: 16384, fork: 0, block: 0 };
        let faulty = report(&[("16384", torn.clone())], &[]);
        assert!(faulty.told[0].contains("checksum"), "{faulty:?}");
        let healed = report(&[("16384", torn.clone())], &[block]);
        assert_eq!((healed.faults, healed.healed), (0, 1));
        // Neither is looked at: the one is emptied, the other repaired.
        let files =
            [("16384", torn.clone()), ("16384_init", Vec::new()), ("16385_fsm", torn.clone())];
        assert_eq!(report(&files, &[]).faults, 0);
        let visibility = report(&[("16385_vm", torn)], &[]);
        assert_eq!((visibility.faults, visibility.healed), (0, 1));
    }

    #[test]
    fn files_are_told_by_their_names() {
        let parse = |name| RelationFile::parse(name);
        assert_eq!(
            parse("16384_vm.2"),
            Some(RelationFile { relation: 16384, fork: Fork::Visibility, segment: 2 })
        );
        for name in ["t3_16384", "pg_filenode.map", "16384_x", "", "PG_VERSION", "16384.x"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
