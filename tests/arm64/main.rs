//! The plugins of arm64 on an amd64 engine: qemu runs them, the kernel is this machine's.
//!
//! What is shown is that the packages are whole and that the programs start, answer and do their
//! work. What cannot be had this way: qemu 10.0 knows neither the ioctl by which pgvol waits until
//! a deletion is on disk, so no volume is removed here, nor the events by which it keeps a second
//! server off, of which pgvol says so; and no figure says anything about speed.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Container, Engine, Plugin, Scenario, Stage, Suite, numbered};

/// Of the field in an ELF header that names the processor.
const AARCH64: [u8; 2] = [0xb7, 0];
const SUITE: Suite = Suite {
    plugin: "pgvol",
    settings: &["POOL_SIZE=2G"],
    images: Engine::add_base_image,
    smoke: &[],
};

fn main() -> ExitCode {
    let scenarios = vec![
        Scenario::new("all_programs_and_libraries_are_of_arm64", programs),
        Scenario::new("a_volume_outlives_the_plugin", volume)
            .tolerating(&["there is no guard against second servers"]),
        Scenario::new("every_line_is_in_the_log", log),
    ];
    harness::run(&SUITE, scenarios)
}

/// And they start, which needs all of their libraries.
fn programs(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let tools = ["mkfs.btrfs --version", "btrfs --version", "mkfs.xfs -V"];
    for (plugin, tools) in [("pgvol", &tools[..]), ("pglog", &[])] {
        let root = format!("/srv/{plugin}/rootfs");
        let mut count = 0;
        count_programs(&engine.path(&root), &mut count)?;
        // The program, its tools, the loader and libc at the least.
        ensure!(count >= 3 + tools.len(), "{plugin} consists of {count} programs and libraries");
        let known = engine.shell(&format!("chroot {root} /{plugin} formats"))?;
        ensure!(known.contains(&format!("{plugin}-")), "{known}");
        for tool in tools {
            let said = engine.shell(&format!("chroot {root} /usr/sbin/{tool}"))?;
            ensure!(said.contains("btrfs") || said.contains("xfs"), "{said}");
        }
    }
    Ok(())
}

fn count_programs(dir: &Path, count: &mut usize) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            count_programs(&path, count)?;
        }
        if !path.is_file() || path.is_symlink() {
            continue;
        }
        let bytes = fs::read(&path)?;
        if bytes.starts_with(b"\x7fELF") {
            ensure!(bytes.get(18..20) == Some(&AARCH64), "{} is not of arm64", path.display());
            *count += 1;
        }
    }
    Ok(())
}

fn volume(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let plugin = stage.plugin()?;
    // It stays, and goes with the engine.
    engine.docker(&["volume", "create", "--driver=pgvol", "--opt=tablespaces=fast", "appdb"])?;
    let write = "for role in data wal tablespaces/fast; do echo $role >/pg/$role/file; done; sync";
    engine.docker(&["run", "--rm", "--volume=appdb:/pg", "base", "sh", "-euc", write])?;
    plugin.kill()?;
    let read = "cat /pg/data/file /pg/wal/file /pg/tablespaces/fast/file; stat -c %u:%a /pg/data";
    let said = engine.docker(&["run", "--rm", "--volume=appdb:/pg", "base", "sh", "-euc", read])?;
    ensure!(said == "data\nwal\ntablespaces/fast\n999:700", "{said}");
    let shown =
        engine.docker(&["volume", "inspect", "--format={{json .Status.roles}}", "appdb"])?;
    ensure!(shown.contains("tablespace.fast"), "{shown}");
    let said = engine.refused(&["volume", "create", "--driver=pgvol", "--opt=cow=so", "other"])?;
    ensure!(said.contains("cow"), "{said}");
    Ok(())
}

fn log(stage: &Stage) -> Result<()> {
    let engine = stage.engine();
    let plugin = Plugin::install(engine, "pglog", &[])?;
    let options = ["--log-driver=pglog", "--log-opt=max-size=200m", "base"];
    let command = ["perl", "-e", numbered::SLOWLY, "20000"];
    let container = Container::run(engine, "printer", &[&options[..], &command].concat())?;
    ensure!(container.wait(Duration::from_mins(3))? == 0, "the printer failed");
    numbered::check(&container.logs(&[])?.stdout, 20_000)?;
    container.remove(Duration::from_secs(30))?;
    plugin.remove()
}
