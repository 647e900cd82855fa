# shellcheck shell=bash
# Finding, bringing and removing the Docker engine that quickstart.sh runs on. To be sourced.
# What was made is noted below $state, so that --clean takes away that and nothing else.

# shellcheck source=scripts/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

state=${XDG_STATE_HOME:-$HOME/.local/state}/pgvol-quickstart
export INSTALLED_LOG=$state/installed-packages
own_address=unix:///var/run/docker.sock # of an engine that is brought

# ensure_engine: uses the engine that answers, or else installs and starts one.
ensure_engine() {
    local address
    if ! reach_engine; then
        address=$(engine_address 2>/dev/null) || address=$own_address # without a client yet
        [ "$address" = "$own_address" ] || die "no engine answers at $address"
        [ -e /var/lib/docker ] || touch "$state/engine-data"
        if ! PATH=$PATH:/usr/sbin command -v dockerd >/dev/null; then
            # Newer releases have the client in a package of its own. Without AppArmor's tools no
            # container starts on a kernel that has AppArmor.
            mapfile -t client < <(apt-cache search --names-only '^docker-cli$' | cut -d' ' -f1)
            # And iproute2 is for the end: dockerd leaves its bridge.
            install_packages docker.io "${client[@]}" iptables iproute2 apparmor ca-certificates
        fi
        start_engine
    fi
    engine_is_here || die "the engine is on another machine: install.sh installs the plugins there"
    say "engine $(docker version --format '{{.Server.Version}}'), client $(docker version --format '{{.Client.Version}}')"
}

# start_engine: by systemd, or without it in the background with its process id noted.
start_engine() {
    local seconds
    if [ -d /run/systemd/system ]; then
        as_root systemctl enable --quiet --now docker
    else
        say "no systemd here: starting dockerd in the background, its log is $state/dockerd.log"
        # Nothing of it may hold this script's output open: a pipe would never end.
        # shellcheck disable=SC2016 # for the inner shell
        as_root setsid --fork bash -c 'PATH=$PATH:/usr/sbin:/sbin
            echo $$ >"$0/dockerd.pid"
            exec dockerd >"$0/dockerd.log" 2>&1' "$state" </dev/null >/dev/null 2>&1
    fi
    for ((seconds = 0; seconds < 60; seconds++)); do
        reach_engine && return
        sleep 1
    done
    tail -n 5 "$state/dockerd.log" >&2 2>/dev/null || :
    die "the engine does not answer after 60 s; its last words are above or in: journalctl -u docker"
}

# has_brought_engine: whether quickstart has installed the engine or started it.
has_brought_engine() {
    [ -e "$state/engine-data" ] || [ -e "$state/dockerd.pid" ] || grep -qsx docker.io "$INSTALLED_LOG"
}

# remove_engine: the engine and the packages that quickstart brought, unless somebody uses them by now.
remove_engine() {
    if ! reach_engine || [ "$(engine_address)" != "$own_address" ]; then
        # Whose they are only the engine itself could say.
        ! has_brought_engine || [ -z "$(as_root find /var/lib/docker/{containers,volumes} -mindepth 1 -maxdepth 1 -type d 2>/dev/null)" ] ||
            die "the engine at $own_address does not answer or another one is meant, and /var/lib/docker has" \
                "containers or volumes: it stays; start the engine, or unset DOCKER_HOST, and run this again"
    elif [ -n "$(docker ps -aq; docker volume ls -q; docker image ls -q; docker plugin ls -q)" ]; then
        if [ -e "$state/dockerd.pid" ] || [ -s "$INSTALLED_LOG" ]; then
            say "the engine holds things that quickstart did not make: it stays, and so do the packages"
        fi
        return
    fi
    stop_engine
    remove_packages
    [ ! -e "$state/engine-data" ] || as_root rm -rf /var/lib/docker /var/lib/containerd
    as_root rm -rf "$state"
}

# stop_engine: the one that start_engine put into the background.
stop_engine() {
    local pid
    pid=$(cat "$state/dockerd.pid" 2>/dev/null) || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] || return 0
    say "stopping dockerd"
    # The shell's own kill: the program of that name is in a package that need not be there.
    as_root bash -c "kill $pid"
    timeout 60 bash -c "while [ -e /proc/$pid ]; do sleep 0.2; done" || die "dockerd ($pid) does not end"
    # What dockerd itself leaves in the network.
    as_root ip link delete docker0 2>/dev/null || :
    as_root sh -c 'iptables-save | grep -v -e DOCKER -e docker0 | iptables-restore' || :
}

# remove_packages: what install_packages noted, unless other packages have come to need it.
remove_packages() {
    local packages others output
    [ -s "$INSTALLED_LOG" ] || return 0
    mapfile -t packages < <(sort -u "$INSTALLED_LOG")
    others=$(apt-get -s purge "${packages[@]}" | awk '/^(Purg|Remv)/ { print $2 }' | sort -u |
        comm -23 - <(printf '%s\n' "${packages[@]}"))
    if [ -n "$others" ]; then
        say "packages stay, since these need them: ${others//$'\n'/ }; quickstart installed: ${packages[*]}"
    else
        say "removing the packages: ${packages[*]}"
        output=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get purge -qq -y "${packages[@]}" 2>&1) || die "$output"
    fi
}
