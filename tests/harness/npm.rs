//! Packages of the npm registry, which this machine's npm brings, kept between runs.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{program, run};
use crate::root::cached;

/// The directory that holds `package` of `version` and what it needs, as `node_modules`.
pub fn npm_package(package: &str, version: &str) -> Result<PathBuf> {
    let recipe = format!("{package}@{version}");
    cached("npm", recipe.as_bytes(), "", |path| {
        let mut npm = program("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        run(npm.arg(path).arg(&recipe)).map(drop)
    })
}
