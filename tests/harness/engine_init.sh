#!/bin/bash
# First process of an engine: makes the root in the namespaces that unshare has just
# made, says "ready" and then only reaps what the engine leaves behind.
# Usage: engine_init.sh ROOT WORK PLUGINS
set -euo pipefail
root=$1 work=$2 plugins=$3
new=$work/root

mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/overlay" "$new"
mount -t proc proc "$new/proc"
# Mounted here, it shows the interfaces of this network namespace.
mount -t sysfs sysfs "$new/sys"
mount --rbind /sys/fs/cgroup "$new/sys/fs/cgroup"
mount --rbind /dev "$new/dev"
mount -t tmpfs tmpfs "$new/run"
mount -t tmpfs tmpfs "$new/tmp"
# A directory of the machine's own file system: overlay2 and image pools need a real one.
mount --bind "$work/var-lib" "$new/var/lib"
if [ -d "$plugins" ]; then
  mount --bind -o ro "$plugins" "$new/srv"
fi
mkdir -p "$new/old"
cd "$new"
pivot_root . old
umount -l /old
# As systemd does it on a real host: what plugins mount must be able to propagate.
mount --make-rshared /
ip link set lo up
echo ready

trap : TERM
while :; do
  sleep infinity &
  # Also a signal ends the wait, which is no failure.
  wait $! || true
done
