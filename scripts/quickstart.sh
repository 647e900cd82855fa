#!/usr/bin/env bash
# Shows both plugins at work on a machine where nothing need be installed: brings an engine if none
# answers, builds pgvol and pglog, installs them by install.sh, starts PostgreSQL on a pgvol volume with
# its log in pglog, loads data, takes a snapshot under load, starts a second server on a clone of it, restarts
# the first, and checks that all is there. It can be run again at any time.
#
# usage: quickstart.sh            do all that
#        quickstart.sh --clean    remove everything that it made and installed
set -euo pipefail
# shellcheck source=scripts/demo.sh
. "$(dirname "$0")/demo.sh"

# step TITLE COMMAND...: runs the command and says how long it took.
step() {
    local began=$EPOCHREALTIME
    printf '\n== %s\n' "$1"
    "${@:2}"
    awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "   (%.1f s)\n", b - a }'
}

clean() {
    if reach_engine && engine_is_here; then
        remove_demo
        clean_plugin pgvol
        clean_plugin pglog
        remove_image
    fi
    remove_engine
    say "what cargo built stays in target/: cargo clean removes it"
}

answer_help "$@"
mkdir -p "$state"
touch "$state/containers"
case ${1:-} in
    --clean)
        step "Removing what quickstart made" clean
        exit
        ;;
    '') ;;
    *) die "usage: quickstart.sh [--clean]" ;;
esac

step "The Docker engine" ensure_engine
remove_demo
step "The PostgreSQL image" bring_image
step "Building both plugins" "$root/scripts/package.sh" "$state/package"
step "Installing pgvol and pglog" install_plugins
step "A volume with a tablespace, and PostgreSQL on it" start_postgres
step "Loading data with pgbench" load_data
step "Status of the volume: docker volume inspect" show_status
step "The end of its log: docker logs" show_logs
step "A snapshot under load, and a second server on its clone" clone_under_load
step "Restarting the server" restart_and_compare
cat <<SUMMARY

All of it works. To go on:
  ${docker_command[*]} exec -it $name psql -U postgres
  ${docker_command[*]} volume inspect $name
  ${docker_command[*]} logs --follow --tail 10 $name
  $0 --clean
SUMMARY
