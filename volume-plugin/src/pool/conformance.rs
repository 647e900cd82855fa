//! What every pool must do: one suite over all of them. The image pool needs loop devices,
//! btrfs and the right to mount; without them its tests fail.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use plugin_sdk::durable;

use super::{
    Bounds, Capture, Captured, DirPool, Directory, ImagePlan, ImagePool, Limit, Overwrite, Owner,
    Pace, Pool, PoolError,
};
use crate::name::ShareName;
use crate::scratch::Scratch;
use crate::sys::beneath::Dir;
use crate::sys::{btrfs, loopdev, mount, namespace};

/// A pool to try and where it lives.
struct Bench {
    pool: Box<dyn Pool>,
    copies_on_write: bool,
    /// Of every share that is created.
    limit: Option<Limit>,
    _dir: Scratch,
}

impl Bench {
    fn create(&self, name: &ShareName, directories: &[Directory]) -> Result<(), PoolError> {
        self.pool.create(name, directories, self.limit)
    }
}

fn dir_pool() -> Bench {
    let dir = Scratch::new();
    let pool = DirPool::open(dir.path().join("pool")).unwrap();
    Bench { pool: Box::new(pool), copies_on_write: false, limit: None, _dir: dir }
}

/// Each share in an image of its own.
fn limited_dir_pool() -> Bench {
    namespace::isolate();
    let limit = Some(Limit { size: 512 << 20, held_back: 32 << 20, uncounted: 0 });
    Bench { limit, ..dir_pool() }
}

/// For the calling test alone: what it mounts ends with its thread.
fn plan(dir: &Scratch) -> ImagePlan {
    namespace::isolate();
    ImagePlan {
        image: dir.path().join("pools/test.img"),
        mount_point: dir.path().join("mounted"),
        bounds: Bounds { size: "256M".parse().unwrap(), limit: "1G".parse().unwrap() },
    }
}

fn image_pool() -> Bench {
    let dir = Scratch::new();
    let plan = plan(&dir);
    let pool = ImagePool::open(&plan).unwrap();
    Bench { pool: Box::new(pool), copies_on_write: true, limit: None, _dir: dir }
}

fn name(text: &str) -> ShareName {
    text.parse().unwrap()
}

fn directory(path: &str, uid: u32, mode: u32, overwrite: Overwrite) -> Directory {
    Directory { path: path.to_owned(), owner: Owner { uid, gid: uid + 1, mode }, overwrite }
}

fn some() -> Vec<Directory> {
    vec![
        directory("data", 999, 0o700, Overwrite::InPlace),
        directory("tablespaces", 0, 0o755, Overwrite::Copy),
        directory("tablespaces/a", 70, 0o750, Overwrite::InPlace),
    ]
}

fn directories_have_owner_mode_and_flags(bench: &Bench) {
    bench.create(&name("v"), &some()).unwrap();
    let share = bench.pool.locate(&name("v")).unwrap();
    let root = fs::metadata(&share).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (0, 0, 0o755));
    for wanted in some() {
        let path = share.join(&wanted.path);
        let found = fs::metadata(&path).unwrap();
        let owner = Owner { uid: found.uid(), gid: found.gid(), mode: found.mode() & 0o7777 };
        assert_eq!(owner, wanted.owner, "{}", wanted.path);
        if bench.copies_on_write {
            assert_eq!(btrfs::is_nodatacow(&path), wanted.overwrite == Overwrite::InPlace);
        }
    }
}

fn a_second_create_is_refused_and_harms_nothing(bench: &Bench) {
    bench.create(&name("v"), &some()).unwrap();
    let file = bench.pool.locate(&name("v")).unwrap().join("data/file");
    durable::write(&file, b"precious").unwrap();
    let error = bench.create(&name("v"), &some()).unwrap_err();
    assert!(matches!(error, PoolError::Exists(_)), "{error}");
    assert_eq!(fs::read(file).unwrap(), b"precious");
}

fn what_is_missing_is_told_and_deleting_it_is_success(bench: &Bench) {
    let error = bench.pool.locate(&name("v")).unwrap_err();
    assert!(matches!(error, PoolError::Missing(_)), "{error}");
    bench.pool.delete(&name("v")).unwrap();
    bench.create(&name("v"), &[]).unwrap();
    bench.pool.delete(&name("v")).unwrap();
    assert!(bench.pool.locate(&name("v")).is_err());
    bench.pool.delete(&name("v")).unwrap();
}

fn a_name_can_be_used_again(bench: &Bench) {
    for _ in 0..3 {
        bench.create(&name("v"), &some()).unwrap();
        let data = bench.pool.locate(&name("v")).unwrap().join("data");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
        durable::write(&data.join("file"), b"x").unwrap();
        bench.pool.delete(&name("v")).unwrap();
    }
}

fn part_of_a_share_is_deleted(bench: &Bench) {
    // The second directory lacks its parent, as if the process had been killed there.
    let broken = [some().remove(0), directory("no/parent", 0, 0o700, Overwrite::Copy)];
    let error = bench.create(&name("v"), &broken).unwrap_err();
    assert!(!matches!(error, PoolError::Exists(_)), "{error}");
    bench.pool.delete(&name("v")).unwrap();
    bench.create(&name("v"), &some()).unwrap();
}

fn hostile_content_is_deleted_and_not_followed(bench: &Bench) {
    let outside = Scratch::new();
    durable::write(&outside.path().join("file"), b"precious").unwrap();
    bench.create(&name("v"), &some()).unwrap();
    let data = bench.pool.locate(&name("v")).unwrap().join("data");
    symlink(outside.path(), data.join("link")).unwrap();
    durable::create_dir(&data.join("a/b/c"), 0o000).unwrap();
    if bench.copies_on_write {
        // Whoever owns a directory may make subvolumes in it.
        btrfs::create_subvolume(&data, "nested").unwrap();
        btrfs::create_subvolume(&data.join("nested"), "deeper").unwrap();
        durable::write(&data.join("nested/deeper/file"), b"x").unwrap();
        btrfs::set_read_only(&data.join("nested/deeper")).unwrap();
        btrfs::set_read_only(&data.join("nested")).unwrap();
        let copied = bench.pool.snapshot(&name("v"), &name("w"), Captured::ReadOnly, &later());
        assert!(copied.unwrap_err().to_string().contains("a btrfs subvolume `nested` in v"));
        assert!(bench.pool.locate(&name("w")).is_err());
    }
    bench.pool.delete(&name("v")).unwrap();
    assert!(bench.pool.locate(&name("v")).is_err());
    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"precious");
}

/// Whoever may write in a volume may nest directories without end.
fn a_deep_tree_is_deleted(bench: &Bench) {
    bench.create(&name("v"), &some()).unwrap();
    let data = bench.pool.locate(&name("v")).unwrap().join("data");
    if bench.copies_on_write {
        btrfs::create_subvolume(&data, "nested").unwrap();
        // Else the share would go in one step. Those inside are as deep, and have directories.
        let mut path = data.join("nested");
        for _ in 0..100 {
            durable::create_dir(&path.join("d"), 0o700).unwrap();
            btrfs::create_subvolume(&path.join("d"), "s").unwrap();
            path.push("d/s");
        }
    }
    durable::write(&data.join("../lifted-1"), b"in the way").unwrap();
    durable::create_dir(&data.join("../lifted-2/x"), 0o700).unwrap();
    let mut dir = Dir::open(&data).unwrap();
    for _ in 0..20_000 {
        dir = dir.make_dir("d").unwrap();
    }
    bench.pool.delete(&name("v")).unwrap();
    assert!(bench.pool.locate(&name("v")).is_err());
}

fn odd_names_are_apart(bench: &Bench) {
    let long = "x".repeat(128);
    let names = ["a", "a.", "a..b", "a.new", "A", "0", &long];
    for text in names {
        bench.create(&name(text), &some()).unwrap();
        let data = bench.pool.locate(&name(text)).unwrap().join("data/name");
        durable::write(&data, text.as_bytes()).unwrap();
    }
    for text in names {
        let data = bench.pool.locate(&name(text)).unwrap().join("data/name");
        assert_eq!(fs::read(data).unwrap(), text.as_bytes());
        bench.pool.delete(&name(text)).unwrap();
    }
}

fn volumes_are_made_side_by_side(bench: &Bench) {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let volume = name(&format!("v{number}"));
                bench.create(&volume, &some()).unwrap();
                bench.pool.locate(&volume).unwrap();
                bench.pool.delete(&volume).unwrap();
            });
        }
    });
}

fn later() -> Pace {
    Pace::until(Instant::now() + Duration::from_mins(1))
}

fn a_snapshot_has_all_and_lives_on_its_own(bench: &Bench) {
    let pool = &bench.pool;
    bench.create(&name("v"), &some()).unwrap();
    let at = |share: &str, path: &str| pool.locate(&name(share)).unwrap().join(path);
    durable::write(&at("v", "data/file"), b"then").unwrap();
    for (new, kind) in [("read", Captured::ReadOnly), ("written", Captured::Writable)] {
        pool.snapshot(&name("v"), &name(new), kind, &later()).unwrap();
        let error = pool.snapshot(&name("v"), &name(new), kind, &later()).unwrap_err();
        assert!(matches!(error, PoolError::Exists(_)), "{error}");
    }
    durable::write(&at("v", "data/file"), b"now").unwrap();
    durable::write(&at("written", "data/file"), b"mine").unwrap();
    let read = |share: &str| fs::read(at(share, "data/file")).unwrap();
    assert_eq!(
        (&*read("v"), &*read("read"), &*read("written")),
        (&b"now"[..], &b"then"[..], &b"mine"[..])
    );
    if pool.capture(&name("v")) == Capture::AtOnce {
        assert!(durable::write(&at("read", "data/file"), b"x").is_err());
        assert!(btrfs::is_nodatacow(&at("written", "data")));
    }
    let owner = |share: &str| fs::metadata(at(share, "tablespaces/a")).unwrap().uid();
    assert_eq!((owner("read"), owner("written")), (70, 70));
    // A clone of a clone, and each of them goes alone.
    pool.snapshot(&name("read"), &name("second"), Captured::Writable, &later()).unwrap();
    for gone in ["v", "read", "written"] {
        pool.delete(&name(gone)).unwrap();
    }
    assert_eq!(read("second"), b"then");
    pool.delete(&name("second")).unwrap();
}

fn a_snapshot_of_nothing_is_told(bench: &Bench) {
    let error =
        bench.pool.snapshot(&name("v"), &name("s"), Captured::ReadOnly, &later()).unwrap_err();
    assert!(matches!(error, PoolError::Missing(_)), "{error}");
    assert!(bench.pool.locate(&name("s")).is_err());
}

macro_rules! suite {
    ($module:ident, $bench:ident) => {
        mod $module {
            suite!(@tests $bench:
                directories_have_owner_mode_and_flags
                a_second_create_is_refused_and_harms_nothing
                what_is_missing_is_told_and_deleting_it_is_success
                a_name_can_be_used_again
                part_of_a_share_is_deleted
                hostile_content_is_deleted_and_not_followed
                a_deep_tree_is_deleted
                odd_names_are_apart
                volumes_are_made_side_by_side
                a_snapshot_has_all_and_lives_on_its_own
                a_snapshot_of_nothing_is_told
            );
        }
    };
    (@tests $bench:ident: $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                super::$test(&super::$bench());
            }
        )*
    };
}

suite!(dir, dir_pool);
suite!(limited_dir, limited_dir_pool);
suite!(image, image_pool);

#[test]
fn an_image_reopened_has_its_volumes_and_its_reservation() {
    let dir = Scratch::new();
    let plan = plan(&dir);
    let allocated = || fs::metadata(&plan.image).unwrap().blocks() * 512;
    for round in 0..3 {
        let pool = ImagePool::open(&plan).unwrap();
        if round == 0 {
            pool.create(&name("v"), &some(), None).unwrap();
        }
        let file = pool.locate(&name("v")).unwrap().join("data/file");
        durable::write(&file, &vec![1; 32 << 20]).unwrap();
        durable::remove(&file).unwrap();
        mount::detach(&plan.mount_point).unwrap();
        assert!(allocated() >= 256 << 20, "round {round}: {}", allocated());
    }
}

/// Opens it once nobody has it: another test's process has its lock too between fork and exec.
fn open_again(plan: &ImagePlan) -> ImagePool {
    let begun = Instant::now();
    loop {
        match ImagePool::open(plan) {
            Err(PoolError::Taken(_)) if begun.elapsed() < Duration::from_secs(10) => {
                thread::sleep(Duration::from_millis(20));
            }
            opened => return opened.unwrap(),
        }
    }
}

#[test]
fn a_pool_that_a_container_keeps_alive_is_the_same_again() {
    let dir = Scratch::new();
    let plan = plan(&dir);
    let elsewhere = dir.path().join("container");
    durable::create_dir(&elsewhere, 0o700).unwrap();
    let pool = ImagePool::open(&plan).unwrap();
    pool.create(&name("v"), &some(), None).unwrap();
    let share = pool.locate(&name("v")).unwrap();
    mount::bind(&share, &elsewhere).unwrap();
    let before = fs::metadata(&share).unwrap();
    // The plugin dies: its own mount and its handles go, the container's bind stays.
    drop(pool);
    mount::detach(&plan.mount_point).unwrap();
    let pool = open_again(&plan);
    let after = fs::metadata(pool.locate(&name("v")).unwrap()).unwrap();
    assert_eq!((before.dev(), before.ino()), (after.dev(), after.ino()));
    mount::detach(&elsewhere).unwrap();
    mount::detach(&plan.mount_point).unwrap();
}

#[test]
fn an_image_that_another_process_has_is_refused() {
    let dir = Scratch::new();
    let plan = plan(&dir);
    let pool = ImagePool::open(&plan).unwrap();
    let error = ImagePool::open(&plan).unwrap_err();
    assert!(matches!(error, PoolError::Taken(_)), "{error}");
    drop(pool);
    mount::detach(&plan.mount_point).unwrap();
}

#[test]
fn half_an_image_is_made_again() {
    let dir = Scratch::new();
    let plan = plan(&dir);
    durable::create_dir(plan.image.parent().unwrap(), 0o700).unwrap();
    durable::write(&plan.image.with_extension("new"), b"half").unwrap();
    drop(ImagePool::open(&plan).unwrap());
    mount::detach(&plan.mount_point).unwrap();
    assert!(!plan.image.with_extension("new").exists());
}

#[test]
fn a_broken_image_is_an_error_and_is_kept() {
    let dir = Scratch::new();
    let plan = plan(&dir);
    durable::create_dir(plan.image.parent().unwrap(), 0o700).unwrap();
    durable::write(&plan.image, &vec![0; 1 << 20]).unwrap();
    let error = ImagePool::open(&plan).unwrap_err();
    assert!(matches!(error, PoolError::System(_)), "{error}");
    assert_eq!(fs::metadata(&plan.image).unwrap().len(), 1 << 20);
}

#[test]
fn an_image_elsewhere_is_missed_and_not_replaced() {
    let dir = Scratch::new();
    let plan = plan(&dir);
    durable::create_dir(plan.image.parent().unwrap(), 0o700).unwrap();
    // To a disk that this plugin does not see.
    symlink("/no/such/disk/default.img", &plan.image).unwrap();
    assert!(ImagePool::open(&plan).is_err());
    assert!(fs::symlink_metadata(&plan.image).unwrap().is_symlink());
}

#[test]
fn an_image_whose_device_cannot_be_looked_at_is_not_attached_again() {
    let dir = Scratch::new();
    let plan = plan(&dir);
    let pool = ImagePool::open(&plan).unwrap();
    let image = fs::File::open(&plan.image).unwrap();
    let node = loopdev::attached_to(&image).unwrap()[0].node();
    // Some kernels refuse to open a mounted device for writing; here it is another device's node.
    mount::bind(Path::new("/dev/null"), &node).unwrap();
    assert!(loopdev::attached_to(&image).is_err());
    mount::detach(&node).unwrap();
    drop(pool);
    mount::detach(&plan.mount_point).unwrap();
}

#[test]
fn what_was_written_is_no_longer_free_at_once() {
    let dir = Scratch::new();
    let plan = plan(&dir);
    let pool = ImagePool::open(&plan).unwrap();
    pool.create(&name("v"), &some(), None).unwrap();
    let before = pool.describe().unwrap().space;
    assert!((64 << 20..=256 << 20).contains(&before.free), "{before:?}");
    let mut file = fs::File::create(pool.locate(&name("v")).unwrap().join("data/file")).unwrap();
    file.write_all(&vec![1; 32 << 20]).unwrap();
    let after = pool.describe().unwrap().space;
    assert!(after.free <= before.free - (30 << 20), "{before:?} {after:?}");
    file.sync_all().unwrap();
    let synced = pool.describe().unwrap().space;
    assert!(synced.free <= before.free - (30 << 20), "{before:?} {synced:?}");
    drop(file);
    mount::detach(&plan.mount_point).unwrap();
}

#[test]
fn space_of_a_deleted_share_can_soon_be_used() {
    let dir = Scratch::new();
    let plan = plan(&dir);
    let pool = ImagePool::open(&plan).unwrap();
    for text in ["full", "other"] {
        pool.create(&name(text), &some(), None).unwrap();
    }
    let megabyte = vec![1; 1 << 20];
    let mut file = fs::File::create(pool.locate(&name("full")).unwrap().join("data/file")).unwrap();
    while file.write_all(&megabyte).is_ok() {}
    drop(file);
    pool.delete(&name("full")).unwrap();
    let path = pool.locate(&name("other")).unwrap().join("data/file");
    let begun = Instant::now();
    while durable::write(&path, &megabyte.repeat(32)).is_err() {
        // Unless it is told to commit, a btrfs gives nothing back for half a minute.
        assert!(begun.elapsed() < Duration::from_secs(20), "still full");
        std::thread::sleep(Duration::from_millis(50));
    }
    mount::detach(&plan.mount_point).unwrap();
}
