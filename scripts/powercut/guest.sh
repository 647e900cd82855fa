#!/bin/bash
# First process of the machine of powercut.sh: pgvol with a real server on a volume of layout pgdata.
# Says what it finds on the first serial line; on the second one psql prints each number whose insert was
# acknowledged. It never ends by itself: its power is cut.
set -euo pipefail
exec </dev/null >/dev/ttyS0 2>&1
programs=(/usr/lib/postgresql/*/bin)
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:${programs[0]}
trap 'echo "FAILED in line $LINENO"; sleep infinity' ERR

mount -t proc proc /proc
mount -t sysfs sysfs /sys
for directory in /run /tmp; do mount -t tmpfs tmpfs "$directory"; done
modprobe loop
modprobe btrfs
# As the engine has it: what pgvol mounts below /mnt/volumes reaches this namespace.
mount --make-rprivate /
mkdir -p /host/state /mnt/volumes /run/docker/plugins
install -d -o postgres /run/postgresql
mount --bind /mnt/volumes /mnt/volumes
mount --make-shared /mnt/volumes
POOL_SIZE=1G unshare --mount --propagation unchanged /pgvol serve &

# call CALL BODY: what pgvol answers, which must be no error.
call() {
    local answer
    answer=$(curl --silent --show-error --retry 60 --retry-all-errors --retry-delay 1 \
        --unix-socket /run/docker/plugins/pgvol.sock --data "$2" "http://pgvol/$1")
    [[ $answer != *'"Err":"'?* ]] || { echo "$1: $answer"; return 1; }
    echo "$answer"
}
sql() { setpriv --reuid=postgres --regid=postgres --clear-groups psql -XAtq -v ON_ERROR_STOP=1 "$@" postgres; }
as_server() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
acked=$(sed -n 's/.*powercut.acked=\([0-9]*\).*/\1/p' /proc/cmdline)

call VolumeDriver.Create "{\"Name\":\"db\",\"Opts\":{\"layout\":\"pgdata\",\"uid\":\"$(id -u postgres)\"}}"
call VolumeDriver.Mount '{"Name":"db","ID":"server"}'
data=/mnt/volumes/db
if [ ! -e "$data/PG_VERSION" ]; then
    as_server initdb --no-instructions "$data" >/dev/null
    as_server pg_ctl -D "$data" -w -t 900 -l /tmp/server.log start
    sql -c 'CREATE TABLE numbers (n bigint PRIMARY KEY)' -c 'CREATE EXTENSION amcheck'
    as_server pgbench -i -q -s 3 postgres
    as_server pg_ctl -D "$data" -w -t 900 -m fast stop
    # Cleanly stopped: the next mount moves the WAL.
    call VolumeDriver.Unmount '{"Name":"db","ID":"server"}'
    call VolumeDriver.Mount '{"Name":"db","ID":"server"}'
fi
mountpoint -q "$data/pg_wal" || { echo "FAILED: the WAL was not moved"; sleep infinity; }
as_server pg_ctl -D "$data" -w -t 900 -l /tmp/server.log start || { cat /tmp/server.log; false; }
there=$(sql -c "SELECT count(*) FROM numbers WHERE n <= $acked")
[ "$there" = "$acked" ] || { echo "FAILED: $acked were acknowledged, $there are there"; sleep infinity; }
sums=$(sql -c 'SELECT (SELECT coalesce(sum(delta), 0) FROM pgbench_history) = ALL (ARRAY[
    (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
    (SELECT sum(bbalance) FROM pgbench_branches)])')
[ "$sums" = t ] || { echo "FAILED: balances and history do not agree"; sleep infinity; }
sql -c "SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
    WHERE c.relname IN ('numbers_pkey', 'pgbench_accounts_pkey')" >/dev/null
state=$(call Pgvol.List '{}')
[[ $state = *'"state":"ok"'* && $(losetup --list --noheadings | wc -l) = 1 ]] || { echo "FAILED: $state"; sleep infinity; }
last=$(sql -c 'SELECT coalesce(max(n), 0) FROM numbers')
echo "VERIFIED $acked of $last, and $(sql -c 'SELECT count(*) FROM pgbench_history') of pgbench"
# -n, or pgbench would begin by emptying its history.
as_server pgbench -n -c 4 -j 2 -T 3600 postgres >/dev/null 2>&1 &
seq -f 'INSERT INTO numbers VALUES (%.0f) RETURNING n;' "$((last + 1))" 1000000000 | sql >/dev/ttyS1 || :
echo "FAILED: the writer ended"
sleep infinity
