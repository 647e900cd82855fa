//! What the figures were taken on.

use anyhow::Result;
use harness::Engine;

/// One line: processor, memory, kernel, engine, file system, versions.
pub(crate) fn facts(engine: &Engine) -> Result<String> {
    let facts = engine.shell(
        "echo \"$(nproc) x$(grep -m1 '^model name' /proc/cpuinfo | cut -d: -f2)\"
         echo \"$(($(awk '/^MemTotal/ { print $2 }' /proc/meminfo) / 1048576)) GiB\"
         echo \"Linux $(uname -r)\"
         echo \"Docker $(docker version --format '{{.Server.Version}}')\"
         echo \"state on $(stat -f -c %T /var/lib)\"",
    )?;
    Ok(format!("machine: {}", facts.replace('\n', ", ")))
}
