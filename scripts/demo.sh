# shellcheck shell=bash
# The steps of quickstart.sh after the engine: image, plugins, a server with data, and their removal.
# To be sourced.

# shellcheck source=scripts/engine.sh
. "${BASH_SOURCE[0]%/*}/engine.sh"
# shellcheck source=scripts/plugin.sh
. "${BASH_SOURCE[0]%/*}/plugin.sh"

name=pgvol-quickstart # of the container, the volume and the image; the clone has an ending more

sql() { sql_on "$name" "$@"; }

# sql_on CONTAINER ARGUMENTS...
sql_on() { docker exec "$1" psql -X -U postgres "${@:2}"; }

# bring_image: the official image, or where no registry answers its like. Sets $image.
bring_image() {
    for image in postgres:17 "$name/postgres:17"; do
        docker image inspect "$image" >/dev/null 2>&1 && return
    done
    image=postgres:17
    if timeout 900 "${docker_command[@]}" pull "$image" 2>"$state/pull-error"; then
        touch "$state/pulled-image"
        return
    fi
    say "cannot pull $image: $(tail -n 1 "$state/pull-error")"
    say "building its like out of Debian packages instead: about a minute the first time"
    image=$name/postgres:17
    as_root env INSTALLED_LOG="$INSTALLED_LOG" \
        "$root/scripts/postgres-image/build.sh" "$state/postgres.tar" "$state/cache"
    DOCKER=${docker_command[*]} "$root/scripts/postgres-image/import.sh" "$state/postgres.tar" "$image"
}

remove_image() {
    docker image rm "$name/postgres:17" >/dev/null 2>&1 || :
    [ ! -e "$state/pulled-image" ] || docker image rm postgres:17 >/dev/null 2>&1 || :
}

# install_plugins: as on any engine, and notes what was not there before: that is --clean's to remove.
install_plugins() {
    local plugin
    for plugin in pgvol pglog; do
        docker plugin inspect "$plugin" >/dev/null 2>&1 || touch "$state/own-$plugin"
        as_root test -e "/var/lib/$plugin" || touch "$state/own-$plugin-state"
        [ -e "$client_plugins/docker-$plugin" ] || touch "$state/own-$plugin-client"
    done
    PACKAGES=$state/package "$root/scripts/install.sh"
}

# clean_plugin NAME: what install_plugins noted, unless a volume or a running container that is not ours
# needs it.
clean_plugin() {
    local others
    [ ! -e "$state/own-$1-client" ] || as_root rm -f "$client_plugins/docker-$1"
    [ -e "$state/own-$1" ] || return 0
    if installed "$1"; then
        if [ -n "$(docker volume ls -q -f "driver=$1:latest")" ] ||
            { [ "$(docker plugin inspect -f '{{.Enabled}}' "$1")" = true ] && ! docker plugin disable "$1" >/dev/null; }; then
            say "$1 is in use by volumes or containers that are not quickstart's: it stays as it is"
            return
        fi
        docker plugin rm "$1" >/dev/null
    fi
    [ -e "$state/own-$1-state" ] || return 0
    others=$(as_root find "/var/lib/$1/catalog" "/var/lib/$1/journals" -mindepth 1 -maxdepth 1 2>/dev/null |
        grep -vFf "$state/containers" | grep -v "/catalog/${name}\(-clone\)\?[.~@]") || :
    if [ -n "$others" ]; then
        say "/var/lib/$1 holds what is not quickstart's: it stays"
    else
        as_root rm -rf "/var/lib/${1:?}"
    fi
}

start_postgres() {
    docker volume create -d pgvol -o tablespaces=fast "$name"
    docker run -d --name "$name" --shm-size 256m --log-driver pglog --log-opt max-size=20m \
        -v "$name:/pg" -e PGDATA=/pg/data -e POSTGRES_INITDB_WALDIR=/pg/wal \
        -e POSTGRES_PASSWORD=quickstart "$image" >>"$state/containers"
    wait_for_postgres "$name"
}

# wait_for_postgres CONTAINER: over TCP, where the server that initialises the cluster does not listen.
wait_for_postgres() {
    local seconds
    for ((seconds = 0; seconds < 60; seconds++)); do
        docker exec "$1" pg_isready -q -h 127.0.0.1 -U postgres && return
        [ "$(docker inspect -f '{{.State.Running}}' "$1")" = true ] || break
        sleep 1
    done
    docker logs --tail 20 "$1" >&2 || :
    die "PostgreSQL did not start; its last words are above"
}

load_data() {
    sql -q -c "CREATE TABLESPACE fast LOCATION '/pg/tablespaces/fast'"
    docker exec "$name" pgbench -U postgres -i -q -s 10 --tablespace=fast postgres 2>&1 | tail -n 1
    docker exec "$name" pgbench -U postgres -n -c 4 -j 2 -T 5 postgres | grep -E '^(number of trans|latency|tps)'
    sql -q -c CHECKPOINT
}

show_status() { docker volume inspect -f '{{json .Status}}' "$name" | jq -r 'to_entries[] | "\(.key): \(.value)"'; }

show_logs() { docker logs --tail 4 "$name"; }

# clone_under_load: a snapshot while clients write, a clone of it, and a second server on that. The clone
# has all that was committed before, and balances that agree.
clone_under_load() {
    local before rows agree tries=0
    docker exec -d "$name" pgbench -U postgres -n -c 4 -T 600 postgres
    until [ "$(sql -At -c "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'pgbench'")" = t ]; do
        [ $((tries += 1)) -le 300 ] || die "pgbench does not start in the container $name"
        sleep 0.2
    done
    before=$(sql -At -c 'SELECT count(*) FROM pgbench_history')
    docker volume create -d pgvol -o snapshot=now "$name@first"
    docker volume create -d pgvol -o from="$name@first" "$name-clone"
    docker volume inspect -f '{{json .Status.snapshot}}' "$name@first" |
        jq -r '"the snapshot is \(.consistency) and took \(.took_ms) ms; checks: \([.checks[].name] | join(", "))"'
    docker run -d --name "$name-clone" -v "$name-clone:/pg" -e PGDATA=/pg/data "$image" >>"$state/containers"
    wait_for_postgres "$name-clone"
    rows=$(sql_on "$name-clone" -At -c 'SELECT count(*) FROM pgbench_history')
    agree=$(sql_on "$name-clone" -At -c 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)')
    [ "$rows" -ge "$before" ] || die "$before rows were committed before the snapshot, the clone has $rows"
    [ "$agree" = t ] || die "balances and history of the clone do not agree"
    sql -q -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'" >/dev/null
    printf 'the clone has all %s rows from before the snapshot, and its balances agree\n' "$before"
    printf 'the original went on, and has %s rows by now\n' "$(sql -At -c 'SELECT count(*) FROM pgbench_history')"
}

# fingerprint: what must be the same after the restart.
fingerprint() {
    sql -At -c "SELECT 'accounts ' || count(*) || ', sum of balances ' || sum(abalance) FROM pgbench_accounts" \
        -c "SELECT 'history rows ' || count(*) FROM pgbench_history"
}

restart_and_compare() {
    local before after
    before=$(fingerprint)
    docker restart "$name" >/dev/null
    wait_for_postgres "$name"
    after=$(fingerprint)
    [ "$before" = "$after" ] || die "the data is not what it was: before: $before; after: $after"
    printf 'the same as before the restart:\n%s\n' "$after"
}

# remove_demo: what an earlier run left, past the trash. The snapshot would go with its volume, but Docker
# would count it as one that uses the plugin; the anonymous volume of the image goes with the container.
remove_demo() {
    local of
    for of in "$name-clone" "$name@first" "$name"; do
        docker rm -f -v "$of" >/dev/null 2>&1 || :
        if docker volume inspect "$of" >/dev/null 2>&1; then docker volume rm "$of" >/dev/null; fi
        docker pgvol purge "$of" >/dev/null 2>&1 || :
    done
}
