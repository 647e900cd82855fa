//! All that there is of the plugin's: compared word by word.

use anyhow::Result;
use harness::{Engine, Plugin};

/// Lines that are the same whenever the same volumes are in the same state.
const LOOK: &str = r#"cd /var/lib/pgvol
for file in catalog/*; do
    [ -e "$file" ] || continue
    echo "$file" | sed -E 's/\.[0-9]+\.trashed$/.trashed/'
    tail -n +2 "$file" | jq -cS "del(.created, .begun_anew, .origin.at, .origin.original.created, .taken.took_ms, .taken.stall_ms, .taken.stall)" |
        if [ -z "$served" ]; then cat; else jq -cS "del(.taken.clusters, .taken.checks, .taken.checkpoint, .taken.backup)"; fi
done
for file in mounts/*; do
    [ ! -e "$file" ] || echo "$file $(tail -n +2 "$file" | jq -c '[.ids[]]')"
done
for pool in "$pool" wal; do
    cd "$pool"
    echo "pool ${pool##*/}"
    if [ -n "$served" ]; then ls; cd /var/lib/pgvol; continue; fi
    find . -mindepth 1 -printf '%P %y %U:%G %m\n' | LC_ALL=C sort
    find . -type f ! -name filler -printf '%P\0' | LC_ALL=C sort -z | xargs -0r md5sum
    cd /var/lib/pgvol
done
image=/var/lib/pgvol/pools/default.img
device=$(awk '$5 == "/pools/default" { print $(NF - 1) }' "/proc/$pid/mountinfo")
echo "image $(stat -c %s $image) $(($(cat "/sys/block/${device##*/}/size") * 512)) $(stat -f -c %b "$pool")"
[ $(($(stat -c %b $image) * 512)) -ge "$(stat -c %s $image)" ] || echo "image is not reserved"
awk '$5 ~ "/propagated-mount/" { sub(".*/propagated-mount/", "", $5); print "view", $5 }' /proc/1/mountinfo | sort
(cd "/proc/$pid/root" && ls mnt/volumes pools/.staging)
docker ps --format '{{.Names}}' | while read -r name; do
    id=$(docker inspect -f '{{.State.Pid}}' "$name")
    echo "container $name $(sed 's/.*) //; s/ .*//; s/[RSD]/runs/' "/proc/$id/stat")"
    # Neither a session of the plugin nor WAL is kept.
    [ -z "$served" ] || echo "server $(docker exec -u postgres "$name" psql -XAtc "$kept" || echo ends)"
done
docker volume ls -q -f driver=pgvol -f driver=pgvol:latest"#;

/// What a server keeps for a backup.
const KEPT: &str = "SELECT (SELECT count(*) FROM pg_replication_slots), \
                    (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgvol')";

/// Where the plugin has the image pool mounted, as a shell's assignment.
pub(crate) fn variables(plugin: &Plugin) -> Result<String> {
    let pid = plugin.pid()?;
    Ok(format!("pid={pid} pool=/proc/{pid}/root/pools/default"))
}

/// What there is now; of a volume that is served not what its server changes all the time.
pub(crate) fn observe(engine: &Engine, plugin: &Plugin, is_served: bool) -> Result<String> {
    let served = if is_served { "1" } else { "" };
    let look = format!("{}\nserved={served} kept=\"{KEPT}\"\n{LOOK}", variables(plugin)?);
    let seen = engine.shell(&look)?;
    Ok(format!("{seen}\nloop devices {}\n", engine.loop_devices()?.len()))
}

/// How large the image of the pool is, out of what was seen.
pub(crate) fn image(seen: &str) -> Option<&str> {
    seen.lines().find(|line| line.starts_with("image "))
}

/// The first lines in which two of them differ.
pub(crate) fn difference(expected: &str, found: &str) -> String {
    let missing = expected.lines().filter(|line| !found.lines().any(|other| other == *line));
    let added = found.lines().filter(|line| !expected.lines().any(|other| other == *line));
    let missing = missing.map(|line| format!("- {line}\n"));
    missing.chain(added.map(|line| format!("+ {line}\n"))).take(20).collect()
}
