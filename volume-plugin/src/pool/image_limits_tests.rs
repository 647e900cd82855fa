//! Limits on a real file system of this kernel.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};

use super::*;
use crate::pool::{
    Bounds, Captured, Directory, ImagePlan, ImagePool, Overwrite, Owner, Pace, Pool,
};
use crate::scratch::Scratch;
use crate::sys::{btrfs, mount, namespace};

const MIB: u64 = 1 << 20;

/// A pool for the calling thread alone, with a share `v` that is overwritten in place.
struct Bench {
    pool: ImagePool,
    plan: ImagePlan,
    /// Outlives what is mounted in it.
    dir: Scratch,
}

fn name(text: &str) -> ShareName {
    text.parse().unwrap()
}

fn at(size: u64) -> Limit {
    Limit { size, held_back: 0, uncounted: 0 }
}

/// Of each kind of quotas, for one test after the other.
fn benches() -> impl Iterator<Item = Bench> {
    [Count::Newer, Count::Whole].into_iter().map(|count| {
        let bench = bench();
        if count == Count::Whole {
            quota::count_groups(&bench.plan.mount_point).unwrap();
            bench.pool.prepare_limits().unwrap();
            assert_eq!(bench.counted(), Some(Count::Whole));
        }
        bench
    })
}

fn bench() -> Bench {
    namespace::isolate();
    let dir = Scratch::new();
    let bounds = Bounds { size: "768M".parse().unwrap(), limit: "768M".parse().unwrap() };
    let image = dir.path().join("pool.img");
    let plan = ImagePlan { image, mount_point: dir.path().join("mounted"), bounds };
    let pool = ImagePool::open(&plan).unwrap();
    let owner = Owner { uid: 999, gid: 999, mode: 0o700 };
    let data = Directory { path: "data".to_owned(), owner, overwrite: Overwrite::InPlace };
    pool.create(&name("v"), &[data], None).unwrap();
    Bench { pool, plan, dir }
}

impl Bench {
    fn file(&self) -> PathBuf {
        self.pool.locate(&name("v")).unwrap().join("data/file")
    }

    fn charge(&self) -> Charge {
        btrfs::commit(&self.plan.mount_point).unwrap();
        self.pool.charge(&name("v")).unwrap().unwrap()
    }

    fn counted(&self) -> Option<Count> {
        quota::counted(&self.plan.mount_point).unwrap()
    }

    fn snapshot(&self, new: &str) {
        let pace = Pace::until(Instant::now() + Duration::from_mins(1));
        self.pool.snapshot(&name("v"), &name(new), Captured::ReadOnly, &pace).unwrap();
    }

    /// The plugin starts again, and is told of the size as a start does.
    fn restarted(self, size: u64) -> Self {
        let Self { pool, plan, dir } = self;
        drop(pool);
        mount::detach(&plan.mount_point).unwrap();
        let pool = ImagePool::open(&plan).unwrap();
        pool.limit(&name("v"), Some(at(size))).unwrap();
        Self { pool, plan, dir }
    }
}

/// Writes `megabytes` to `path` from `at` on, in the pieces that PostgreSQL writes.
fn write(path: &Path, at: u64, megabytes: u64) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
    file.seek(SeekFrom::Start(at * MIB))?;
    for _ in 0..megabytes * 128 {
        file.write_all(&[7; 8192])?;
    }
    file.sync_all()
}

#[test]
fn a_share_holds_its_size_and_more_after_it_was_raised() {
    for bench in benches() {
        bench.pool.limit(&name("v"), Some(at(100 * MIB))).unwrap();
        write(&bench.file(), 0, 80).unwrap();
        let error = write(&bench.file(), 80, 30).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        assert!(bench.charge().charged <= 100 * MIB);
        bench.pool.limit(&name("v"), Some(at(150 * MIB))).unwrap();
        write(&bench.file(), 0, 110).unwrap();
        bench.pool.limit(&name("v"), None).unwrap();
        write(&bench.file(), 110, 60).unwrap();
        assert_eq!(bench.charge().limit, None);
    }
}

/// The trap: what is overwritten in place after a snapshot is charged a second time.
#[test]
fn a_share_that_is_nearly_full_is_overwritten_under_ten_snapshots() {
    for mut bench in benches() {
        let size = 100 * MIB;
        bench.pool.limit(&name("v"), Some(at(size))).unwrap();
        write(&bench.file(), 0, 90).unwrap();
        for round in 0..10 {
            bench.snapshot(&format!("s{round}"));
            // Also where nobody has told the size yet.
            if round == 5 {
                bench = bench.restarted(size);
            }
            write(&bench.file(), 0, if round % 5 == 0 { 90 } else { 8 }).unwrap();
            bench.pool.limits.lower().unwrap();
            write(&bench.file(), 0, 8).unwrap();
        }
        let before = bench.charge();
        // What only snapshots have is charged by simple quotas alone.
        assert_eq!(before.charged > 250 * MIB, before.count == Count::Newer, "{before:?}");
        // The limit comes back with what the snapshots give back.
        for round in 0..10 {
            bench.pool.delete(&name(&format!("s{round}"))).unwrap();
        }
        let begun = Instant::now();
        while bench.charge().limit > Some(2 * size + 20 * MIB) {
            assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", bench.charge());
            bench.pool.limits.lower().unwrap();
            write(&bench.file(), 0, 90).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(write(&bench.file(), 90, 150).is_err());
    }
}

#[test]
fn limits_survive_a_restart() {
    for bench in benches() {
        bench.pool.limit(&name("v"), Some(at(80 * MIB))).unwrap();
        let bench = bench.restarted(80 * MIB);
        assert_eq!(bench.charge().limit, Some(80 * MIB));
        assert!(write(&bench.file(), 0, 90).is_err());
        // Deleting needs no room.
        fs::remove_file(bench.file()).unwrap();
        write(&bench.file(), 0, 70).unwrap();
    }
}

#[test]
fn nothing_is_counted_before_it_is_asked_for() {
    let bench = bench();
    write(&bench.file(), 0, 10).unwrap();
    assert_eq!(bench.pool.charge(&name("v")).unwrap(), None);
    bench.pool.limit(&name("v"), None).unwrap();
    assert_eq!(bench.pool.charge(&name("v")).unwrap(), None);
}

/// What is there when counting begins is counted, and what the kernel has lost count of once more;
/// meanwhile limits stay as they are.
#[test]
fn groups_are_counted_whole_and_again() {
    let bench = bench();
    write(&bench.file(), 0, 40).unwrap();
    quota::count_groups(&bench.plan.mount_point).unwrap();
    bench.pool.limit(&name("v"), Some(at(100 * MIB))).unwrap();
    bench.pool.prepare_limits().unwrap();
    let charge = bench.charge();
    assert_eq!(charge.count, Count::Whole);
    assert!((40 * MIB..44 * MIB).contains(&charge.charged), "{charge:?}");
    write(&bench.file(), 0, 80).unwrap();
    // More than a leaf of the tree, or there is nothing to lose count of.
    for number in 0..2000 {
        File::create(bench.file().with_file_name(number.to_string())).unwrap();
    }
    bench.snapshot("s");
    let before = bench.charge();
    quota::keep_count_below(&bench.pool.limits.device, 0).unwrap();
    bench.pool.delete(&name("s")).unwrap();
    let begun = Instant::now();
    while bench.counted() == Some(Count::Whole) {
        assert!(begun.elapsed() < Duration::from_mins(1), "the kernel has not lost count");
        std::thread::sleep(Duration::from_millis(20));
    }
    let late = bench.pool.limits.prepare_by(Instant::now()).unwrap_err();
    assert!(matches!(late, PoolError::NoLimits(why) if why.contains("still counting")));
    bench.pool.limits.lower().unwrap();
    assert!(bench.charge().limit >= before.limit);
    bench.snapshot("t");
    while bench.counted() != Some(Count::Whole) {
        assert!(begun.elapsed() < Duration::from_mins(1), "it is not counted again");
        quota::count_again(&bench.plan.mount_point).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    write(&bench.file(), 0, 80).unwrap();
    bench.pool.limits.lower().unwrap();
    let after = bench.charge();
    assert!(after.charged < 100 * MIB && after.limit < Some(220 * MIB), "{after:?}");
    assert!(write(&bench.file(), 80, 150).is_err());
}

/// What a share has grown by since its last snapshot is its own.
#[test]
fn a_start_takes_nothing_more_for_what_snapshots_hold() {
    for mut bench in benches() {
        bench.pool.limit(&name("v"), Some(at(100 * MIB))).unwrap();
        write(&bench.file(), 0, 50).unwrap();
        bench.snapshot("s");
        let limit = bench.charge().limit.unwrap();
        assert!(limit < 160 * MIB, "{:?}", bench.charge());
        write(&bench.file(), 50, 70).unwrap();
        for _ in 0..2 {
            bench = bench.restarted(100 * MIB);
            assert_eq!(bench.charge().limit, Some(limit));
        }
        bench.pool.limit(&name("v"), Some(at(130 * MIB))).unwrap();
        assert_eq!(bench.charge().limit, Some(limit + 30 * MIB));
        // Where the size is not told yet, too.
        let Bench { pool, plan, dir } = bench;
        drop(pool);
        mount::detach(&plan.mount_point).unwrap();
        bench = Bench { pool: ImagePool::open(&plan).unwrap(), plan, dir };
        bench.snapshot("t");
        let Charge { charged, limit, .. } = bench.charge();
        assert!(limit.unwrap() <= charged + 131 * MIB, "{limit:?}, {charged}");
    }
}

#[test]
fn a_clone_has_no_limit_but_its_own() {
    for bench in benches() {
        bench.pool.limit(&name("v"), Some(at(100 * MIB))).unwrap();
        write(&bench.file(), 0, 10).unwrap();
        let pace = Pace::until(Instant::now() + Duration::from_mins(1));
        bench.pool.snapshot(&name("v"), &name("c"), Captured::Writable, &pace).unwrap();
        assert_eq!(bench.pool.charge(&name("c")).unwrap().unwrap().limit, None);
    }
}

/// What it would go by is of before the snapshot.
#[test]
fn a_limit_waits_for_a_snapshot_that_is_being_made() {
    let bench = bench();
    let (pool, limit) = (&bench.pool, Some(at(100 * MIB)));
    pool.limit(&name("v"), limit).unwrap();
    let capturing = pool.limits.capture();
    thread::scope(|scope| {
        let setting = scope.spawn(|| pool.limit(&name("v"), limit).unwrap());
        thread::sleep(Duration::from_millis(200));
        assert!(!setting.is_finished());
        drop(capturing);
        setting.join().unwrap();
    });
}
