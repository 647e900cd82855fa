# shellcheck shell=bash
# A registry on loopback for as long as install.sh runs: Docker upgrades a plugin out of a registry
# and out of nothing else. To be sourced.

# start_registry DIRECTORY: on a free port, with what it stores in DIRECTORY. Sets $registry, its
# address, and $registry_pid. Fails where there is no registry to be had or it does not start.
start_registry() {
    local program seconds
    program=$(find_registry "$1") || return
    mkdir "$1/storage"
    cat >"$1/config.yml" <<YAML
version: 0.1
storage: {filesystem: {rootdirectory: "$1/storage"}}
http: {addr: "127.0.0.1:0"}
YAML
    "$program" serve "$1/config.yml" >"$1/log" 2>&1 </dev/null 8<&- &
    registry_pid=$!
    # The kernel chooses the port, so that nobody else can have it.
    for ((seconds = 0; seconds < 100; seconds++)); do
        registry=$(sed -n 's/.*msg="listening on \(127\.0\.0\.1:[0-9]*\)".*/\1/p' "$1/log")
        [ -z "$registry" ] || return 0
        kill -0 "$registry_pid" 2>/dev/null || break
        sleep 0.1
    done
    say "the registry does not start: $(tail -n 1 "$1/log")"
    return 1
}

# find_registry DIRECTORY: prints the program. Where it is not installed, out of Debian's package,
# which is unpacked below DIRECTORY: installed, it would start a registry on all addresses.
find_registry() {
    if command -v docker-registry; then return; fi
    command -v apt-get >/dev/null || return
    say "fetching docker-registry, which stays in a temporary directory"
    (cd "$1" && apt-get download -qq -o APT::Sandbox::User=root docker-registry >&2 && dpkg -x docker-registry_*.deb unpacked) || return
    echo "$1/unpacked/usr/bin/docker-registry"
}

# stop_registry: the one that start_registry started, if it did.
stop_registry() {
    [ -n "${registry_pid:-}" ] || return 0
    kill "$registry_pid" 2>/dev/null || :
    wait "$registry_pid" 2>/dev/null || :
}
