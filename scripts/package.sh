#!/usr/bin/env bash
# Builds both plugins and lays them out for `docker plugin create`: OUTDIR/pgvol and OUTDIR/pglog, each
# with its part of the top-level config.json and a root that holds the binary, the libraries it is
# linked to and, for pgvol, what makes file systems, out of Debian's btrfs-progs and xfsprogs: nothing else.
# The same two
# programs are Docker's client plugins, as OUTDIR/cli-plugins/docker-pgvol and docker-pglog: for the host,
# so without the libraries, which are libc's alone. To install them:
#   install -D -t /usr/local/lib/docker/cli-plugins OUTDIR/cli-plugins/*
# The same files make the same layer: dockerd takes names, owners, modes and times (in whole seconds)
# as they are here, sorts by name and adds nothing. Owners are root's where root packages.
#
# usage: package.sh OUTDIR
#   SOURCE_DATE_EPOCH=0   the time that every file gets
#   ARCH=arm64    for another architecture than this machine's: built in a Debian root (see cross.sh)
#   PROFILE=dev   another cargo profile than release
#   FEATURES=pgvol/failpoints   for tests, see CONTRIBUTING.md
#   BIN_DIR=DIR   take pgvol and pglog from there and build nothing
set -euo pipefail
umask 022
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/cross.sh
. "$(dirname "$0")/cross.sh"

answer_help "$@"
out=${1:?usage: package.sh OUTDIR}
profile=${PROFILE:-release}
# Where the libraries and tools of the plugins are: this machine's, or those of a root.
sysroot=

# profile_directory PROFILE: dev is the one that is not named like its directory.
profile_directory() { if [ "$1" = dev ]; then echo debug; else echo "$1"; fi; }

# build: prints the directory that holds the two binaries.
build() {
    local flags=() target
    need_cargo
    target=$(cd "$root" && cargo metadata --format-version 1 --no-deps | jq -r .target_directory)
    if [ -n "$sysroot" ]; then
        cross_build "$profile" "$target/$arch"
        return
    fi
    [ "$profile" != release ] || flags=("${release_flags[@]}")
    [ -z "${FEATURES:-}" ] || flags+=(--features "$FEATURES")
    (cd "$root" && cargo build --locked --profile "$profile" -p pgvol -p pglog "${flags[@]}" >&2)
    echo "$target/$(profile_directory "$profile")"
}

# linked FILE: what it is linked to. A static one has nothing, which ldd calls an error.
linked() {
    if [ -n "$sysroot" ]; then cross_linked "$1"; else ldd "$1" 2>/dev/null || :; fi
}

# add ROOTFS FILE TARGET: the file, and the libraries and the loader that it needs.
add() {
    install -D -m 0755 "$2" "$1/$3"
    local library
    linked "$2" | awk '/=> \// { print $3 } $1 ~ /^\// { print $1 }' |
        while read -r library; do install -D -m 0755 "$sysroot$library" "$1$library"; done
}

# tool NAME: where it is.
tool() {
    if [ -z "$sysroot" ]; then command -v "$1"; else ls "$sysroot"/usr/*bin/"$1"; fi
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
    local name=$1 limit=$2 rootfs=$out/$1/rootfs tool size digest release
    # What a plugin keeps is in a directory of its name too.
    [ ! -e "$out/$name" ] || [ -d "$rootfs" ] || die "$out/$name is there and no package: choose another directory"
    rm -rf "${out:?}/$name"
    install -d -m 0755 "$out/$name"
    skeleton "$rootfs"
    add "$rootfs" "$binaries/$name" "$name"
    for tool in "${@:3}"; do
        add "$rootfs" "$(tool "$tool")" "usr/sbin/$tool"
    done
    # The digest is of all that makes the plugin, in the one field that `docker plugin inspect` shows of
    # any text: by it install.sh knows whether an engine has just this plugin. It is in the root too, for
    # an engine takes the same root only once, and another configuration alone would not be an upgrade.
    digest=$({ jq -S ".$name" "$root/config.json"; contents "$rootfs"; } | sha256sum)
    release="$version, ${digest:0:12}"
    echo "$release" >"$rootfs/etc/release"
    jq --arg name "$name" --arg release "$release" \
        '.[$name] | .description += " (" + $release + ")"' "$root/config.json" >"$out/$name/config.json"
    settle "$out/$name"
    size=$(du -sm --apparent-size "$rootfs" | cut -f1)
    say "$out/$name: $size MB unpacked (at most $limit)"
    # Only what is shipped is held to it: other profiles carry symbols.
    [ "$size" -le "$limit" ] || [ "$profile" != release ] || die "$name is too big"
}

need jq jq
arch=${ARCH:-$(host_architecture)}
if [ "$arch" = "$(host_architecture)" ]; then need mkfs.btrfs btrfs-progs; need mkfs.xfs xfsprogs; else cross_root "$arch"; fi
binaries=${BIN_DIR:-$(build)}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
package pgvol 40 mkfs.btrfs btrfs mkfs.xfs
package pglog 15
for name in pgvol pglog; do
    install -D -m 0755 "$binaries/$name" "$out/cli-plugins/docker-$name"
    settle "$out/cli-plugins/docker-$name"
done

