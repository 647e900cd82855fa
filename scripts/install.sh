#!/usr/bin/env bash
# Builds both plugins and installs them on the engine that `docker` points at. Where one is there
# already it is upgraded in place, which takes about a second: containers run on, volumes, settings and
# logs stay, and what is logged meanwhile arrives. During that second no container can be started
# with the plugin, and one that is stopped waits.
#
# usage: install.sh [--restart-containers]
#   --restart-containers   where an upgrade in place cannot be (without docker-registry, or on an
#                          engine that does not reach this machine's loopback), the plugin is removed
#                          and made again: stop the containers that use it, and start them afterwards
#   PACKAGES=DIR           take what package.sh has laid out there and build nothing
set -euo pipefail
# shellcheck source=scripts/registry.sh
. "$(dirname "$0")/registry.sh"
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

restart_containers=
case ${1:-} in
    --restart-containers) restart_containers=yes ;;
    '') ;;
    *) die "usage: install.sh [--restart-containers]" ;;
esac
work=$(mktemp -d)
# The plugin that is out of service, to be put back whatever happens.
down=

finish() {
    if [ -n "$down" ]; then
        docker plugin enable --timeout 0 "$down" >/dev/null ||
            say "$down is disabled: docker plugin enable --timeout 0 $down"
    fi
    stop_registry
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

field() { docker plugin inspect -f "$2" "$1"; }

# state_source NAME: the directory of the host that the plugin's state is kept below. The engine uses
# what .Config says; after an upgrade .Settings still shows what was there before.
state_source() { field "$1" '{{range .Config.Mounts}}{{if eq .Name "state"}}{{.Source}}{{end}}{{end}}'; }

# enable NAME: without a limit on a call's time, by which every `docker logs --follow` would end.
enable() {
    docker plugin enable --timeout 0 "$1" >/dev/null ||
        die "$1 does not start; the reason is in the engine's log, a line that says plugin=$(field "$1" '{{.Id}}')"
    down=
}

# create NAME DIRECTORY: a plugin out of its package. An engine takes no content that it has already,
# be it of a plugin that somebody only looked at; it forgets that when it removes any plugin.
create() {
    local said
    said=$(docker plugin create "$1" "$2" 2>&1) && return
    [[ $said == *"content sha256:"*"already exists"* ]] || die "$said"
    mkdir -p "$work/scratch/rootfs"
    echo '{"entrypoint": ["/none"]}' >"$work/scratch/config.json"
    docker plugin create "${0##*/}-scratch" "$work/scratch" >/dev/null
    docker plugin rm "${0##*/}-scratch" >/dev/null
    said=$(docker plugin create "$1" "$2" 2>&1) || die "$said"
}

# check_formats NAME: refuses state that a newer version has written, while nothing is changed yet. The
# first line of what the plugins keep says `KIND VERSION`. On an engine elsewhere, with its files out of
# reach, the plugin refuses by itself, in each call.
check_formats() {
    local source newer
    source=$(state_source "$1" 2>/dev/null) || source=$(jq -r '.mounts[0].source' "$packages/$1/config.json")
    # shellcheck disable=SC2016 # for awk
    newer=$({ as_root chroot "$packages/$1/rootfs" "/$1" formats
        as_root find "$source/$1" -maxdepth 2 \( -name format -o -name '*.record' -o -path '*/streams/*' \) \
            -type f -exec awk 'FNR == 1 { print $1, $2, FILENAME }' {} + 2>/dev/null || :
    } | awk 'NF == 2 { known[$1] = $2 } NF > 2 && $1 in known && $2 > known[$1] { print "  " $3 ": format " $2 }')
    [ -z "$newer" ] || die "$1: a newer version has written these files, and this one cannot read them:"$'\n'"$newer"
}

# publish NAME: into the registry; sets $reference. Fails where the engine does not reach it.
publish() {
    local pushed=yes
    [ -n "${registry:-}" ] || start_registry "$work" || return
    reference=$registry/$1:latest
    create "$reference" "$packages/$1"
    docker plugin push "$reference" >"$work/push" 2>&1 || pushed=
    docker plugin rm "$reference" >/dev/null
    [ -n "$pushed" ] || say "the engine cannot push to $registry: $(tail -n 1 "$work/push")"
    [ -n "$pushed" ]
}

# upgrade NAME: in place. Forced, since every volume and every stream counts as a use: running
# containers have mounts and pipes of their own, which do not end with the plugin.
upgrade() {
    local enabled source
    enabled=$(field "$1" '{{.Enabled}}')
    source=$(state_source "$1")
    if [ "$enabled" = true ]; then
        down=$1
        docker plugin disable --force "$1" >/dev/null
    fi
    docker plugin upgrade --grant-all-permissions --skip-remote-check "$1" "$reference" >"$work/upgrade" 2>&1 ||
        die "$(<"$work/upgrade")"
    # Docker keeps settings over an upgrade, except this one.
    [ "$(state_source "$1")" = "$source" ] || docker plugin set "$1" "state.source=$source"
    if [ "$enabled" = true ]; then enable "$1"; else say "$1 was disabled and still is"; fi
    say "$1 is upgraded"
}

# users NAME: the running containers that have a volume or their log with the plugin, by name.
users() {
    local volume
    {
        docker volume ls -q -f "driver=$1:latest" -f "driver=$1" | while read -r volume; do
            docker ps -f "volume=$volume" --format '{{.Names}}'
        done
        docker ps -q | xargs -r "${docker_command[@]}" inspect -f '{{.HostConfig.LogConfig.Type}} {{.Name}}' |
            sed -nE "s,^$1(:latest)? /,,p"
    } | sort -u
}

# replace NAME: removed and made again, with its settings; volumes and journals are on the host.
replace() {
    local containers settings setting enabled
    mapfile -t containers < <(users "$1")
    if [ "${#containers[@]}" != 0 ] && [ -z "$restart_containers" ]; then
        say "$1 cannot be upgraded in place here, and these containers use it:"
        printf '  %s\n' "${containers[@]}" >&2
        die "nothing is changed; with --restart-containers they are stopped and started again"
    fi
    enabled=$(field "$1" '{{.Enabled}}')
    mapfile -t settings < <(field "$1" '{{range .Settings.Env}}{{println .}}{{end}}' | sed '/^$/d')
    settings+=("state.source=$(state_source "$1")")
    [ "${#containers[@]}" = 0 ] || docker stop "${containers[@]}" >/dev/null
    docker plugin rm --force "$1" >/dev/null
    create "$1" "$packages/$1"
    for setting in "${settings[@]}"; do
        docker plugin set "$1" "$setting" || say "$1 has no longer what was set by $setting"
    done
    [ "$enabled" != true ] || enable "$1"
    [ "${#containers[@]}" = 0 ] || docker start "${containers[@]}" >/dev/null
    say "$1 is replaced; restarted: ${containers[*]:-nothing}"
}

install_plugin() {
    if ! docker plugin inspect "$1" >/dev/null 2>&1; then
        create "$1" "$packages/$1"
        enable "$1"
        say "$1 is installed"
    elif [ "$(field "$1" '{{.Config.Description}}')" = "$(jq -r .description "$packages/$1/config.json")" ]; then
        say "$1 is up to date"
    elif publish "$1"; then
        upgrade "$1"
    else
        replace "$1"
    fi
}

need jq jq
reach_engine || die "no engine answers: $(docker version 2>&1 | tail -n 1)"
packages=${PACKAGES:-$work/packages}
[ -n "${PACKAGES:-}" ] || "$root/scripts/package.sh" "$packages"
for plugin in pgvol pglog; do check_formats "$plugin"; done
for plugin in pgvol pglog; do install_plugin "$plugin"; done
