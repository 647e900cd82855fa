# shellcheck shell=bash
# Building for another architecture than this machine's, in a Debian root that has a compiler and a
# linker of this one, libraries and file system tools of the other, and qemu to run them. To be sourced.
# Needs root. What was tried is arm64 on amd64.

# shellcheck source=scripts/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

# A release whose compiler is new enough for the workspace; in this one, as rustc-web.
cross_suite=trixie

# cross_names ARCH: sets what others call it, and its loader.
cross_names() {
    case $1 in
        amd64) cpu=x86_64 elf_machine='\x3e' loader=/lib64/ld-linux-x86-64.so.2 ;;
        arm64) cpu=aarch64 elf_machine='\xb7' loader=/lib/ld-linux-aarch64.so.1 ;;
        *) die "ARCH=$1 is not known: amd64 or arm64" ;;
    esac
    triplet=$cpu-linux-gnu rust_target=$cpu-unknown-linux-gnu
}

# host_architecture: this machine's, as Docker and Debian call it.
host_architecture() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) uname -m ;;
    esac
}

# cross_root ARCH: makes the root unless an earlier run has; sets $sysroot.
cross_root() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/pgvol-cross packages unpack key
    cross_names "$1"
    [ "$(id -u)" = 0 ] || die "please run it as root: what is for $1 is built in a Debian root"
    need mmdebstrap mmdebstrap debian-archive-keyring
    need unshare util-linux
    packages=cargo-web,rustc-web,libstd-rust-web-dev:$1,gcc-${triplet//_/-},libc6-dev:$1,btrfs-progs:$1,libinih1:$1,liburcu8t64:$1,qemu-user
    # Whose package asks for a Python of its own architecture, which does not run here.
    unpack="cd /tmp; apt-get --quiet download xfsprogs:$1; dpkg -x xfsprogs_*.deb /; rm xfsprogs_*.deb"
    key=$(echo "$cross_suite $(host_architecture) $packages $unpack" | sha256sum)
    sysroot=$cache/${key:0:16}
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    if [ ! -e "$sysroot" ]; then
        say "building a $cross_suite root with ${packages//,/ }: 2 GB, in $cache"
        rm -rf "$cache"/*.part
        # Of qemu's two dozen programs only the one.
        mmdebstrap --quiet --variant=apt --architectures="$(host_architecture),$1" --include="$packages" \
            --dpkgopt='path-exclude=/usr/bin/qemu-*' --dpkgopt="path-include=/usr/bin/qemu-$cpu" \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --customize-hook="chroot \"\$1\" sh -euc '$unpack'" \
            "$cross_suite" "$sysroot.part" >&2
        mv "$sysroot.part" "$sysroot"
    fi
    exec 9>&-
}

# cross_build PROFILE TARGET_DIR: prints the directory that holds the two binaries. The sources of the
# crates are those that this machine's cargo fetches; the root needs no network.
cross_build() {
    (cd "$root" && cargo fetch --quiet --locked --target "$rust_target" >&2)
    mkdir -p "$2" "$sysroot"/{src,target,cargo}
    # The mounts are this process's own.
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --propagation private bash -euc '
        mount --bind -o ro "$1" "$0/src"
        mount --bind "$2" "$0/target"
        mount --bind "$3" "$0/cargo"
        mount -t proc proc "$0/proc"
        shift 3
        exec chroot "$0" env -i HOME=/root PATH=/usr/bin:/bin CARGO_HOME=/cargo CARGO_TARGET_DIR=/target "$@"' \
        "$sysroot" "$root" "$2" "${CARGO_HOME:-$HOME/.cargo}" \
        "CARGO_TARGET_$(tr a-z- A-Z_ <<<"$rust_target")_LINKER=$triplet-gcc" "CC_${rust_target//-/_}=$triplet-gcc" \
        cargo build --offline --locked --profile "$1" \
        --manifest-path /src/Cargo.toml --target "$rust_target" -p pgvol -p pglog >&2
    echo "$2/$rust_target/$(profile_directory "$1")"
}

# cross_linked FILE: what it is linked to, as ldd prints it, by its own loader.
cross_linked() {
    local copy
    copy=$(mktemp "$sysroot/tmp/XXXXXX")
    install -m 0755 "$1" "$copy"
    chroot "$sysroot" "qemu-$cpu" "$loader" --list "${copy#"$sysroot"}"
    rm "$copy"
}

# with_qemu COMMAND...: with a kernel that runs programs of the other architecture, which it is told by a
# mount that goes with the command. While it runs that holds for the whole machine.
with_qemu() {
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --propagation private bash -euc '
        mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        # As binfmt_misc has it: the head of an executable, and which of its bits count. F keeps the
        # interpreter open, so that it is found in every root.
        head="\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00$1\x00"
        bits="\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
        [ -e "/proc/sys/fs/binfmt_misc/qemu-$2" ] ||
            printf %s ":pgvol-$2-$$:M::$head:$bits:$3/usr/bin/qemu-$2:F" >/proc/sys/fs/binfmt_misc/register
        shift 3
        exec "$@"' with_qemu "$elf_machine" "$cpu" "$sysroot" "$@"
}
