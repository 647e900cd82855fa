#!/usr/bin/env bash
# Builds both plugins and lays them out for `docker plugin create`: OUTDIR/pgvol and OUTDIR/pglog, each
# with its part of the top-level config.json and a root that holds the binary, the libraries it is
# linked to and, for pgvol, the btrfs tools out of Debian's btrfs-progs: nothing else. The same two
# programs are Docker's client plugins, as OUTDIR/cli-plugins/docker-pgvol and docker-pglog: for the host,
# so without the libraries, which are libc's alone. To install them:
#   install -D -t /usr/local/lib/docker/cli-plugins OUTDIR/cli-plugins/*
# The same files make the same layer: dockerd takes names, owners, modes and times (in whole seconds)
# as they are here, sorts by name and adds nothing. Owners are root's where root packages.
#
# usage: package.sh OUTDIR
#   SOURCE_DATE_EPOCH=0   the time that every file gets
#   PROFILE=dev   another cargo profile than release
#   BIN_DIR=DIR   take pgvol and pglog from there and build nothing
set -euo pipefail
umask 022
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

out=${1:?usage: package.sh OUTDIR}
profile=${PROFILE:-release}

# build: prints the directory that holds the two binaries.
build() {
    need_cargo
    local flags=()
    [ "$profile" != release ] || flags=("${release_flags[@]}")
    (cd "$root" && cargo build --locked --profile "$profile" -p pgvol -p pglog "${flags[@]}" >&2)
    # The profile dev is the one that is not named like its directory.
    (cd "$root" && cargo metadata --format-version 1 --no-deps) |
        jq -r --arg profile "$profile" '.target_directory + "/" + ({dev: "debug"}[$profile] // $profile)'
}

# add ROOTFS FILE TARGET: the file, and the libraries and the loader that it needs.
add() {
    install -D -m 0755 "$2" "$1/$3"
    local library
    # A static binary has none, which ldd calls an error.
    { ldd "$2" || :; } 2>/dev/null | awk '/=> \// { print $3 } $1 ~ /^\// { print $1 }' |
        while read -r library; do install -D -m 0755 "$library" "$1$library"; done
}

# skeleton ROOTFS: the directories that Docker and the plugins mount on, and the least of /etc.
skeleton() {
    install -d -m 0755 "$1"/{dev,etc,host/state,mnt/volumes,proc,run/docker/{plugins,logging},sys,var}
    install -d -m 1777 "$1/tmp"
    ln -s /run "$1/var/run"
    echo 'root:x:0:0:root:/:/sbin/nologin' >"$1/etc/passwd"
    echo 'root:x:0:' >"$1/etc/group"
    # Host names of log destinations: the engine puts the host's resolv.conf beside this.
    printf 'hosts: files dns\n' >"$1/etc/nsswitch.conf"
}

# contents ROOTFS: what is in it, a line for each name, mode and content or target.
contents() {
    (cd "$1" && find . -printf '%P %m %l\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}

# settle DIRECTORY: owners and times that do not depend on who packaged it and when.
settle() {
    [ "$(id -u)" != 0 ] || chown -R --no-dereference 0:0 "$1"
    find "$1" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
}

# package NAME LIMIT_MB TOOL...: one plugin.
package() {
    local name=$1 limit=$2 rootfs=$out/$1/rootfs tool size digest
    rm -rf "${out:?}/$name"
    install -d -m 0755 "$out/$name"
    skeleton "$rootfs"
    add "$rootfs" "$binaries/$name" "$name"
    for tool in "${@:3}"; do
        add "$rootfs" "$(command -v "$tool")" "usr/sbin/$tool"
    done
    # The digest is of all that makes the plugin, in the one field that `docker plugin inspect` shows of
    # any text: by it install.sh knows whether an engine has just this plugin.
    digest=$({ jq -S ".$name" "$root/config.json"; contents "$rootfs"; } | sha256sum)
    jq --arg name "$name" --arg version "$version, ${digest:0:12}" \
        '.[$name] | .description += " (" + $version + ")"' "$root/config.json" >"$out/$name/config.json"
    settle "$out/$name"
    size=$(du -sm --apparent-size "$rootfs" | cut -f1)
    say "$out/$name: $size MB unpacked (at most $limit)"
    # Only what is shipped is held to it: other profiles carry symbols.
    [ "$size" -le "$limit" ] || [ "$profile" != release ] || die "$name is too big"
}

need jq jq
need mkfs.btrfs btrfs-progs
binaries=${BIN_DIR:-$(build)}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
package pgvol 40 mkfs.btrfs btrfs
package pglog 15
rm -rf "$out/cli-plugins"
for name in pgvol pglog; do
    install -D -m 0755 "$binaries/$name" "$out/cli-plugins/docker-$name"
done
settle "$out/cli-plugins"

