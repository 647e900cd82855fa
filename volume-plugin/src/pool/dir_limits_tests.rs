//! Limits in a directory, on a real XFS of this kernel.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use super::*;
use crate::pool::{DirPool, Directory, Overwrite, Owner, Pool};
use crate::scratch::Scratch;
use crate::sys::{loopdev, namespace};

const MIB: u64 = 1 << 20;

/// A pool for the calling thread alone, with a share `v` of 128 MiB, of which 8 are held back.
struct Bench {
    pool: DirPool,
    dir: Scratch,
}

fn name() -> ShareName {
    "v".parse().unwrap()
}

fn at(size: u64, held_back: u64) -> Limit {
    Limit { size: size * MIB, held_back: held_back * MIB, uncounted: 0 }
}

fn bench() -> Bench {
    namespace::isolate();
    let dir = Scratch::new();
    let pool = DirPool::open(dir.path().join("pool")).unwrap();
    let owner = Owner { uid: 999, gid: 999, mode: 0o700 };
    let wal = Directory { path: "wal".to_owned(), owner, overwrite: Overwrite::InPlace };
    pool.create(&name(), &[wal], Some(at(128, 8))).unwrap();
    Bench { pool, dir }
}

impl Bench {
    fn wal(&self) -> PathBuf {
        self.pool.locate(&name()).unwrap().join("wal")
    }

    fn beside(&self) -> PathBuf {
        self.pool.aside(&name()).unwrap().unwrap().beside
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("pool/.images/v.img")
    }

    /// The process ends, and with it what it has mounted; another begins.
    fn restarted(self) -> Self {
        let Self { dir, pool } = self;
        drop(pool);
        for point in ["pool/v", "pool/.mounts/v"] {
            mount::detach(&dir.path().join(point)).unwrap();
        }
        let pool = DirPool::open(dir.path().join("pool")).unwrap();
        Self { pool, dir }
    }

    /// Fills what can be filled and tells how much that is, in MiB.
    fn filled(&self) -> u64 {
        let mut file =
            File::options().create(true).append(true).open(self.wal().join("file")).unwrap();
        while file.write_all(&vec![7; 1 << 20]).and_then(|()| file.sync_data()).is_ok() {}
        file.metadata().unwrap().len() / MIB
    }

    fn devices(&self) -> usize {
        loopdev::attached_to(&File::open(self.image()).unwrap()).unwrap().len()
    }
}

#[test]
fn a_share_holds_what_it_may_and_more_once_that_is_raised() {
    let bench = bench();
    let limit = |size, held_back| bench.pool.limit(&name(), Some(at(size, held_back)));
    let is = |found: u64, wanted: u64| {
        assert!((wanted - 6..=wanted + 6).contains(&found), "{found}, not {wanted} MiB");
    };
    is(bench.filled(), 120);
    let charge = bench.pool.charge(&name()).unwrap().unwrap();
    is(charge.limit.unwrap() / MIB, 120);
    assert!(charge.limit.unwrap() - charge.charged < MIB, "{charge:?}");
    // What is held back is lent.
    limit(128, 0).unwrap();
    is(bench.filled(), 128);
    // There is nothing to hold back.
    let error = limit(128, 16).unwrap_err();
    assert!(matches!(&error, PoolError::System(error) if error.is_full()), "{error}");
    for size in [200, 1024] {
        limit(size, 16).unwrap();
        is(bench.filled(), size - 16);
    }
    // All of it is the share's, whatever else the disk is filled with.
    assert!(file::reserved(&File::open(bench.image()).unwrap()).unwrap() >= 1024 * MIB);
    let bench = bench.restarted();
    let file = bench.wal().join("file");
    is(fs::metadata(&file).unwrap().len() / MIB, 1008);
    assert_eq!(fs::metadata(bench.wal()).unwrap().uid(), 999);
    // Lowered to what there is.
    File::options().write(true).open(&file).unwrap().set_len(64 * MIB).unwrap();
    let limit = |size, held_back| bench.pool.limit(&name(), Some(at(size, held_back)));
    limit(128, 8).unwrap();
    // What was lent is taken back, out of the little that is free beside all that is kept.
    limit(128, 0).unwrap();
    limit(128, 8).unwrap();
    limit(256, 0).unwrap();
    limit(128, 8).unwrap();
    is(bench.filled(), 120);
}

#[test]
fn a_limit_is_from_creation_on_and_no_more_than_the_host_has() {
    let bench = bench();
    assert!(matches!(bench.pool.limit(&name(), None), Err(PoolError::NoLimits(_))));
    let other = "other".parse().unwrap();
    bench.pool.create(&other, &[], None).unwrap();
    assert!(matches!(bench.pool.limit(&other, Some(at(128, 0))), Err(PoolError::NoLimits(_))));
    bench.pool.limit(&other, None).unwrap();
    assert!(bench.pool.charge(&other).unwrap().is_none());
    let length = fs::metadata(bench.image()).unwrap().len();
    // No full disk, for which others would have to go.
    let error = bench.pool.limit(&name(), Some(at(1 << 30, 0))).unwrap_err();
    assert!(matches!(&error, PoolError::NoRoom { .. }), "{error}");
    assert_eq!(fs::metadata(bench.image()).unwrap().len(), length);
}

#[test]
fn an_image_that_a_container_keeps_alive_is_the_same_again() {
    let bench = bench();
    let elsewhere = bench.dir.path().join("container");
    durable::create_dir(&elsewhere, 0o700).unwrap();
    mount::bind(&bench.wal(), &elsewhere).unwrap();
    durable::write(&bench.beside().join("link"), b"x").unwrap();
    let before = fs::metadata(&elsewhere).unwrap();
    let bench = bench.restarted();
    let after = fs::metadata(bench.wal()).unwrap();
    assert_eq!((before.dev(), before.ino()), (after.dev(), after.ino()));
    assert_eq!(bench.devices(), 1);
    // What nobody will come back for is gone.
    assert!(!bench.beside().join("link").exists());
    // It grows under whoever has it.
    bench.pool.limit(&name(), Some(at(512, 0))).unwrap();
    assert!(file::space(&elsewhere).unwrap().total > 512 * MIB);
    mount::detach(&elsewhere).unwrap();
}

#[test]
fn what_a_killed_process_left_is_made_good_or_deleted() {
    let bench = bench();
    // Killed after the file was made longer.
    File::options().write(true).open(bench.image()).unwrap().set_len(640 * MIB).unwrap();
    let bench = bench.restarted();
    bench.pool.limit(&name(), Some(at(512, 0))).unwrap();
    assert!(file::space(&bench.wal()).unwrap().total > 512 * MIB);
    // Killed while another was made.
    let draft = bench.dir.path().join("pool/.images/other.new");
    let other: ShareName = "other".parse().unwrap();
    durable::create_dir(&bench.dir.path().join("pool/other"), 0o700).unwrap();
    durable::write(&draft, b"half").unwrap();
    bench.pool.delete(&other).unwrap();
    assert!(!draft.exists());
    // Killed while one was deleted: the image is there, nobody has it, and its place is gone.
    let image = bench.image();
    let bench = bench.restarted();
    fs::remove_dir(bench.dir.path().join("pool/v")).unwrap();
    assert!(matches!(bench.pool.locate(&name()), Err(PoolError::Missing(_))));
    bench.pool.delete(&name()).unwrap();
    assert!(!image.exists());
}

#[test]
fn files_of_a_share_get_second_names_beside_it() {
    let bench = bench();
    durable::write(&bench.wal().join("file"), b"x").unwrap();
    let Aside { share, beside } = bench.pool.aside(&name()).unwrap().unwrap();
    fs::hard_link(share.join("wal/file"), beside.join("second")).unwrap();
    assert_eq!(fs::metadata(bench.wal().join("file")).unwrap().nlink(), 2);
}

#[test]
fn nothing_is_left_of_a_deleted_share() {
    let bench = bench();
    let file = File::open(bench.image()).unwrap();
    bench.filled();
    bench.pool.delete(&name()).unwrap();
    assert!(!bench.image().exists() && !bench.dir.path().join("pool/.mounts/v").exists());
    // The kernel detaches a moment after the last close.
    for _ in 0..100 {
        if loopdev::attached_to(&file).unwrap().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the device is still attached");
}

#[test]
fn a_damaged_image_is_an_error_and_kept() {
    let bench = bench();
    let image = bench.image();
    let bench = bench.restarted();
    let mut file = File::options().write(true).open(&image).unwrap();
    file.write_all(&vec![0; 1 << 20]).unwrap();
    file.sync_all().unwrap();
    let error = bench.pool.locate(&name()).unwrap_err();
    assert!(error.to_string().contains("mount"), "{error}");
    assert!(image.exists());
}

/// By whoever trims all file systems of the host.
#[test]
fn what_was_reserved_and_is_given_back_is_reserved_again() {
    let bench = bench();
    let reserved = || file::reserved(&File::open(bench.image()).unwrap()).unwrap();
    let before = reserved();
    let place = bench.pool.locate(&name()).unwrap();
    // What was freed a moment ago may not be given back yet.
    let begun = Instant::now();
    while reserved() >= before {
        assert!(begun.elapsed() < Duration::from_secs(30), "{} of {before}", reserved());
        tool::run("fstrim", &[&place], Duration::from_mins(1)).unwrap();
    }
    bench.pool.tend().unwrap();
    assert!(reserved() >= before, "{} of {before}", reserved());
}
