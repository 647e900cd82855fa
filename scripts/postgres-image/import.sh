#!/usr/bin/env bash
# Makes a Docker image of the tar that build.sh wrote, with the metadata of the official image:
# environment, volume, entrypoint, port, stop signal. It goes through `docker load`, since
# `docker import --change` knows no STOPSIGNAL, and PostgreSQL takes SIGINT as its quick clean stop.
#
# usage: import.sh TAR NAME:TAG      (DOCKER="docker -H ..." chooses another client command)
set -euo pipefail

tar=$(realpath "${1:?usage: import.sh TAR NAME:TAG}")
name=${2:?usage: import.sh TAR NAME:TAG}
case ${name##*/} in *:*) ;; *) name=$name:latest ;; esac
read -r -a docker <<<"${DOCKER:-docker}"

version=$(tar -xOf "$tar" ./var/lib/dpkg/status |
    awk '/^Package: / { package = $2 } /^Version: / && package == "postgresql-17" { print $2 }')
[ -n "$version" ] || { echo "import.sh: $tar holds no postgresql-17" >&2; exit 1; }
architecture=$(tar -xOf "$tar" ./var/lib/dpkg/arch-native 2>/dev/null || dpkg --print-architecture)
digest=$(sha256sum "$tar")

archive=$(mktemp -d)
trap 'rm -rf "$archive"' EXIT
ln -s "$tar" "$archive/layer.tar"
cat >"$archive/manifest.json" <<JSON
[{"Config": "config.json", "RepoTags": ["$name"], "Layers": ["layer.tar"]}]
JSON
cat >"$archive/config.json" <<JSON
{
  "architecture": "$architecture",
  "os": "linux",
  "created": "$(date -u -r "$tar" +%FT%TZ)",
  "config": {
    "Env": [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/17/bin",
      "LANG=en_US.utf8",
      "PG_MAJOR=17",
      "PG_VERSION=$version",
      "PGDATA=/var/lib/postgresql/data"
    ],
    "Volumes": {"/var/lib/postgresql/data": {}},
    "ExposedPorts": {"5432/tcp": {}},
    "Entrypoint": ["docker-entrypoint.sh"],
    "Cmd": ["postgres"],
    "StopSignal": "SIGINT"
  },
  "rootfs": {"type": "layers", "diff_ids": ["sha256:${digest%% *}"]},
  "history": [{"created_by": "scripts/postgres-image"}]
}
JSON
tar -C "$archive" -ch manifest.json config.json layer.tar | "${docker[@]}" load --quiet
