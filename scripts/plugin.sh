# shellcheck shell=bash
# A plugin on the engine: made, enabled and looked at. To be sourced by install.sh, which sets $work.

# shellcheck source=scripts/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

# field NAME TEMPLATE: of `docker plugin inspect`.
field() { docker plugin inspect -f "$2" "$1"; }

installed() { docker plugin inspect "$1" >/dev/null 2>&1; }

# state_source NAME: the directory of the host that the plugin's state is kept below. The engine uses
# what .Config says; after an upgrade .Settings still shows what was there before.
state_source() { field "$1" '{{range .Config.Mounts}}{{if eq .Name "state"}}{{.Source}}{{end}}{{end}}'; }

# disabled NAME: that it is, in words, and where Docker still shows its state to be, if that is another
# place than where it would look: an upgrade that was killed has reset that.
disabled() {
    local source former
    [ "$(field "$1" '{{.Enabled}}')" != true ] || return 0
    source=$(state_source "$1")
    former=$(field "$1" '{{range .Settings.Mounts}}{{if eq .Name "state"}}{{.Source}}{{end}}{{end}}')
    echo ", and disabled$([ "$former" = "$source" ] || echo "; it would look for its state in $source, and Docker" \
        "also shows $former: if that is the right one, docker plugin set $1 state.source=$former first")"
}

# set_source NAME DIRECTORY
set_source() { [ "$(state_source "$1")" = "$2" ] || docker plugin set "$1" "state.source=$2"; }

# enable NAME: without a limit on a call's time, by which every `docker logs --follow` would end.
# Fails where its process ends at once or does not listen, which takes the engine 13 s to find.
enable() { docker plugin enable --timeout 0 "$1" >/dev/null; }

# works NAME: enables it; whether it starts, and on an engine of this machine can use its state. If not,
# $why says why, and it is disabled.
works() {
    local seconds error=''
    why="does not start; $(why_not "$1")"
    enable "$1" || return
    [ -n "${local_engine:-}" ] || return 0
    for ((seconds = 0; seconds < 5; seconds++)); do
        error=$(state_error "$1") || return 0
        [ -n "$error" ] || return 0
        sleep 1
    done
    # shellcheck disable=SC2034 # for those who source this
    why="cannot use its state: $error"
    docker plugin disable --force "$1" >/dev/null
    return 1
}

# state_error NAME: what it says about its state, if that is wrong, by its client of the package.
state_error() {
    as_root env DOCKER_HOST="$(engine_address)" "${packages:?}/cli-plugins/docker-$1" status --plugin "$1" --json 2>/dev/null |
        jq -r '.error // empty'
}

# why_not NAME: where to read it.
why_not() { echo "the reason is in the engine's log, in lines with plugin=$(field "$1" '{{.Id}}')"; }

# again COMMAND...: until it succeeds, for half a minute: an engine goes on for some seconds with a
# plugin that did not start, and refuses everything about it meanwhile.
again() {
    local seconds
    for ((seconds = 0; seconds < 30; seconds++)); do
        # With its own status: in a trap it would be that of what was before.
        "$@" 2>"${work:?}/again" && return 0
        sleep 1
    done
    cat "$work/again" >&2
    return 1
}

# create NAME DIRECTORY: a plugin out of its package. An engine takes no content that it has already,
# be it of a plugin that somebody only looked at; it forgets that when it removes any plugin.
create() {
    local said
    said=$(docker plugin create "$1" "$2" 2>&1) && return
    [[ $said == *"content sha256:"*"already exists"* ]] || die "$said"
    mkdir -p "$work/scratch/rootfs"
    echo '{"entrypoint": ["/none"]}' >"$work/scratch/config.json"
    docker plugin rm "${0##*/}-scratch" >/dev/null 2>&1 || : # of a run that was killed
    docker plugin create "${0##*/}-scratch" "$work/scratch" >/dev/null
    docker plugin rm "${0##*/}-scratch" >/dev/null
    said=$(docker plugin create "$1" "$2" 2>&1) && return
    [[ $said != *"content sha256:"*"already exists"* ]] || said+="; another plugin of this engine is the same: docker plugin ls"
    die "$said"
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

# fleeting CONTAINER...: those that would not be there any more, or beside others, when they are stopped
# and started.
fleeting() {
    [ $# != 0 ] || return 0
    docker inspect -f '{{.Name}} {{.HostConfig.AutoRemove}} {{index .Config.Labels "com.docker.swarm.task.id"}}' "$@" |
        awk '$2 == "true" || NF > 2 { print substr($1, 2) }'
}

# host_directory PATH: a tar of what is in a directory of the engine's host, wherever that is: the
# engine copies it out of a container that has the directory and is never started.
host_directory() {
    local name=${0##*/}-copy status=0
    docker rm "$name" >/dev/null 2>&1 || : # of a run that was killed
    tar -c -T /dev/null | docker import - "$name" >/dev/null
    docker create --name "$name" --mount "type=bind,src=$1,dst=/from,readonly" "$name" none >/dev/null || status=$?
    [ "$status" != 0 ] || docker cp "$name:/from/." - || status=$?
    docker rm "$name" >/dev/null 2>&1 || :
    docker image rm "$name" >/dev/null
    return "$status"
}
