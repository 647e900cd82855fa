#!/usr/bin/env bash
# Cuts the power of a machine at random, again and again, while PostgreSQL on a pgvol volume is under
# pgbench's load, and after each boot looks for every transaction that was acknowledged. The machine is
# qemu's with Debian's cloud kernel; what has no docker in it: pgvol is started as dockerd would and asked
# over its socket (see powercut/guest.sh). What was written and not flushed is lost with the power: each
# boot writes to a new qcow2 layer, whose tables qemu holds in memory until the guest flushes.
#
# usage: powercut.sh [CUTS]     (default: 20); as root
#   PROFILE=dev   takes pgvol of another cargo profile than release
#   ACCEL=tcg     software emulation, which works everywhere; kvm is much quicker
#   E2E_CACHE     keeps the Debian root between runs (default: ~/.cache/pgvol-e2e)
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

cuts=${1:-20} accel=${ACCEL:-tcg} profile=${PROFILE:-release}
here=$(cd "$(dirname "$0")" && pwd)
cache=${E2E_CACHE:-$HOME/.cache/pgvol-e2e}
packages=linux-image-cloud-amd64,initramfs-tools,postgresql,btrfs-progs,xfsprogs,curl,kmod,mount,util-linux
# No boot takes as long, on however busy a machine.
boot_limit=${BOOT_LIMIT:-900}
work=$(mktemp -d /var/tmp/pgvol-powercut-XXXXXX)
qemu=
finish() {
    [ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null || :
    rm -rf "$work"
}
trap finish EXIT

# debian_root: prints a directory with a Debian that boots.
debian_root() {
    local key path
    key=$(echo "trixie $packages" | sha256sum)
    path=$cache/powercut-${key:0:16}
    if [ ! -e "$path" ]; then
        need mmdebstrap mmdebstrap debian-archive-keyring
        say "building a Debian root with a kernel"
        mkdir -p "$cache"
        # shellcheck disable=SC2016 # $1 is the root that mmdebstrap hands to each hook
        mmdebstrap --quiet --variant=minbase --mode=root --include="$packages" \
            --essential-hook='mkdir -p "$1/etc/postgresql-common/createcluster.d"' \
            --essential-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.d/image.conf"' \
            --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
            trixie "$path.$$" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >&2
        mv "$path.$$" "$path"
    fi
    echo "$path"
}

# disk: the machine's first disk, $work/0.
disk() {
    local debian=$1 binary
    need_cargo
    (cd "$here/.." && cargo build --locked --profile "$profile" -p pgvol >&2)
    binary=$(cd "$here/.." && cargo metadata --format-version 1 --no-deps | jq -r .target_directory)
    binary=$binary/$([ "$profile" = dev ] && echo debug || echo "$profile")/pgvol
    cp -a --reflink=auto "$debian" "$work/root"
    install -m 0755 "$binary" "$work/root/pgvol"
    install -m 0755 "$here/powercut/guest.sh" "$work/root/powercut"
    cp "$work"/root/boot/vmlinuz-* "$work/vmlinuz"
    cp "$work"/root/boot/initrd.img-* "$work/initrd"
    truncate -s 6G "$work/0"
    mkfs.ext4 -q -d "$work/root" "$work/0"
    rm -rf "$work/root"
}

# boot NUMBER ACKED: starts the machine on a new layer.
boot() {
    local format=qcow2
    [ "$1" != 1 ] || format=raw
    qemu-img create -q -f qcow2 -b "$work/$(($1 - 1))" -F "$format" "$work/$1"
    : >"$work/console"
    : >"$work/acks"
    qemu-system-x86_64 -accel "$accel" -m 1024 -smp 2 -nodefaults -display none -no-reboot \
        -kernel "$work/vmlinuz" -initrd "$work/initrd" \
        -append "root=/dev/vda rw console=ttyS0 quiet panic=-1 init=/powercut powercut.acked=$2" \
        -drive "file=$work/$1,if=virtio,format=qcow2,cache=writeback" \
        -serial "file:$work/console" -serial "file:$work/acks" &
    qemu=$!
}

# wait_verified: until the machine has found all that was acknowledged.
wait_verified() {
    local waited
    for ((waited = 0; waited < boot_limit; waited++)); do
        ! grep -q '^VERIFIED' "$work/console" || return 0
        if grep -q '^FAILED' "$work/console" || ! kill -0 "$qemu" 2>/dev/null; then break; fi
        sleep 1
    done
    tail -n 40 "$work/console" >&2
    return 1
}

# wait_acks COUNT: until so many inserts are acknowledged.
wait_acks() {
    local waited
    for ((waited = 0; waited < boot_limit; waited++)); do
        [ "$(wc -l <"$work/acks")" -lt "$1" ] || return 0
        sleep 1
    done
    return 1
}

# last_acked BEFORE: the last number that was acknowledged as a whole line.
last_acked() { { echo "$1"; tr -d '\r' <"$work/acks" | sed '$ d' | grep -E '^[0-9]+$' || :; } | tail -n 1; }

need jq jq
need qemu-img qemu-utils
need qemu-system-x86_64 qemu-system-x86
need mkfs.ext4 e2fsprogs
disk "$(debian_root)"
acked=0 passed=0 failed=0
for ((round = 1; round <= cuts + 1; round++)); do
    boot "$round" "$acked"
    if ! wait_verified; then
        failed=1
        say "boot $round FAILED"
        break
    fi
    [ "$round" = 1 ] || passed=$((passed + 1))
    say "boot $round: $(grep '^VERIFIED' "$work/console" | tr -d '\r')"
    [ "$round" -le "$cuts" ] || break
    # However slow the machine, there is something to lose.
    wait_acks 20 || { failed=1; say "boot $round FAILED: nothing is acknowledged"; break; }
    seconds=$((RANDOM % 15))
    sleep "$seconds.$((RANDOM % 1000))"
    kill -KILL "$qemu"
    wait "$qemu" 2>/dev/null || :
    qemu=
    acked=$(last_acked "$acked")
    say "power cut $round, after $seconds s of load: $acked acknowledged"
done
say "the power was cut $passed times at random under load; every acknowledged transaction was there: $acked"
echo "test result: $([ "$failed" = 0 ] && echo ok || echo FAILED). $passed passed; $failed failed;"
[ "$failed" = 0 ]
