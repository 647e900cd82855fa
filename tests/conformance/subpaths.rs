//! `volume-subpath`: what of a volume a container may get, and that nothing outside is reached.

use anyhow::{Result, ensure};
use harness::{Scenario, Stage, Version, Volume};

const DRIVERS: &[&str] = &["local", "pgvol"];

/// The whole volume with something of every kind; links that lead out of it among them.
const FILL: &str =
    "cd /volume && echo foo >bar.txt && echo from-volume >file && mkdir bin subdir &&
    echo world >subdir/hello.txt && mkdir hack && ln -s / hack/root && ln -s ../subdir hack/good &&
    ln -s root hack/bad && ln -s /etc hack/absolute && mkfifo fifo";

/// What comes of one.
enum Expected {
    /// The command prints this.
    Prints(&'static str),
    /// `docker run` is refused with this in its message.
    Refused(&'static str),
}

use Expected::{Prints, Refused};

/// Subpath, place in the container, command.
const CASES: [(&str, &str, &str, Expected); 10] = [
    ("subdir", "/place", "ls /place", Prints("hello.txt")),
    ("hack/good", "/place", "ls /place", Prints("hello.txt")),
    ("bin", "/etc/cron.daily", "ls -d /etc/cron.daily/dpkg", Prints("/etc/cron.daily/dpkg")),
    ("bar.txt", "/place", "cat /place", Prints("foo")),
    // Over a file of the image only 29.5 and later can, with any driver.
    ("file", "/etc/debian_version", "cat /etc/debian_version", Refused("not a directory")),
    ("../../../../../etc/passwd", "/place", "true", Refused("relative path within the volume")),
    ("not/there", "/place", "true", Refused("cannot access")),
    ("hack/root", "/place", "true", Refused("escapes")),
    ("hack/bad", "/place", "true", Refused("escapes")),
    ("hack/absolute", "/place", "true", Refused("escapes")),
];

pub(crate) fn scenarios() -> Vec<Scenario> {
    let parts = Scenario::for_drivers("subpaths_of_every_kind", DRIVERS, every_kind);
    let parts = parts.into_iter().chain(Scenario::for_drivers(
        "copy_up_of_an_image_directory",
        &["pgvol"],
        copy_up,
    ));
    // `volume::subpath_is_not_known` is what older ones do.
    let mut scenarios: Vec<_> =
        parts.map(|it| it.since(Version::V26_1, "volume-subpath")).collect();
    let whole = Scenario::for_drivers("copy_up_of_an_image_directory", &["local"], copy_up);
    scenarios.extend(whole);
    scenarios
}

fn every_kind(stage: &Stage, driver: &'static str) -> Result<()> {
    let engine = stage.engine();
    let volume = Volume::create(engine, driver, "parts", &[])?;
    engine.docker(&["run", "--rm", "-v", "parts:/volume", "base", "sh", "-euc", FILL])?;
    for (subpath, place, command, expected) in CASES {
        let mount = format!("type=volume,src=parts,dst={place},volume-subpath={subpath}");
        let run = ["run", "--rm", "--mount", &mount, "base", "sh", "-euc", command];
        match expected {
            Prints(text) => {
                let said = engine.docker(&run)?;
                ensure!(said == text, "{subpath}: {said:?} instead of {text:?}");
            }
            Refused(part) => {
                let said = engine.refused(&run)?;
                ensure!(said.contains(part), "{subpath}: no {part:?} in {said:?}");
            }
        }
    }
    // A failed start holds nothing.
    volume.remove()
}

/// What the image has at the place is in an empty volume, with its owner and mode. The root of a
/// volume of pgvol is never empty, so there it is a role that gets it.
fn copy_up(stage: &Stage, driver: &'static str) -> Result<()> {
    let engine = stage.engine();
    let volume = Volume::create(engine, driver, "copied", &[])?;
    // Another owner than either driver's own.
    let dockerfile = "FROM base\\nRUN mkdir -p /place/sub && echo image >/place/sub/file && \\
        chown -R 1234:1235 /place && chmod 2775 /place";
    engine.shell(&format!("printf '{dockerfile}' | docker build -q -t owned - >/dev/null"))?;
    let subpath = if driver == "pgvol" { ",volume-subpath=data" } else { "" };
    let mount = format!("type=volume,src=copied,dst=/place{subpath}");
    let look = "stat -c '%u:%g %a' /place; cat /place/sub/file";
    let first = ["run", "--rm", "--mount", &mount, "owned", "sh", "-euc", look];
    let said = engine.docker(&first)?;
    ensure!(said == "1234:1235 2775\nimage", "{said}");
    // It is not empty any more: another image changes nothing.
    let write =
        ["run", "--rm", "--mount", &mount, "owned", "sh", "-euc", "echo own >/place/sub/file"];
    engine.docker(&write)?;
    let said = engine.docker(&first)?;
    ensure!(said == "1234:1235 2775\nown", "{said}");
    engine.docker(&["image", "rm", "owned"])?;
    volume.remove()
}
