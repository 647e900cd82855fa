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

read -r major version <<<"$(tar -xOf "$tar" ./var/lib/dpkg/status |
    awk '/^Package: / { package = $2 }
        /^Version: / && package ~ /^postgresql-[0-9]+$/ { sub("postgresql-", "", package); print package, $2 }')"
[ -n "$version" ] || { echo "import.sh: $tar holds no PostgreSQL" >&2; exit 1; }
# From 18 on the official image has the parent for its volume.
volume=/var/lib/postgresql data=/var/lib/postgresql/$major/docker
[ "$major" -ge 18 ] || { volume=$volume/data; data=$volume; }
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
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/$major/bin",
      "LANG=en_US.utf8",
      "PG_MAJOR=$major",
      "PG_VERSION=$version",
      "PGDATA=$data"
    ],
    "Volumes": {"$volume": {}},
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
