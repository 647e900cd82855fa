//! Holds the tree to its own rules: the ones in CONTRIBUTING.md that a machine can check.

mod behaviours;
mod scripts;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Lines a source file may have before its content is questioned, and the most it may have.
const LONGEST_FILE: usize = 600;
/// Direct dependencies of one plugin.
const DIRECT_DEPENDENCIES: usize = 22;
/// Packages that both plugins are built from, all in all.
const ALL_DEPENDENCIES: usize = 140;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every Rust source of the workspace, with its path below the root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for member in ["plugin-sdk", "volume-plugin", "log-plugin", "tests"] {
        collect(&root().join(member), &mut found);
    }
    assert!(found.len() > 20, "the sources are not where they were: {}", found.len());
    found
}

fn collect(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).expect("a directory of the workspace").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            found.push((name, std::fs::read_to_string(&path).expect("a source")));
        }
    }
}

/// The code of a source: no comment lines.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
}

#[test]
fn files_hold_one_thing_and_are_named_after_it() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{name} has {lines} lines, {LONGEST_FILE} are allowed");
        let stem = Path::new(&name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(
            !["util", "utils", "common", "helper", "helpers", "manager", "types", "misc"]
                .contains(&stem),
            "{name} is named after nothing that it holds"
        );
        assert!(text.starts_with("//!"), "{name} does not begin with what it is for");
    }
}

#[test]
fn only_sys_talks_to_the_kernel() {
    for (name, text) in sources() {
        let sys = name.contains("/sys/") || name.ends_with("/sys.rs");
        if sys || name.starts_with("tests/tidy/") {
            continue;
        }
        for line in code(&text) {
            // std's and tokio's own modules of that ending are fine.
            let line = line.replace("unix::", "");
            // The probe is nothing but system calls: there only what is unsafe has its place.
            let calls: &[_] = if name.starts_with("tests/") { &[] } else { &["nix::", "libc::"] };
            for word in ["unsafe {", "unsafe fn", "unsafe impl"].iter().chain(calls) {
                assert!(!line.contains(*word), "{name}: `{word}` outside sys/: {line}");
            }
        }
    }
}

#[test]
fn modules_point_inwards() {
    // api -> domain -> pool or journal -> sys, never back.
    let forbidden: [(&str, &[&str]); 8] = [
        ("volume-plugin/src/sys/", &["crate::api", "crate::volume", "crate::pool", "crate::app"]),
        ("volume-plugin/src/pool/", &["crate::api", "crate::volume", "crate::app"]),
        ("volume-plugin/src/postgres/", &["crate::api", "crate::volume", "crate::pool"]),
        ("volume-plugin/src/volume/", &["crate::api", "crate::app"]),
        ("volume-plugin/src/snapshot/", &["crate::api", "crate::app"]),
        ("log-plugin/src/journal/", &["crate::api", "crate::ingest", "crate::sink", "crate::app"]),
        ("log-plugin/src/sink/", &["crate::api", "crate::ingest", "crate::app"]),
        ("log-plugin/src/sys", &["crate::api", "crate::ingest", "crate::journal", "crate::app"]),
    ];
    let sources = sources();
    for (place, words) in forbidden {
        let mut seen = 0;
        for (name, text) in sources.iter().filter(|(name, _)| name.starts_with(place)) {
            seen += 1;
            for line in code(text) {
                let back = words.iter().find(|word| line.contains(**word));
                assert!(back.is_none(), "{name} looks back: {line}");
            }
        }
        assert!(seen > 0, "nothing is at {place}");
    }
}

fn cargo_tree(package: &str, extra: &[&str]) -> BTreeSet<String> {
    #[expect(clippy::disallowed_methods, reason = "cargo answers within a second")]
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "-p", package])
        .args(extra)
        .current_dir(root())
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn dependencies_stay_few() {
    let mut all = BTreeSet::new();
    for plugin in ["pgvol", "pglog"] {
        let direct = cargo_tree(plugin, &["--depth", "1"]).len() - 1;
        assert!(direct <= DIRECT_DEPENDENCIES, "{plugin} has {direct} direct dependencies");
        all.extend(cargo_tree(plugin, &[]));
    }
    assert!(all.len() <= ALL_DEPENDENCIES, "{} packages: {all:#?}", all.len());
}

fn config() -> Value {
    let text = std::fs::read_to_string(root().join("config.json")).expect("config.json");
    serde_json::from_str(&text).expect("config.json is JSON")
}

fn declared(settings: &[plugin_sdk::settings::Setting]) -> Value {
    settings
        .iter()
        .map(|setting| {
            json!({
                "name": setting.name,
                "description": setting.description,
                "value": setting.default,
                "settable": ["value"],
            })
        })
        .collect()
}

#[test]
fn config_names_the_settings_that_the_programs_declare() {
    let config = config();
    assert_eq!(config["pgvol"]["env"], declared(&pgvol::settings::SETTINGS));
    assert_eq!(config["pglog"]["env"], declared(pglog::settings::SETTINGS));
}

/// What an operator is asked to grant, and all else that dockerd does with a plugin: the whole of
/// `config.json` but for the settings, word by word. A change here is a change of README's table
/// of privileges, of `tests/spikes/PRIVILEGES.md` and of the changelog.
#[test]
fn privileges_are_the_reviewed_ones() {
    let mut config = config();
    for plugin in config.as_object_mut().expect("an object").values_mut() {
        let plugin = plugin.as_object_mut().expect("an object");
        assert!(plugin.remove("env").is_some(), "compared elsewhere, but it must be there");
        let socket = plugin["interface"]["socket"].as_str().expect("a name").to_owned();
        assert!(socket.len() <= 22, "{socket} does not fit behind a plugin's id in sun_path");
    }
    let state = |description: &str| {
        json!([{
            "name": "state",
            "description": description,
            "source": "/var/lib",
            "destination": "/host/state",
            "type": "bind",
            "options": ["bind", "rprivate"],
            "settable": ["source"],
        }])
    };
    let reviewed = json!({
        "pgvol": {
            "description": "PostgreSQL-aware volumes: data, WAL and tablespaces each on the \
                            storage that suits them",
            "documentation": "README.md",
            "entrypoint": ["/pgvol", "serve"],
            "workdir": "/",
            "interface": { "types": ["docker.volumedriver/1.0"], "socket": "pgvol.sock" },
            "network": { "type": "" },
            "pidhost": true,
            "propagatedMount": "/mnt/volumes",
            "linux": {
                "capabilities": ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"],
                "allowAllDevices": true,
                "devices": null,
            },
            "mounts": state(
                "the host directory below which pgvol keeps its catalog, its image pool and the \
                 WAL, in pgvol/",
            ),
        },
        "pglog": {
            "description": "Container logs that never block the container and never lose a line",
            "documentation": "README.md",
            "entrypoint": ["/pglog", "serve"],
            "workdir": "/",
            "interface": { "types": ["docker.logdriver/1.0"], "socket": "pglog.sock" },
            "network": { "type": "host" },
            "pidhost": true,
            "propagatedMount": "/run/docker/logging",
            "linux": {
                "capabilities": ["CAP_SYS_PTRACE"],
                "allowAllDevices": false,
                "devices": null,
            },
            "mounts": state("the host directory below which pglog keeps its journals, in pglog/"),
        },
    });
    assert_eq!(config, reviewed);
}
