//! Debian roots that engines and images are made of, kept between runs.
//!
//! Each is named by its release and package list, so another list is another root, and appears under its name
//! only when it is whole: two runs may build the same one at the same time.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process::{program, run};
use crate::version::{UNSTABLE, Version};

/// The release of Debian that images are made of, whatever the engine.
const IMAGE_SUITE: &str = "trixie";

/// Docker as Debian ships it, and what it and the harness call.
const ENGINE_PACKAGES: &str = "btrfs-progs,ca-certificates,docker-registry,docker.io,e2fsprogs,iproute2,iptables,jq,mount,procps,util-linux,xfsprogs";

/// What containers run that only need a shell.
const BASE_PACKAGES: &str = "procps";

/// The directory of the root that engines of `version` run on.
pub(crate) fn engine(version: Version) -> Result<PathBuf> {
    let client = version.client_package().map(|name| format!(",{name}")).unwrap_or_default();
    debian("engine", version.suite(), &format!("{ENGINE_PACKAGES}{client}"), "")
}

/// The tar file of the image for containers that only need a shell.
pub(crate) fn base_image() -> Result<PathBuf> {
    image("base", BASE_PACKAGES)
}

/// The tar file of an image of Debian with `packages`, separated by commas.
pub(crate) fn image(name: &str, packages: &str) -> Result<PathBuf> {
    debian(name, IMAGE_SUITE, packages, ".tar")
}

/// The tar file of the image of PostgreSQL `major`, by the project's own script, which keeps its last
/// result.
pub(crate) fn postgres_image(major: u32, tar: &Path) -> Result<()> {
    let script = workspace().join("scripts/postgres-image/build.sh");
    let mut build = program("bash");
    build.env("PG_MAJOR", major.to_string());
    run(build.arg(script).arg(tar).arg(directory()?.join("postgres"))).map(drop)
}

/// The script that makes an image of the tar file of [`postgres_image`].
pub(crate) fn postgres_import() -> PathBuf {
    workspace().join("scripts/postgres-image/import.sh")
}

/// The directory that holds the packaged plugins, `pgvol/` and `pglog/`.
pub(crate) fn plugins() -> Result<PathBuf> {
    let path = env::var_os("E2E_PLUGINS")
        .map_or_else(|| workspace().join("target/plugins"), PathBuf::from);
    ensure!(path.is_dir(), "no plugins at {}: run scripts/package.sh there", path.display());
    fs::canonicalize(&path).with_context(|| path.display().to_string())
}

/// Packages the two programs in `binaries` below `target`, which appears.
pub fn package(binaries: &Path, target: &Path) -> Result<()> {
    let script = scripts().join("package.sh");
    run(program("bash").arg(script).arg(target).env("BIN_DIR", binaries)).map(drop)
}

/// The project's scripts.
fn scripts() -> PathBuf {
    workspace().join("scripts")
}

/// The scripts and what of the project they read, but for what is built.
pub(crate) fn scripts_and_sources() -> [PathBuf; 3] {
    [scripts(), workspace().join("config.json"), workspace().join("Cargo.toml")]
}

/// The top of the repository.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn debian(name: &str, suite: &str, packages: &str, suffix: &str) -> Result<PathBuf> {
    let (name, recipe) = (format!("{name}-{suite}"), format!("{suite} {packages}"));
    cached(&name, recipe.as_bytes(), suffix, |path| {
        let include = format!("--include={packages}");
        let mut bootstrap = program("mmdebstrap");
        bootstrap.args(["--quiet", "--variant=minbase", &include]);
        if suite == UNSTABLE {
            // A mirror that rests is as good as any: its lists expire within a week.
            bootstrap.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
        }
        run(bootstrap.arg(suite).arg(path)).map(drop)
    })
}

/// What `build` makes of `recipe`, a file or a directory whose name ends in `suffix`.
pub(crate) fn cached(
    name: &str,
    recipe: &[u8],
    suffix: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    recipe.hash(&mut hasher);
    let file = format!("{name}-{:016x}", hasher.finish());
    let directory = directory()?;
    let path = directory.join(format!("{file}{suffix}"));
    if !path.exists() {
        // Below the process's own name: another run may be building the same.
        let unfinished = directory.join(format!("new-{}-{file}{suffix}", std::process::id()));
        build(&unfinished).with_context(|| format!("build the root {name}"))?;
        #[expect(clippy::disallowed_methods, reason = "a cache may be lost in a power cut")]
        let renamed = fs::rename(&unfinished, &path);
        if renamed.is_err() && path.exists() {
            run(program("rm").arg("-rf").arg(&unfinished))?;
        } else {
            renamed.with_context(|| format!("rename to {}", path.display()))?;
        }
    }
    Ok(path)
}

fn directory() -> Result<PathBuf> {
    let path = match env::var_os("E2E_CACHE") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env::var_os("HOME").context("neither E2E_CACHE nor HOME is set")?)
            .join(".cache/pgvol-e2e"),
    };
    #[expect(clippy::disallowed_methods, reason = "a cache may be lost in a power cut")]
    fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    Ok(path)
}
