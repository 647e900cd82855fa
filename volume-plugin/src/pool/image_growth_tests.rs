//! Growing and shrinking on a real file system, interrupted between any two steps.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use plugin_sdk::durable;

use super::*;
use crate::name::ShareName;
use crate::pool::{ImagePool, Pool};
use crate::scratch::Scratch;
use crate::sys::{file, loopdev, mount, namespace, tool};

const MIB: u64 = 1 << 20;

/// A pool for the calling thread alone: what it mounts ends with that.
struct Bench {
    plan: ImagePlan,
    pool: ImagePool,
    dir: Scratch,
}

fn bench(size: &str, limit: &str) -> Bench {
    namespace::isolate();
    let dir = Scratch::new();
    let bounds = Bounds { size: size.parse().unwrap(), limit: limit.parse().unwrap() };
    let image = dir.path().join("pool.img");
    let plan = ImagePlan { image, mount_point: dir.path().join("mounted"), bounds };
    Bench { pool: ImagePool::open(&plan).unwrap(), plan, dir }
}

fn share() -> ShareName {
    "v".parse().unwrap()
}

impl Bench {
    fn growth(&self) -> &Growth {
        &self.pool.growth
    }

    fn image(&self) -> File {
        self.growth().open().unwrap()
    }

    fn total(&self) -> u64 {
        btrfs::size(&self.plan.mount_point).unwrap()
    }

    /// All three sizes are `size`, all of it reserved.
    fn assert_is(&self, size: u64) {
        let image = self.image();
        let sizes = self.growth().sizes(&image).unwrap();
        assert_eq!((self.total(), sizes), (size, (size, size)));
        assert!(file::reserved(&image).unwrap() >= size, "{:?}", image.metadata().unwrap());
    }

    fn data(&self) -> PathBuf {
        self.pool.create(&share(), &[], None).unwrap();
        self.pool.locate(&share()).unwrap()
    }

    /// The process is killed and starts again; `after` what becomes of the disk meanwhile.
    fn restarted(self, after: impl FnOnce(&Path)) -> Self {
        let Self { plan, pool, dir } = self;
        drop(pool);
        mount::detach(&plan.mount_point).unwrap();
        after(&plan.image);
        Self { pool: ImagePool::open(&plan).unwrap(), plan, dir }
    }
}

fn write(path: &Path, megabytes: u64) {
    let mut file = File::create(path).unwrap();
    for _ in 0..megabytes {
        file.write_all(&vec![7; 1 << 20]).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn a_pool_grows_under_a_writer_and_stays_reserved() {
    let bench = bench("256M", "1G");
    let data = bench.data();
    assert!(!bench.pool.tend().unwrap());
    bench.assert_is(256 * MIB);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // More than was there, and some of it deleted on the way.
            for number in 0..12 {
                write(&data.join(number.to_string()), 48);
                if number % 3 == 0 {
                    fs::remove_file(data.join(number.to_string())).unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            bench.pool.tend().unwrap();
            let image = bench.image();
            let (reserved, length) = (file::reserved(&image), image.metadata().unwrap().len());
            assert!(reserved.unwrap() >= length);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    let grown = bench.total();
    assert!(grown > 512 * MIB && grown <= 1024 * MIB, "{grown}");
    bench.assert_is(grown);
    let described = bench.pool.describe().unwrap();
    assert_eq!((described.space.total, described.growable), (grown, 1024 * MIB - grown));
}

#[test]
fn it_stops_at_its_limit() {
    let bench = bench("256M", "320M");
    write(&bench.data().join("file"), 150);
    assert!(bench.pool.tend().unwrap());
    write(&bench.pool.locate(&share()).unwrap().join("more"), 50);
    assert!(!bench.pool.tend().unwrap());
    bench.assert_is(320 * MIB);
}

#[test]
fn what_is_free_is_given_back_and_what_is_written_stays() {
    let bench = bench("256M", "2G");
    let data = bench.data();
    for round in 0..2 {
        write(&data.join("kept"), 20);
        write(&data.join("large"), 120);
        assert!(bench.pool.tend().unwrap(), "round {round}");
        write(&data.join("larger"), 250);
        assert!(bench.pool.tend().unwrap(), "round {round}");
        let grown = bench.total();
        bench.assert_is(grown);
        // Lies at the end.
        write(&data.join("last"), 20);
        for file in ["large", "larger"] {
            fs::remove_file(data.join(file)).unwrap();
        }
        btrfs::commit(&data).unwrap();
        let given = bench.pool.give_back().unwrap();
        assert!(given > 400 * MIB, "{given} of {grown}");
        bench.assert_is(grown - given);
        for file in ["kept", "last"] {
            assert_eq!(fs::read(data.join(file)).unwrap(), vec![7; 20 << 20]);
        }
        assert!(!bench.pool.tend().unwrap());
        assert_eq!(bench.pool.give_back().unwrap(), 0);
    }
}

/// Killed before, between and after the steps of growing; the file system is in use on or not.
#[test]
fn a_growth_that_was_interrupted_is_undone() {
    let mut bench = bench("256M", "1G");
    let file = bench.data().join("file");
    write(&file, 10);
    let to = 512 * MIB;
    for container in [false, true] {
        for step in 0..4 {
            let elsewhere = bench.dir.path().join("container");
            durable::create_dir(&elsewhere, 0o700).unwrap();
            if container {
                mount::bind(&bench.plan.mount_point, &elsewhere).unwrap();
            }
            let image = bench.image();
            if step >= 1 {
                image.set_len(to).unwrap();
            }
            if step >= 2 {
                reserve(&image, 256 * MIB..to).unwrap();
            }
            if step >= 3 {
                bench.growth().device.follow_file().unwrap();
            }
            drop(image);
            bench = bench.restarted(|_| ());
            bench.assert_is(256 * MIB);
            // A second start changes nothing.
            bench = bench.restarted(|_| ());
            bench.assert_is(256 * MIB);
            mount::detach(&elsewhere).unwrap();
        }
    }
    assert_eq!(fs::read(bench.plan.mount_point.join("v/file")).unwrap(), vec![7; 10 << 20]);
    bench.growth().grow(256 * MIB, to).unwrap();
    bench = bench.restarted(|_| ());
    bench.assert_is(to);
}

#[test]
fn a_shrinking_that_was_interrupted_is_finished() {
    let mut bench = bench("256M", "1G");
    for step in 0..3 {
        bench.growth().grow(256 * MIB, 512 * MIB).unwrap();
        btrfs::resize(&bench.plan.mount_point, 256 * MIB).unwrap();
        if step >= 1 {
            bench.image().set_len(256 * MIB).unwrap();
        }
        if step >= 2 {
            bench.growth().device.follow_file().unwrap();
        }
        bench = bench.restarted(|_| ());
        bench.assert_is(256 * MIB);
    }
}

#[test]
fn holes_are_reserved_again() {
    let bench = bench("256M", "256M");
    write(&bench.data().join("file"), 10);
    let bench = bench.restarted(|image| {
        let copy = image.with_extension("copy");
        tool::run(
            "cp",
            &[Path::new("--sparse=always"), image, &copy],
            std::time::Duration::from_mins(1),
        )
        .unwrap();
        assert!(fs::metadata(&copy).unwrap().blocks() * 512 < 200 * MIB);
        durable::rename(&copy, image).unwrap();
    });
    bench.assert_is(256 * MIB);
    // By whoever trims all file systems of the host.
    tool::run("fstrim", &[&bench.plan.mount_point], std::time::Duration::from_mins(1)).unwrap();
    assert!(file::reserved(&bench.image()).unwrap() < 256 * MIB);
    bench.pool.tend().unwrap();
    bench.assert_is(256 * MIB);
    assert_eq!(fs::read(bench.plan.mount_point.join("v/file")).unwrap(), vec![7; 10 << 20]);
}

/// The host's disk is full: nothing has changed, and is not lost.
/// A host whose disk has 700 MiB, for as long as the device is kept.
fn small_host(dir: &Scratch) -> (PathBuf, loopdev::LoopDevice) {
    let (host, disk) = (dir.path().join("host"), dir.path().join("disk"));
    let file = File::options().read(true).write(true).create_new(true).open(&disk).unwrap();
    file.set_len(700 * MIB).unwrap();
    tool::run("mkfs.btrfs", &[Path::new("-q"), &disk], std::time::Duration::from_mins(1)).unwrap();
    let device = loopdev::attach(&file).unwrap();
    durable::create_dir(&host, 0o700).unwrap();
    mount::btrfs(&device.node(), &host).unwrap();
    (host, device)
}

#[test]
fn a_growth_that_the_host_has_no_room_for_is_undone() {
    namespace::isolate();
    let dir = Scratch::new();
    let (host, _device) = small_host(&dir);
    let bounds = Bounds { size: "256M".parse().unwrap(), limit: "none".parse().unwrap() };
    let (image, mount_point) = (host.join("pool.img"), dir.path().join("mounted"));
    let plan = ImagePlan { image, mount_point, bounds };
    // Made as if the disk had been larger: on one this small nothing is.
    super::super::image::make_image(&plan.image, 256 * MIB).unwrap();
    let bench = Bench { pool: ImagePool::open(&plan).unwrap(), plan, dir };
    write(&bench.data().join("file"), 10);
    let error = bench.growth().grow(256 * MIB, 1024 * MIB).unwrap_err();
    assert!(error.is_full(), "{error}");
    bench.assert_is(256 * MIB);
    // By itself it does not even try.
    write(&bench.pool.locate(&share()).unwrap().join("more"), 150);
    assert!(!bench.pool.tend().unwrap());
    assert_eq!(bench.pool.describe().unwrap().growable, 0);
    bench.assert_is(256 * MIB);
}

/// By their size btrfs sets space aside for each page that a server writes.
#[test]
fn an_image_has_the_smallest_nodes() {
    let dir = Scratch::new();
    let image = dir.path().join("pool.img");
    super::super::image::make_image(&image, 256 * MIB).unwrap();
    // The first super block is at 64 KiB; in it, 0x94 behind its begin, stands the size.
    let mut size = [0; 4];
    File::open(&image).unwrap().read_exact_at(&mut size, (64 << 10) + 0x94).unwrap();
    assert_eq!(i64::from(u32::from_le_bytes(size)), file::page_size().unwrap());
}

/// No start is needed for what a failing disk has left half done.
#[test]
fn what_is_left_beyond_the_file_system_is_cut_by_the_next_look() {
    let bench = bench("256M", "1G");
    for step in 0..2 {
        bench.growth().grow(256 * MIB, 512 * MIB).unwrap();
        btrfs::resize(&bench.plan.mount_point, 256 * MIB).unwrap();
        if step == 1 {
            bench.image().set_len(256 * MIB).unwrap();
        }
        assert!(!bench.pool.tend().unwrap());
        bench.assert_is(256 * MIB);
    }
}

/// Killed while an image is made: what was reserved for it is not missed when the next is measured.
#[test]
fn a_draft_that_was_left_is_gone_before_the_host_is_measured() {
    namespace::isolate();
    let dir = Scratch::new();
    let (host, _device) = small_host(&dir);
    let bounds = Bounds { size: "256M".parse().unwrap(), limit: "none".parse().unwrap() };
    let (image, mount_point) = (host.join("pool.img"), dir.path().join("mounted"));
    durable::write(&image.with_extension("new"), b"half").unwrap();
    let error = ImagePool::open(&ImagePlan { image, mount_point, bounds }).unwrap_err();
    assert!(error.to_string().contains("no room for the pool"), "{error}");
    assert_eq!(fs::read_dir(&host).unwrap().count(), 0);
}
