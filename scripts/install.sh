#!/usr/bin/env bash
# Builds both plugins and installs them on the engine that `docker` points at. Where one is there
# already it is upgraded in place, which takes about a second: containers run on, volumes, settings and
# logs stay, and what is logged meanwhile arrives. During that second no container can be started
# with the plugin, and one that is stopped waits. A version that does not start is taken back.
# Where the engine is of this machine, `docker pgvol` and `docker pglog` are installed too.
#
# usage: install.sh [--restart-containers]
#   --restart-containers   where an upgrade in place cannot be (without docker-registry, or on an
#                          engine that does not reach this machine's loopback), the plugin is removed
#                          and made again: stop the containers that use it, and start them afterwards
#   REGISTRY=HOST:PORT     upgrade through this registry, which the engine reaches, instead of one on this
#                          machine's loopback for as long as this runs
#   PACKAGES=DIR           take what package.sh has laid out there and build nothing
set -euo pipefail
# shellcheck source=scripts/upgrade.sh
. "$(dirname "$0")/upgrade.sh"

answer_help "$@"
restart_containers=
case $* in
    --restart-containers) restart_containers=yes ;;
    '') ;;
    *) die "usage: install.sh [--restart-containers]" ;;
esac
work=$(mktemp -d)
registry=${REGISTRY:-}
new='' # a plugin that is being installed for the first time

# Whatever happens, what was taken out of service is put back; also where nobody reads any more what is
# said. An upgrade that was cut off has reset where the plugin's state is.
finish() {
    local lost=
    set +e
    trap '' INT TERM HUP
    if [ -n "$down" ] && ! serve "$down" "$down_source" "$down_enabled"; then
        lost=$down
        say "$down is disabled; with its state in another place it would have no volumes and no streams:" \
            "docker plugin set $down state.source=$down_source && docker plugin enable --timeout 0 $down;" \
            "$(why_not "$down")"
    fi
    # In a shell of its own, which a failure ends alone.
    if [ -n "$gone" ] && ! (put_back); then
        lost=$gone
        say "$gone could not be made again; what it keeps is in $gone_source/$gone, and what was set:" \
            "${gone_settings[*]} state.source=$gone_source"
    fi
    [ "${#stopped[@]}" = 0 ] || docker start "${stopped[@]}" >/dev/null
    [ -z "$new" ] || ! installed "$new" || ! again docker plugin rm --force "$new" >/dev/null || say "$new is not installed"
    [ -z "$published" ] || docker plugin rm --force "$published" >/dev/null 2>&1
    # What a copy was made by, if it was cut off.
    [ ! -e "$work/before" ] || docker rm "${0##*/}-copy" >/dev/null 2>&1
    [ ! -e "$work/before" ] || docker image rm "${0##*/}-copy" >/dev/null 2>&1
    stop_registry
    if [ -e "$work/before/${lost:-none}" ]; then
        say "the version before is in $work/before/$lost, for docker plugin create $lost once the other is removed"
        find "$work" -mindepth 1 -maxdepth 1 ! -name before -exec rm -rf {} +
    else
        rm -rf "$work"
    fi
}
trap finish EXIT
trap 'exit 1' INT TERM HUP
trap '' PIPE

# newer_files NAME PACKAGE: what of its state a newer version has written than that package is of. The
# first line of what the plugins keep says `KIND VERSION`; what is rewritten in place has two places for
# that, of which one may be of zeros. Nothing is read that containers can write, nor more than need be.
newer_files() {
    local known source
    known=$(as_root chroot "$2/rootfs" "/$1" formats) || return
    source=$(state_source "$1" 2>/dev/null) || source=$(jq -r '.mounts[0].source' "$2/config.json")
    source+=/$1
    # shellcheck disable=SC2016 # for awk
    { echo "$known"
        as_root find "$source"/{format,catalog,mounts,streams,sinks} -maxdepth 1 -type f ! -name '*.cursor' \
            -exec awk 'FNR == 1 { print $1, $2, FILENAME; nextfile }' {} + 2>/dev/null || :
        as_root find "$source"/{sinks,journals} -maxdepth 2 \( -name '*.cursor' -o -name gone \) \
            -type f -exec grep -aoHE "$1-(cursor|gone) [0-9]+" {} + 2>/dev/null |
            sed -E 's/^(.*):([^ :]+ [0-9]+)$/\2 \1/' || :
    } | awk 'NF == 2 { known[$1] = $2 } NF > 2 && $1 in known && $2 > known[$1] { print "  " $3 ": format " $2 }'
}

# check_formats NAME: refuses such state, while nothing is changed yet.
check_formats() {
    local newer
    newer=$(newer_files "$1" "$packages/$1") ||
        die "the $1 of this package does not run on this machine; nothing is changed"
    [ -z "$newer" ] || die "$1: a newer version has written these files, and this one cannot read them:"$'\n'"$newer"
}

# check_names NAME: that the engine has no such plugin under another name, with the same state. It is known
# by its socket, as `docker NAME` knows it.
check_names() {
    local other
    ! installed "$1" || return 0
    other=$(docker plugin ls -q --no-trunc | xargs -r "${docker_command[@]}" plugin inspect \
        -f '{{.Config.Interface.Socket}} {{range .Config.Mounts}}{{.Source}}{{end}} {{.Name}}' |
        sed -n "s,^$1\.sock $(jq -r '.mounts[0].source' "$packages/$1/config.json") ,,p")
    [ -z "$other" ] || die "the engine has $1 as $other, and volumes and containers know it by that name: upgrade" \
        "it by docker plugin upgrade; nothing is changed"
}

# alone: one run after the other on this machine. Two at once would take a state directory that the other
# has yet to set again for the plugin's own. All of them can read their docker command.
alone() {
    exec 8<"$(type -P docker)"
    flock -n 8 || { say "waiting for another run of install.sh"; flock 8; }
}

install_plugin() {
    if ! installed "$1"; then
        new=$1
        create "$1" "$packages/$1"
        if ! works "$1"; then
            say "$1 $why"
            again docker plugin rm --force "$1" >/dev/null
            new=
            die "$1 is not installed"
        fi
        new=
        say "$1 is installed"
    elif [ "$(field "$1" '{{.Config.Description}}')" = "$(jq -r .description "$packages/$1/config.json")" ]; then
        say "$1 is up to date$(disabled "$1")"
    elif publish "$packages/$1" latest; then
        upgrade "$1"
    else
        replace "$1"
    fi
}

# install_client NAME: `docker NAME`, for everybody on this machine.
install_client() {
    local file=$client_plugins/docker-$1
    ! cmp -s "$packages/cli-plugins/docker-$1" "$file" || return 0
    as_root install -D -m 0755 "$packages/cli-plugins/docker-$1" "$file"
    say "docker $1 is installed as $file"
}

need jq jq
reach_engine || die "no engine answers: $(docker version 2>&1 | tail -n 1)"
[[ $(docker info -f '{{.SecurityOptions}}') != *name=rootless* ]] ||
    die "the engine is a rootless one, which has neither loop devices nor mounts to give: this needs one that root runs"
packages=${PACKAGES:-$work/packages}
[ -z "${PACKAGES:-}" ] || [ -d "$packages/pgvol/rootfs" ] || die "PACKAGES=$packages: nothing that package.sh has laid out is there"
[ -n "${PACKAGES:-}" ] || ARCH=$(docker version -f '{{.Server.Arch}}') "$root/scripts/package.sh" "$packages"
local_engine=
if engine_is_here; then
    local_engine=yes
    as_root true || die "this needs root, or sudo: to look at the plugins' state and to install docker pgvol and docker pglog"
else
    say "the engine is on another machine: whether its state is of a newer version each plugin finds out by" \
        "itself, and docker pgvol and docker pglog, which work beside the engine, are not installed here"
fi
alone
for plugin in pgvol pglog; do check_names "$plugin"; done
for plugin in pgvol pglog; do [ -z "$local_engine" ] || check_formats "$plugin"; done
for plugin in pgvol pglog; do install_plugin "$plugin"; done
for plugin in pgvol pglog; do [ -z "$local_engine" ] || install_client "$plugin"; done
