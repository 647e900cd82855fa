//! Pools whose process is killed, or told that the disk is full, at each step of growing, shrinking and
//! of what shares in a directory may hold: with the program's own steps, each in a process of its own.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use plugin_sdk::{durable, failpoint};

use super::{Bounds, Charge, DirPool, ImagePlan, ImagePool, Limit, Pool};
use crate::name::ShareName;
use crate::scratch::Scratch;
use crate::sys::{btrfs, file, loopdev, namespace};

const MIB: u64 = 1 << 20;

fn share() -> ShareName {
    "v".parse().unwrap()
}

fn plan(dir: &Path) -> ImagePlan {
    ImagePlan {
        image: dir.join("pool.img"),
        mount_point: dir.join("mounted"),
        bounds: Bounds { size: "256M".parse().unwrap(), limit: "1G".parse().unwrap() },
    }
}

fn limit(size: u64) -> Limit {
    Limit { size: size * MIB, held_back: 8 * MIB, uncounted: 0 }
}

/// What a child does.
fn act(deed: &str, dir: &Path) {
    let image = || ImagePool::open(&plan(dir)).unwrap();
    let directory = || DirPool::open(dir.join("pool")).unwrap();
    match deed {
        "make" => {
            let pool = image();
            pool.create(&share(), &[], None).unwrap();
            let file = pool.locate(&share()).unwrap().join("file");
            durable::write(&file, b"precious").unwrap();
        }
        "fill" => {
            let pool = image();
            let filler = pool.locate(&share()).unwrap().join("filler");
            let mut file = File::create(filler).unwrap();
            file.write_all(&vec![7; 150 << 20]).unwrap();
            file.sync_all().unwrap();
            drop(pool.tend());
        }
        "clear" => {
            let pool = image();
            let share = pool.locate(&share()).unwrap();
            durable::remove(&share.join("filler")).unwrap();
            btrfs::commit(&share).unwrap();
            drop(pool.give_back());
        }
        "create" => drop(directory().create(&share(), &[], Some(limit(128)))),
        "limit" => drop(directory().limit(&share(), Some(limit(512)))),
        other => panic!("no deed {other}"),
    }
}

#[test]
fn child() {
    let Some(dir) = std::env::var_os("KILLED_IN").map(PathBuf::from) else { return };
    namespace::isolate();
    failpoint::arm(dir.join("failpoint"));
    let scratch = Scratch::of(dir);
    act(&std::env::var("DEED").unwrap(), scratch.path());
}

/// Has a process do `deed`, cut short as `line` says, if it does.
fn run(dir: &Path, deed: &str, line: Option<&str>) {
    if let Some(line) = line {
        durable::write(&dir.join("failpoint"), line.as_bytes()).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "it kills itself")]
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "pool::killed::child"]).env("KILLED_IN", dir).env("DEED", deed);
    let output = child.output().unwrap();
    let killed = line.is_some_and(|line| line.ends_with("kill"));
    assert_eq!(output.status.success(), !killed, "{deed} {line:?}: {output:?}");
    assert!(!dir.join("failpoint").exists(), "{line:?} was not reached");
}

fn each(steps: &[&str], survives: impl Fn(&str)) {
    for action in ["kill", "full"] {
        for step in steps {
            survives(&format!("{step} {action}"));
        }
    }
}

/// The file system, its device and its file are of one size, all of it reserved; gives that.
fn settled(dir: &Path, line: &str) -> u64 {
    let pool = ImagePool::open(&plan(dir)).unwrap();
    let image = File::open(&plan(dir).image).unwrap();
    let device = loopdev::attached_to(&image).unwrap().pop().unwrap();
    let length = image.metadata().unwrap().len();
    let sizes = (btrfs::size(&plan(dir).mount_point).unwrap(), device.size().unwrap());
    assert_eq!(sizes, (length, length), "{line}");
    assert!(file::reserved(&image).unwrap() >= length, "{line}");
    let file = pool.locate(&share()).unwrap().join("file");
    assert_eq!(fs::read(file).unwrap(), b"precious", "{line}");
    length
}

#[test]
fn a_pool_that_grows_or_shrinks_is_whole_after_any_step() {
    namespace::isolate();
    let dir = Scratch::new();
    run(dir.path(), "make", None);
    let again = |line: &str| {
        // In a mount namespace that ends, as the plugin's does.
        let (dir, line) = (dir.path().to_owned(), line.to_owned());
        let look = std::thread::spawn(move || {
            namespace::isolate();
            let scratch = Scratch::of(dir.clone());
            let size = settled(&dir, &line);
            drop(scratch);
            size
        });
        look.join().unwrap()
    };
    let least = again("made");
    let grow = ["grow.file-extended", "grow.reserved", "grow.device-follows"];
    let grow = [&grow[..], &["grow.file-system-follows"]].concat();
    each(&grow, |line| {
        run(dir.path(), "fill", Some(line));
        let size = again(line);
        assert_eq!(again(line), size, "{line}: a second start changed it");
        run(dir.path(), "fill", None);
        assert!(again(line) > least, "{line}: it does not grow any more");
        run(dir.path(), "clear", None);
    });
    each(&["shrink.file-system-shrunk", "shrink.file-cut"], |line| {
        run(dir.path(), "fill", None);
        let large = again(line);
        run(dir.path(), "clear", Some(line));
        let size = again(line);
        assert_eq!(again(line), size, "{line}: a second start changed it");
        run(dir.path(), "fill", None);
        run(dir.path(), "clear", None);
        assert!(again(line) < large, "{line}: it does not shrink any more");
    });
}

/// As the catalog has it done: what was being made is deleted, what was asked is asked again.
#[test]
fn a_share_with_a_limit_is_made_and_grows_after_any_step() {
    namespace::isolate();
    let limited = |dir: &Scratch, line: &str| {
        let pool = DirPool::open(dir.path().join("pool")).unwrap();
        let Charge { limit, .. } = pool.charge(&share()).unwrap().unwrap();
        let image = File::open(dir.path().join("pool/.images/v.img")).unwrap();
        assert_eq!(loopdev::attached_to(&image).unwrap().len(), 1, "{line}");
        limit.unwrap() / MIB
    };
    each(&["create.image-made", "limit.image-grown", "create.share-begun"], |line| {
        let dir = Scratch::new();
        run(dir.path(), "create", Some(line));
        DirPool::open(dir.path().join("pool")).unwrap().delete(&share()).unwrap();
        for left in ["pool/v", "pool/.images/v.img", "pool/.images/v.new"] {
            assert!(!dir.path().join(left).exists(), "{line}: {left}");
        }
        run(dir.path(), "create", None);
        assert_eq!(limited(&dir, line), 120, "{line}");
    });
    each(&["limit.image-grown"], |line| {
        let dir = Scratch::new();
        run(dir.path(), "create", None);
        run(dir.path(), "limit", Some(line));
        run(dir.path(), "limit", None);
        assert_eq!(limited(&dir, line), 504, "{line}");
    });
}
