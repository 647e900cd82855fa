#!/bin/sh
# Runs in a container on a clone that nobody else has, as the owner of the cluster: starts its server,
# waits until it has recovered and answers, looks for damage unless it is only to be prepared, and stops
# it. Prints a line for each thing that is known, `KIND WORDS`, for trial/report.rs. Whoever asked holds
# standard input open; when it ends everything here does.
#
# usage: server.sh verify|prepare      PGDATA: the cluster; PGUSER: who is most likely a superuser
set -u
exec 3<&0 </dev/null
trap 'exit 130' TERM
(cat <&3 >/dev/null; kill -TERM 1; kill -KILL -1) >/dev/null 2>&1 &
exec 3<&-

work=/run/pgvol-trial
log=$work/log
export LC_ALL=C PGHOST=$work PGPORT=5432 PGDATABASE=template1 PGCONNECT_TIMEOUT=60
export PGOPTIONS='-c client_min_messages=warning -c statement_timeout=0 -c lock_timeout=0 -c search_path=pg_catalog'
unset PGPASSWORD PGSERVICE PGHOSTADDR

say() { printf '%s\n' "$*"; }
# What was read, in one line and not long.
line() { head -c 1500 | tr '\n\t' '; '; }
# Nothing more can be found out.
give_up() {
    say "$*"
    exit 0
}

version=$(head -n 1 "$PGDATA/PG_VERSION" 2>/dev/null) || give_up "absent $PGDATA"
PATH=/usr/lib/postgresql/$version/bin:$PATH:/usr/pgsql-$version/bin:/usr/local/pgsql/bin
found=$(postgres -V 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([0-9]*\).*/\1/p')
[ -n "$found" ] || give_up "program none"
[ "$found" = "$version" ] || give_up "program $found"

# What recovery needs as large as it was: the original may have had it on its command line.
control() { pg_controldata "$PGDATA" | sed -n "s/^$1: *//p"; }

# start OPTION...: starts the server and waits until it takes connections.
start() {
    postgres -D "$PGDATA" -c data_directory="$PGDATA" -c hba_file=$work/hba -c ident_file=$work/ident \
        -c external_pid_file= -c listen_addresses= -c unix_socket_directories=$work -c port=5432 \
        -c ssl=off -c logging_collector=off -c log_destination=stderr -c log_min_messages=warning \
        -c log_line_prefix='%m [%p] ' -c log_statement=none -c log_min_error_statement=panic \
        -c lc_messages=C -c autovacuum=off -c max_worker_processes=0 -c restart_after_crash=off \
        -c shared_buffers=128MB -c huge_pages=off -c archive_mode=off \
        -c max_connections="$(control 'max_connections setting')" \
        -c max_prepared_transactions="$(control 'max_prepared_xacts setting')" \
        -c max_locks_per_transaction="$(control 'max_locks_per_xact setting')" \
        -c track_commit_timestamp="$(control 'track_commit_timestamp setting')" \
        "$@" >>$log 2>&1 &
    server=$!
    until [ "$(sed -n '8s/ *$//p' "$PGDATA/postmaster.pid" 2>/dev/null)" = ready ]; do
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.1
    done
}

stop() {
    kill -INT "$server"
    wait "$server"
}

query() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
is_superuser() { [ "$(query -c 'SELECT rolsuper FROM pg_roles WHERE rolname = current_user' 2>/dev/null)" = t ]; }
# The one that initdb made has this number whatever it is called, and a server alone asks for no name.
first_superuser() {
    echo 'SELECT rolname FROM pg_authid WHERE oid = 10' |
        postgres --single -D "$PGDATA" -c data_directory="$PGDATA" template1 2>/dev/null |
        sed -n 's/^.* rolname = "\(.*\)"[[:space:]]*(typeid.*/\1/p'
}

# Databases that can be connected to, one a line.
databases() { query -c 'SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1'; }

# Every btree index of a database, where there is no pg_amcheck.
INDEXES="SELECT count(bt_index_check(c.oid, true)) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relkind = 'i'
    AND c.relpersistence <> 't' AND i.indisready AND i.indisvalid"
PLACE="SELECT set_config('search_path', quote_ident(nspname) || ', pg_catalog', false)
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'amcheck'"

# check_databases: looks for damage; what is wrong is printed.
check_databases() {
    databases >$work/databases || return 1
    while IFS= read -r PGDATABASE; do
        query -c 'CREATE EXTENSION IF NOT EXISTS amcheck WITH SCHEMA pg_catalog' \
            -c 'ALTER EXTENSION amcheck UPDATE' || return 1
        [ $tool = bt_index_check ] || continue
        query -c "$PLACE" -c "$INDEXES" >/dev/null || return 1
    done <$work/databases
    PGDATABASE=template1
    [ $tool = bt_index_check ] || pg_amcheck --all --heapallindexed
}

amcheck() {
    have=$(query -c "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'")
    if [ "$have" = 0 ]; then
        say "not-possible amcheck the image has no extension amcheck"
        return
    fi
    tool=bt_index_check
    if [ "$version" -ge 14 ] && command -v pg_amcheck >/dev/null; then tool=pg_amcheck; fi
    if check_databases >$work/damage 2>&1; then
        count=$(wc -l <$work/databases)
        say "passed amcheck $tool with heapallindexed found nothing in $((count)) databases"
    else
        say "failed amcheck $tool: $(line <$work/damage)"
    fi
}

printf 'local all all trust\n' >$work/hba
: >$work/ident
task=$1
set --
if [ ! -e "$PGDATA/postgresql.conf" ]; then
    : >$work/conf
    set -- -c config_file=$work/conf
fi
if [ "$version" -ge 17 ]; then
    set -- "$@" -c event_triggers=off
    PGOPTIONS="$PGOPTIONS -c transaction_timeout=0"
fi
# What is thrown away need not be on the disk.
if [ "$task" = verify ]; then set -- "$@" -c fsync=off; fi

say starting
start "$@" || give_up "failed start $(tail -n 12 $log | line)"
say answered
if [ "$task" = verify ]; then
    if ! is_superuser; then
        stop
        PGUSER=$(first_superuser)
        export PGUSER
        if ! start "$@" || ! is_superuser; then
            give_up "failed start no superuser can be found: $(tail -n 12 $log | line)"
        fi
    fi
    amcheck
fi
stop || give_up "failed start the server does not end cleanly: $(tail -n 12 $log | line)"
state=$(control 'Database cluster state')
[ "$state" = 'shut down' ] || give_up "failed start the server left the cluster as: $state"
say stopped
# Ours, when it was asked for a name, and when it was stopped while a session of ours was still ending.
ours=' FATAL:  (role ".*" does not exist|terminating connection due to administrator command)$'
errors=$(grep -E '^[^[]*\[[0-9]+\] (ERROR|FATAL|PANIC): ' $log | grep -Ev "$ours")
if [ -z "$errors" ]; then
    say "passed log no errors"
else
    say "failed log $(printf '%s\n' "$errors" | head -n 5 | line)"
fi
