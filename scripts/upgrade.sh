# shellcheck shell=bash disable=SC2034
# Another version in the place of an installed plugin: within it, or by removing and making it again;
# and the one before back where the new one does not start. To be sourced by install.sh, which sets
# $packages, $work, $registry, $local_engine and $restart_containers, and at its end serves $down, puts
# back $gone, starts ${stopped[@]} and removes $published.

# shellcheck source=scripts/registry.sh
. "${BASH_SOURCE[0]%/*}/registry.sh"
# shellcheck source=scripts/plugin.sh
. "${BASH_SOURCE[0]%/*}/plugin.sh"

# Who is out of service meanwhile: a plugin, with the directory of its state and whether it was enabled;
# one that is being removed and made again, with these and its settings; and containers.
down='' down_source='' down_enabled='' gone='' gone_source='' gone_enabled='' gone_settings=() stopped=()
# What an engine has of a package only until it is in the registry.
published=''

# keep NAME: a copy of the installed version below $work/before, laid out as package.sh does.
keep() {
    local before=${work:?}/before/$1 rootfs said
    mkdir -p "$before/rootfs"
    rootfs=$(docker info -f '{{.DockerRootDir}}')/plugins/$(field "$1" '{{.Id}}')/rootfs
    said=$({ host_directory "$rootfs" | tar -x -C "$before/rootfs"; } 2>&1) ||
        die "$1: no copy can be made of the version that is here, so nothing is changed: ${said%%$'\n'*}"
    field "$1" '{{json .Config}}' >"$before/config.json"
}

# publish DIRECTORY TAG: a package into the registry; sets $reference. Fails where the engine does not
# reach it.
publish() {
    local pushed=yes
    [ -n "$registry" ] || start_registry "$work" || return
    reference=$registry/$(basename "$1"):$2
    published=$reference
    create "$reference" "$1"
    docker plugin push "$reference" >"$work/push" 2>&1 || pushed=
    docker plugin rm "$reference" >/dev/null
    published=
    [ -n "$pushed" ] || say "the engine cannot push to $registry: $(tail -n 1 "$work/push")"
    [ -n "$pushed" ]
}

# switch NAME SOURCE: to the content of $reference. Docker keeps settings, except the state's source.
switch() {
    docker plugin upgrade --grant-all-permissions --skip-remote-check "$1" "$reference" >/dev/null && set_source "$@"
}

# serve NAME SOURCE ENABLED: with its state in that directory, and enabled if ENABLED is true; never with
# its state elsewhere, where it would have no volumes and no streams.
serve() {
    set_source "$1" "$2" >/dev/null || return 1
    [ "$3" != true ] || [ "$(field "$1" '{{.Enabled}}')" = true ] || enable "$1"
}

# unreadable NAME: what the version that did not start has written meanwhile, and the one before cannot read.
unreadable() {
    local newer
    [ -z "$local_engine" ] || newer=$(newer_files "$1" "$work/before/$1") || :
    [ -z "${newer:-}" ] || echo ", but the new one has written these files, which it cannot read:"$'\n'"$newer"
}

# upgrade NAME: in place. Forced, since every volume and every stream counts as a use: running
# containers have mounts and pipes of their own, which do not end with the plugin.
upgrade() {
    local enabled source
    enabled=$(field "$1" '{{.Enabled}}')
    source=$(state_source "$1")
    keep "$1"
    down=$1 down_source=$source down_enabled=$enabled
    [ "$enabled" != true ] || docker plugin disable --force "$1" >/dev/null
    switch "$1" "$source"
    if [ "$enabled" != true ]; then
        say "$1 was disabled and still is"
    elif ! works "$1"; then
        say "the new $1 $why"
        publish "$work/before/$1" before
        again switch "$1" "$source"
        again enable "$1"
        down=
        die "$1 is again what it was before$(unreadable "$1")"
    fi
    down=
    say "$1 is upgraded"
}

# make DIRECTORY: $gone again, out of that package, with those of its settings that it has.
make() {
    local setting
    create "$gone" "$1"
    for setting in "${gone_settings[@]}"; do
        docker plugin set "$gone" "$setting" || say "$gone has no longer what was set by $setting"
    done
    set_source "$gone" "$gone_source" >/dev/null
}

# put_back: $gone in the version that replace has kept, unless it is at work.
put_back() {
    if installed "$gone"; then
        [ "$(field "$gone" '{{.Enabled}}')" != true ] || return 0
        again docker plugin rm --force "$gone" >/dev/null || return 1
    fi
    make "$work/before/$gone" || return 1
    [ "$gone_enabled" != true ] || again enable "$gone"
}

# replace NAME: removed and made again, with its settings; volumes and journals are on the host.
replace() {
    mapfile -t stopped < <(users "$1")
    if [ "${#stopped[@]}" != 0 ] && [ -z "$restart_containers" ]; then
        say "$1 cannot be upgraded in place here, and these containers use it:"
        printf '  %s\n' "${stopped[@]}" >&2
        stopped=()
        die "$1 stays as it is; with --restart-containers they are stopped and started again"
    fi
    local fleeting
    mapfile -t fleeting < <(fleeting "${stopped[@]}")
    if [ "${#fleeting[@]}" != 0 ]; then
        say "$1 cannot be upgraded in place here, and these containers, which use it, would not come back: Docker" \
            "removes those of --rm when they stop, and swarm puts others in the place of its tasks"
        printf '  %s\n' "${fleeting[@]}" >&2
        stopped=()
        die "$1 stays as it is; end these containers yourself, or scale their services to none"
    fi
    gone_enabled=$(field "$1" '{{.Enabled}}')
    mapfile -t gone_settings < <(field "$1" '{{range .Settings.Env}}{{println .}}{{end}}' | sed '/^$/d')
    gone_source=$(state_source "$1")
    keep "$1"
    [ "${#stopped[@]}" = 0 ] || docker stop "${stopped[@]}" >/dev/null
    gone=$1
    docker plugin rm --force "$1" >/dev/null
    make "${packages:?}/$1"
    if [ "$gone_enabled" = true ] && ! works "$1"; then
        say "the new $1 $why"
        put_back
        gone=
        die "$1 is again what it was before; restarted: ${stopped[*]:-nothing}$(unreadable "$1")"
    fi
    gone=
    [ "${#stopped[@]}" = 0 ] || docker start "${stopped[@]}" >/dev/null
    say "$1 is replaced; restarted: ${stopped[*]:-nothing}"
    stopped=()
}
