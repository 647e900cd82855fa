#!/usr/bin/env bash
# Runs unit tests of pgvol on the kernel of Debian 12, which has no simple quotas of btrfs, in a machine of
# qemu: what shares may hold is counted another way there.
#
# usage: oldkernel.sh [FILTER]     (default: image_limits); as root
#   ACCEL, E2E_CACHE   see machine.sh
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
answer_help "$@"
# shellcheck source=scripts/machine.sh
. "$(dirname "$0")/machine.sh"

filter=${1:-image_limits}
work=$(mktemp -d /var/tmp/pgvol-oldkernel-XXXXXX)
trap 'rm -rf "$work"' EXIT

need_cargo
tests=$(cd "$root" && cargo test --locked -p pgvol --lib --no-run --message-format=json |
    jq -r 'select(.reason == "compiler-artifact" and .profile.test).executable')
cat >"$work/guest.sh" <<EOF
#!/bin/bash
exec </dev/null >/dev/ttyS0 2>&1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
modprobe loop
modprobe btrfs
uname -r
/tests --color=never --test-threads=1 '$filter'
echo o >/proc/sysrq-trigger
sleep infinity
EOF
install -m 0755 "$tests" "$work/tests"
machine_disk "$(machine_root bookworm btrfs-progs,xfsprogs)" 12G "$work/tests" "$work/guest.sh"
(machine /guest.sh "file=$work/0,format=raw" -serial "file:$work/console")
tr -d '\r' <"$work/console"
grep -q '^test result: ok. [1-9]' "$work/console"
