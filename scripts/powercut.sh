#!/usr/bin/env bash
# Cuts the power of a machine at random, again and again, while PostgreSQL on a pgvol volume is under
# pgbench's load, and after each boot looks for every transaction that was acknowledged. The machine is
# qemu's with Debian's cloud kernel; what has no docker in it: pgvol is started as dockerd would and asked
# over its socket (see powercut/guest.sh). What was written and not flushed is lost with the power: each
# boot writes to a new qcow2 layer, whose tables qemu holds in memory until the guest flushes.
#
# usage: powercut.sh [CUTS]     (default: 20); as root
#   PROFILE=dev   takes pgvol of another cargo profile than release
#   ACCEL, E2E_CACHE   see machine.sh
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
answer_help "$@"
# shellcheck source=scripts/machine.sh
. "$(dirname "$0")/machine.sh"

cuts=${1:-20} profile=${PROFILE:-release}
# No boot takes as long, on however busy a machine.
boot_limit=${BOOT_LIMIT:-900}
work=$(mktemp -d /var/tmp/pgvol-powercut-XXXXXX)
qemu=
finish() {
    [ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null || :
    rm -rf "$work"
}
trap finish EXIT

# boot NUMBER ACKED: starts the machine on a new layer.
boot() {
    local format=qcow2
    [ "$1" != 1 ] || format=raw
    qemu-img create -q -f qcow2 -b "$work/$(($1 - 1))" -F "$format" "$work/$1"
    : >"$work/console"
    : >"$work/acks"
    machine "/guest.sh powercut.acked=$2" "file=$work/$1,format=qcow2" \
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

need_cargo
(cd "$root" && cargo build --locked --profile "$profile" -p pgvol >&2)
target=$(cd "$root" && cargo metadata --format-version 1 --no-deps | jq -r .target_directory)
binary=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")/pgvol
machine_disk "$(machine_root trixie postgresql,btrfs-progs,xfsprogs,curl)" 6G "$binary" "$root/scripts/powercut/guest.sh"
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
