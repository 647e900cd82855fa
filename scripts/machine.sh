# shellcheck shell=bash
# A Debian with its kernel that boots in qemu, for what the host's kernel cannot show. Sourced after
# lib.sh; $work is the caller's scratch directory.
#   ACCEL=tcg     software emulation, which works everywhere; kvm is much quicker
#   E2E_CACHE     keeps the Debian roots between runs (default: ~/.cache/pgvol-e2e)

cache=${E2E_CACHE:-$HOME/.cache/pgvol-e2e}

# machine_root SUITE PACKAGES: prints a directory with Debian's SUITE, a kernel and these packages.
machine_root() {
    local key path packages=linux-image-cloud-amd64,initramfs-tools,kmod,mount,util-linux,$2
    key=$(echo "$1 $packages" | sha256sum)
    path=$cache/machine-$1-${key:0:16}
    if [ ! -e "$path" ]; then
        need mmdebstrap mmdebstrap debian-archive-keyring
        say "building a Debian root with a kernel"
        mkdir -p "$cache"
        # shellcheck disable=SC2016 # $1 is the root that mmdebstrap hands to each hook
        mmdebstrap --quiet --variant=minbase --mode=root --include="$packages" \
            --essential-hook='mkdir -p "$1/etc/postgresql-common/createcluster.d"' \
            --essential-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.d/image.conf"' \
            --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
            "$1" "$path.$$" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >&2
        mv "$path.$$" "$path"
    fi
    echo "$path"
}

# shellcheck disable=SC2154 # $work is set by whoever sources this
# machine_disk ROOT SIZE FILE...: the first disk, $work/0, of SIZE, with the root's content and these
# programs at its top; kernel and initial ramdisk beside it.
machine_disk() {
    local root=$1 size=$2
    shift 2
    cp -a --reflink=auto "$root" "$work/root"
    install -m 0755 -t "$work/root" "$@"
    cp "$work"/root/boot/vmlinuz-* "$work/vmlinuz"
    cp "$work"/root/boot/initrd.img-* "$work/initrd"
    truncate -s "$size" "$work/0"
    mkfs.ext4 -q -d "$work/root" "$work/0"
    rm -rf "$work/root"
}

# machine INIT DRIVE OPTION...: runs the machine until it ends, with INIT as its first process.
machine() {
    local init=$1 drive=$2
    shift 2
    exec qemu-system-x86_64 -accel "${ACCEL:-tcg}" -m 1024 -smp 2 -nodefaults -display none -no-reboot \
        -kernel "$work/vmlinuz" -initrd "$work/initrd" \
        -append "root=/dev/vda rw console=ttyS0 quiet panic=-1 init=$init" \
        -drive "$drive,if=virtio,cache=writeback" "$@"
}

need jq jq
need qemu-img qemu-utils
need qemu-system-x86_64 qemu-system-x86
need mkfs.ext4 e2fsprogs
