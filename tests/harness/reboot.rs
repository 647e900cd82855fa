//! What a machine that was started anew shows to containers: another boot id.
//!
//! The machine is the engine's namespaces. When they end the kernel kills every process and drops
//! every mount, and with them the loop devices, which [`crate::Engine::end`] makes sure of; what
//! is on the disk stays. So far it is a reboot. Two things differ: the kernel lives on, and with it
//! what it had not written to the disk yet (that a power cut loses nothing is for the plugins'
//! own tests of fsync); and its boot id, which this module replaces. A bind on the engine's own
//! /proc would not do: each container gets a /proc of its own. So runc is told to bind the file
//! into that one, by a hook.

use anyhow::{Result, ensure};

use crate::Engine;

/// Stands for runc from now on, and leaves it be for everything but `create`.
const INSTALL: &str = r#"
cat /proc/sys/kernel/random/uuid >/run/boot_id
runc=$(command -v runc)
[ -e "$runc.real" ] || mv "$runc" "$runc.real"
cat >"$runc" <<'SCRIPT'
#!/bin/bash
set -euo pipefail
create= bundle=.
for ((n = 1; n <= $#; n++)); do
    case ${!n} in
    create) create=yes ;;
    --bundle) following=$((n + 1)) bundle=${!following} ;;
    esac
done
if [ -n "$create" ]; then
    hooked=$(jq '.root.path as $root | .hooks.createContainer += [{path: "/usr/bin/mount", args:
        ["mount", "--bind", "/run/boot_id", "\($root)/proc/sys/kernel/random/boot_id"]}]' \
        "$bundle/config.json")
    echo "$hooked" >"$bundle/config.json"
fi
exec "$0.real" "$@"
SCRIPT
chmod 0755 "$runc"
"#;

/// Gives the containers and plugins that are made from now on another boot id.
pub(crate) fn change_boot_id(engine: &Engine) -> Result<()> {
    let before = engine.shell("cat /run/boot_id 2>/dev/null || :")?;
    engine.shell(INSTALL)?;
    let now = engine.shell("cat /run/boot_id")?;
    ensure!(now.len() == 36 && now != before, "boot id {before:?}, then {now:?}");
    Ok(())
}
