# shellcheck shell=bash
# What the scripts share: messages, and bringing what a fresh machine lacks. To be sourced.

# A step that fails inside $(...) ends the script too.
shopt -s inherit_errexit

# What somebody may have set for themselves: `cd` would look elsewhere and print what it finds, and the
# client would ask for signatures of what is made here, and for images of another architecture.
unset CDPATH DOCKER_CONTENT_TRUST DOCKER_DEFAULT_PLATFORM

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# For all that is built for release, so that nothing is built twice: the one thing of this machine that
# would get into the programs is where cargo keeps its sources.
# shellcheck disable=SC2034 # for those who source this
release_flags=(--config "build.rustflags=['--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo']")

# Whoever listened may have gone; what is under way goes on.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2 || :; }
die() { say "$@"; exit 1; }

# answer_help ARGUMENT...: what the head of the script says, where that is asked for.
answer_help() {
    case ${1:-} in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit ;; esac
}

docker_command=(docker)

# docker ARGUMENT...: the client, as root where the engine's socket asks for that.
docker() { command "${docker_command[@]}" "$@"; }

# engine_address: of the engine that `docker` points at, by DOCKER_HOST or a context.
engine_address() { docker context inspect -f '{{.Endpoints.docker.Host}}'; }

# reach_engine: whether that engine answers; chooses how `docker` calls it. As root only where it has a
# socket on this machine, and that very one: root's `docker` may point at another engine.
reach_engine() {
    local address
    docker_command=(docker)
    docker version >/dev/null 2>&1 && return
    [ "$(id -u)" != 0 ] && command -v sudo >/dev/null || return
    address=$(engine_address 2>/dev/null) || return
    [[ $address == unix://* ]] || return
    docker_command=(sudo docker --host "$address")
    docker version >/dev/null 2>&1
}

# engine_is_here: whether the engine's files are this machine's. A socket may be that of another
# machine, handed on by ssh, or the host's within a container.
engine_is_here() {
    [[ $(engine_address) == unix://* ]] && [ "$(docker info -f '{{.Name}}')" = "$(uname -n)" ]
}

# Where the client looks for what everybody on this machine may call as `docker NAME`.
# shellcheck disable=SC2034 # for those who source this
client_plugins=/usr/local/lib/docker/cli-plugins

# as_root COMMAND...: through sudo where that is needed.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

installed_packages() { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii *//p' | sort -u; }

# install_packages PACKAGE...: says what it installs; everything comes from the system's own archive.
# What this adds to the system is noted in the file INSTALLED_LOG, if one is named.
install_packages() {
    command -v apt-get >/dev/null || die "please install $*: only Debian and Ubuntu are known here"
    local before output
    before=$(installed_packages)
    say "installing the packages: $*"
    # The lists of a fresh machine are empty or old, and one failing mirror of several does no harm.
    as_root apt-get update -qq >&2 || say "apt-get update failed, going on with the lists that are there"
    output=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" 2>&1) ||
        die "$output"$'\n'"apt-get could not install: $*"
    [ -z "${INSTALLED_LOG:-}" ] || comm -13 <(echo "$before") <(installed_packages) >>"$INSTALLED_LOG"
}

# need COMMAND PACKAGE...: installs the packages unless the command is there.
need() {
    # Administration tools are not in the PATH of every user.
    PATH=$PATH:/usr/sbin:/sbin
    command -v "$1" >/dev/null || install_packages "${@:2}"
}

# need_cargo: a linker, and a cargo that is new enough for the workspace.
need_cargo() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    PATH=$PATH:$HOME/.cargo/bin
    need cc gcc libc6-dev
    # For crates.io.
    [ -e /etc/ssl/certs/ca-certificates.crt ] || install_packages ca-certificates
    have=$(cd "$root" && cargo --version 2>/dev/null | cut -d' ' -f2) || have=
    [ "$(printf '%s\n' "$wanted" "${have:-0}" | sort -V | head -n1)" != "$wanted" ] || return 0
    if ! command -v rustup >/dev/null && [ -z "$(apt-cache search --names-only '^rustup$' 2>/dev/null)" ]; then
        die "Rust $wanted or later is needed (found: ${have:-none}), and this system has no package of rustup." \
            $'Install it from https://rustup.rs, then run this again:\n' \
            " curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
    fi
    need rustup rustup ca-certificates
    say "installing Rust $wanted through rustup"
    rustup toolchain install "$wanted" --profile minimal >&2
    export RUSTUP_TOOLCHAIN=$wanted
}
