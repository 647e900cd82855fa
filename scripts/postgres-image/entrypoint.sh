#!/usr/bin/env bash
# Entrypoint of the PostgreSQL image that build.sh makes: initialises an empty PGDATA on first start,
# runs /docker-entrypoint-initdb.d, then becomes the server.
#
# Understands what the official image documents: PGDATA, POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB,
# POSTGRES_INITDB_ARGS (these four also as NAME_FILE), POSTGRES_INITDB_WALDIR, POSTGRES_HOST_AUTH_METHOD.
# Deliberately absent: a --user that /etc/passwd does not know.
set -Eeuo pipefail

die() { printf 'entrypoint: %s\n' "$@" >&2; exit 1; }
say() { printf 'entrypoint: %s\n' "$@"; }

# setting NAME DEFAULT: NAME out of NAME, or the file that NAME_FILE names, or DEFAULT.
setting() {
    local name=$1 file_name=$1_FILE
    local value=${!name:-} file=${!file_name:-}
    [ -z "$value" ] || [ -z "$file" ] || die "$name and $file_name are both set: give one of them"
    [ -z "$file" ] || value=$(<"$file")
    printf -v "$name" '%s' "${value:-$2}"
    export "${name?}"
    unset "$file_name"
}

# Whether the arguments only ask the server for information, which needs no cluster.
asks_only() {
    local argument
    for argument; do
        case $argument in -\? | --help | -V | --version | --describe-config) return 0 ;; esac
    done
    return 1
}

# The directories, created; owned by postgres as far as we are root. Nothing else is touched.
prepare_directories() {
    local directory
    for directory in "$PGDATA" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}; do
        mkdir -p "$directory"
        chmod 0700 "$directory" 2>/dev/null || :
        [ "$(id -u)" != 0 ] || find "$directory" \! -user postgres -exec chown postgres '{}' +
    done
    mkdir -p /var/run/postgresql || :
    chmod 3775 /var/run/postgresql 2>/dev/null || :
    [ "$(id -u)" != 0 ] || chown postgres /var/run/postgresql
}

require_password() {
    if [ "${POSTGRES_HOST_AUTH_METHOD:-}" = trust ]; then
        say "WARNING: POSTGRES_HOST_AUTH_METHOD=trust: whoever reaches the port is let in without a password"
    elif [ -z "$POSTGRES_PASSWORD" ]; then
        die "the database is not initialised and there is no superuser password." \
            "set POSTGRES_PASSWORD to a value that is not empty (docker run -e POSTGRES_PASSWORD=...)," \
            "or, where every connection may be trusted, POSTGRES_HOST_AUTH_METHOD=trust"
    fi
}

initialise() {
    local -a arguments=(--username="$POSTGRES_USER")
    [ -z "${POSTGRES_INITDB_WALDIR:-}" ] || arguments+=(--waldir="$POSTGRES_INITDB_WALDIR")
    # The value is a piece of a command line: quotes in it mean what they mean in a shell.
    eval "arguments+=($POSTGRES_INITDB_ARGS)"
    initdb --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${arguments[@]}"
    local method=${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption -D "$PGDATA" "${@:2}")}
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

sql() { psql -X -v ON_ERROR_STOP=1 --no-password --username "$POSTGRES_USER" "$@"; }

# A script that cannot be executed is read instead, so that it may set variables for the next.
run_script() {
    # shellcheck disable=SC1090 # the user's file
    if [ -x "$1" ]; then "$1"; else . "$1"; fi
}

run_init_files() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        [ -e "$file" ] || continue
        say "running $file"
        case $file in
            *.sh) run_script "$file" ;;
            *.sql) sql --dbname "$POSTGRES_DB" -f "$file" ;;
            *.sql.gz) gzip -dc "$file" | sql --dbname "$POSTGRES_DB" ;;
            *.sql.xz) xz -dc "$file" | sql --dbname "$POSTGRES_DB" ;;
            *.sql.zst) zstd -dc "$file" | sql --dbname "$POSTGRES_DB" ;;
            *) say "ignored: $file" ;;
        esac
    done
}

# Runs what the user gave for a first start against a server that only the unix socket reaches.
first_start() {
    local options
    options=$(printf '%q ' "${@:2}" -c listen_addresses= -p "${PGPORT:-5432}")
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "$options" -w start
    if [ -z "$(sql --dbname postgres -tA -v db="$POSTGRES_DB" <<<"SELECT 1 FROM pg_database WHERE datname = :'db'")" ]; then
        sql --dbname postgres -v db="$POSTGRES_DB" <<<'CREATE DATABASE :"db"'
    fi
    run_init_files
    pg_ctl -D "$PGDATA" -m fast -w stop
}

main() {
    case ${1:-} in -*) set -- postgres "$@" ;; esac
    if [ "${1:-}" != postgres ] || asks_only "$@"; then exec "$@"; fi
    prepare_directories
    if [ "$(id -u)" = 0 ]; then
        exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
    fi
    if [ -s "$PGDATA/PG_VERSION" ]; then
        say "$PGDATA holds a database: initialisation skipped"
    else
        setting POSTGRES_PASSWORD ''
        setting POSTGRES_USER postgres
        setting POSTGRES_DB "$POSTGRES_USER"
        setting POSTGRES_INITDB_ARGS ''
        require_password
        ls /docker-entrypoint-initdb.d/ >/dev/null # not readable: fail before anything is made
        initialise "$@"
        PGPASSWORD=$POSTGRES_PASSWORD first_start "$@"
        say "PostgreSQL init process complete; ready for start up"
    fi
    exec "$@"
}

main "$@"
