//! Trees that change between two copies.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;
use std::thread;
use std::time::Instant;

use plugin_sdk::durable;

use super::*;

struct Two {
    temporary: tempfile::TempDir,
    source: Dir,
    target: Dir,
    pace: Pace,
}

impl Two {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            durable::create_dir(&temporary.path().join(name), 0o700).unwrap();
            Dir::open(&temporary.path().join(name)).unwrap()
        };
        let (source, target) = (dir("source"), dir("target"));
        let pace = Pace::until(Instant::now() + Duration::from_mins(1));
        Self { temporary, source, target, pace }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.temporary.path().join("source").join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.at(path);
        durable::create_dir(path.parent().unwrap(), 0o700).unwrap();
        durable::write(&path, bytes).unwrap();
    }

    fn ahead(&self) -> Ahead {
        copy(&self.source, &self.target, &|_| false, &self.pace).unwrap()
    }

    fn again(&self, ahead: &Ahead) -> io::Result<()> {
        ahead.copy_again(&self.source, &self.target, &|_| false, &self.pace)
    }

    /// That both are the same, by another program.
    #[expect(clippy::disallowed_methods, reason = "it ends at once")]
    fn assert_same(&self) {
        let script = "for d in source target; do cd $d; find . -printf '%P %y %m %U %G %l %s\\n' | \
                      grep -v ' d ' | sort; find . -type f -exec md5sum {} + | sort; \
                      find . -type d -printf '%P %m %U %G\\n' | sort; cd ..; echo; done";
        let said = Command::new("sh").args(["-euc", script]).current_dir(&self.temporary).output();
        let said = String::from_utf8(said.unwrap().stdout).unwrap();
        let (source, target) = said.trim_end().split_once("\n\n").unwrap();
        assert_eq!(source, target);
    }
}

#[test]
fn what_changes_between_is_as_it_is_then() {
    let two = Two::new();
    for file in ["same", "longer", "shorter", "inside", "gone", "replaced", "owned", "d/e/gone"] {
        two.write(file, &vec![7; 300 << 10]);
    }
    symlink("one", two.at("link")).unwrap();
    symlink("one", two.at("link-gone")).unwrap();
    // Longer ago than any clock is coarse.
    thread::sleep(COARSE * 2);
    let ahead = two.ahead();
    two.assert_same();
    assert!(ahead.made[Path::new("same")].is_some());
    let open = |path: &str| File::options().write(true).open(two.at(path)).unwrap();
    open("longer").write_all_at(b"x", 400 << 10).unwrap();
    open("shorter").set_len(5).unwrap();
    open("inside").write_all_at(b"x", 200 << 10).unwrap();
    two.write("replaced", &vec![8; 300 << 10]);
    two.write("d/new/file", b"new");
    chown(two.at("owned"), Some(70), Some(71)).unwrap();
    fs::set_permissions(two.at("d"), fs::Permissions::from_mode(0o711)).unwrap();
    for gone in ["gone", "d/e/gone", "link", "link-gone"] {
        durable::remove(&two.at(gone)).unwrap();
    }
    fs::remove_dir(two.at("d/e")).unwrap();
    symlink("other", two.at("link")).unwrap();
    two.again(&ahead).unwrap();
    two.assert_same();
}

#[test]
fn what_was_not_written_to_is_not_read_again() {
    let two = Two::new();
    two.write("old", b"as it was");
    thread::sleep(COARSE * 2);
    two.write("young", b"as it was");
    let ahead = two.ahead();
    // What the copy has tells whether it was looked at.
    for file in ["old", "young"] {
        let made = two.target.change_file(Path::new(file)).unwrap();
        made.write_all_at(b"XX", 0).unwrap();
    }
    two.again(&ahead).unwrap();
    let read = |name: &str| fs::read(two.temporary.path().join("target").join(name)).unwrap();
    assert_eq!((&*read("old"), &*read("young")), (&b"XX it was"[..], &b"as it was"[..]));
}

#[test]
fn what_becomes_something_else_is_an_error() {
    let two = Two::new();
    two.write("d", b"a file");
    let ahead = two.ahead();
    durable::remove(&two.at("d")).unwrap();
    two.write("d/file", b"below");
    let error = two.again(&ahead).unwrap_err().to_string();
    assert_eq!(error, "d is something else than when it was copied");
}

#[test]
fn what_is_excepted_stays_in_the_copy() {
    let two = Two::new();
    two.write("file", b"x");
    let except = |path: &Path| path == Path::new("apart");
    let ahead = copy(&two.source, &two.target, &except, &two.pace).unwrap();
    two.write("apart", b"theirs");
    durable::write(&two.temporary.path().join("target/apart"), b"ours").unwrap();
    ahead.copy_again(&two.source, &two.target, &except, &two.pace).unwrap();
    assert_eq!(fs::read(two.temporary.path().join("target/apart")).unwrap(), b"ours");
}
